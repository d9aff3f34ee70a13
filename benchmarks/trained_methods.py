"""Fits the methods of a config in this process, and compares each arm with the baseline on the same noise.

``python -m benchmarks.trained_methods configs/trained_methods.yaml --images 12``. An audit of the same config measures
with intervals; this prints in minutes what a fit costs and roughly what it does. Flips are images whose other attribute
changed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from audit.calibration.world import World
from audit.config.file import read_config
from audit.config.slices import MeasurementRequest
from audit.mitigate.assignment import assigned_groups
from audit.mitigate.method import Batch, Intervene, TrainedFit
from audit.mitigate.registry import METHODS
from audit.mitigate.tools import FitTools, fit_tools
from audit.mitigate.training import StoredCheckpoint
from audit.models.generator import DiffusionGenerator, load_generator
from audit.perception.judges.registry import load_judge
from audit.planning.fits import TENSORS_FILE, FitRequest, cost_of_fit, fit_name, fit_requests, fit_settings
from audit.planning.plan import prompts_of
from audit.records.work import ImageKey, Prompt
from audit.storage.files import storage_of


@dataclass(frozen=True)
class Bench:
    """What every arm is measured with."""

    request: MeasurementRequest
    prompts: tuple[Prompt, ...]
    tools: FitTools
    images: int
    fits: Path

    def fit(self, request: FitRequest) -> Path:
        """Fit a method unless that is done, and print what it cost."""
        settings = fit_settings(request, self.prompts)
        place = self.fits / fit_name(self.tools.generator.fingerprint, settings)
        if (place / TENSORS_FILE).exists():
            return place
        place.mkdir(parents=True, exist_ok=True)
        fit, started, report = METHODS[request.mitigation.method].fit, time.monotonic(), {}
        if isinstance(fit, TrainedFit):
            examples = [(prompt, fit.examples(self.tools, request, prompt)) for prompt in self.prompts]
            trained = fit.train(self.tools, request, examples, StoredCheckpoint(storage_of(place), "state"))
            tensors, report = trained.tensors, dict(trained.report)
        else:
            parts = [fit.part(self.tools.generator, request, prompt) for prompt in self.prompts]
            tensors = fit.join(request, {name: sum(part[name] for part in parts) for name in parts[0]})
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place / TENSORS_FILE)
        cost = cost_of_fit(request, self.prompts) | {"seconds": round(time.monotonic() - started)} | report
        print(f"fit of {request.mitigation.name}: " + ", ".join(f"{k} {v:.4g}" for k, v in cost.items()), flush=True)
        return place


def rows(bench: Bench, judge, mitigations, ready: dict[str, Intervene]):
    """Yield a row per arm; discrepancy is the root of the mean square over prompts, from the judge's labels."""
    groups = bench.request.attributes
    baseline = {}
    for prompt in bench.prompts:
        keys = [ImageKey(prompt.id, i) for i in range(bench.images)]
        pictures = bench.tools.generator.generate(prompt, [key.seed(bench.request.seed) for key in keys])
        seen = judge.perceive(pictures, prompt.occupation)
        baseline[prompt.id] = (keys, seen, bench.tools.clip().images(pictures))
    for one in (None, *mitigations):
        attribute = mitigations[0].attribute if one is None else one.attribute
        own, others = groups[attribute], [name for name in groups if name != attribute]
        left, close, shown, flips = [], [], [], {name: [] for name in others}
        for prompt in bench.prompts:
            keys, before, embedded = baseline[prompt.id]
            assigned = assigned_groups(one or mitigations[0], own, keys, bench.request.seed)
            seen, after = before, embedded
            if one is not None:
                arm = ready[one.name](Batch(prompt, assigned, bench.tools.generator.steps, ""))
                seeds = [key.seed(bench.request.seed) for key in keys]
                pictures = bench.tools.generator.generate(prompt, seeds, arm)
                seen, after = judge.perceive(pictures, prompt.occupation), bench.tools.clip().images(pictures)
            label = seen.probabilities[attribute].argmax(1)
            shares = np.bincount(label, minlength=len(own)) / len(label)
            left.append(float(np.linalg.norm(shares - 1 / len(own))))
            shown.append(float(np.mean([own[place] == group for place, group in zip(label, assigned, strict=True)])))
            close.append(float((embedded * after).sum(1).mean()))
            for name in others:
                changed = seen.probabilities[name].argmax(1) != before.probabilities[name].argmax(1)
                flips[name].append(float(changed.mean()))
        cells = [float(np.sqrt(np.mean(np.square(left)))), max(left), np.mean(shown), np.mean(close)]
        cells += [np.mean(values) for values in flips.values()]
        yield f"| {'none' if one is None else one.name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=12, help="per prompt and arm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fits", type=Path, default=None, help="directory that keeps the fits")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = read_config(arguments.config)
    request = MeasurementRequest.of(config)
    generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
    if not isinstance(generator, DiffusionGenerator):
        raise SystemExit("expected a diffusion model; see `model` of the config")
    prompts = prompts_of(config.prompts, World.bundled().occupations)
    fits = arguments.fits or Path(tempfile.mkdtemp())
    bench = Bench(request, prompts, fit_tools(generator, request, request.attributes, None), arguments.images, fits)
    places = {one.mitigation.name: bench.fit(one) for one in fit_requests(request)}
    ready = {one.name: METHODS[one.method].ready(one, None, places.get(one.name)) for one in request.sections}
    judge = load_judge(request.judge, request.model, request.attributes)
    others = [name for name in request.attributes if name != request.sections[0].attribute]
    print(f"\n{len(prompts)} prompts x {arguments.images} images\n")
    print(
        "| arm | discrepancy | worst | assigned group shown | CLIP-I | "
        + " | ".join(f"{o} flips" for o in others)
        + " |"
    )
    print("| --- " * (5 + len(others)) + "|")
    for line in rows(bench, judge, request.sections, ready):
        print(line, flush=True)


if __name__ == "__main__":
    main()
