"""Compares the mitigations of a config side by side in one process: discrepancy, worst prompt, CLIP-I, flipped images.

Methods are fitted as the workers do it, and every arm has the noise of the audit. *flips* are the images whose
perceived group of an attribute differs from that of the unedited image.
``python -m benchmarks.methods configs/rivals.yaml``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from audit.calibration.bundle import BUNDLED
from audit.config.file import read_config
from audit.config.mitigations.registry import MitigationConfig
from audit.config.slices import MeasurementRequest
from audit.dissect.lens import Lens
from audit.mitigate.assignment import assigned_groups
from audit.mitigate.method import Batch, Intervene, in_rounds
from audit.mitigate.registry import METHODS
from audit.mitigate.tools import FitTools
from audit.models.generator import DiffusionGenerator, load_generator
from audit.models.intervention import Intervention
from audit.perception.embedders.clip import ClipEmbedder, load_clip
from audit.perception.judges.interface import Judge
from audit.perception.judges.perceived import NO_GROUP, Perceived
from audit.perception.judges.registry import load_judge
from audit.planning.fits import TENSORS_FILE, FitRequest
from audit.planning.plan import prompts_of_model
from audit.records.work import ImageKey, Prompt


@dataclass(frozen=True)
class Seen:
    """What judge and CLIP see in one prompt's images."""

    perceived: Perceived
    embedded: NDArray[np.float32]


@dataclass(frozen=True)
class Bench:
    """The model with what measures its images."""

    request: MeasurementRequest
    generator: DiffusionGenerator
    judge: Judge
    clip: ClipEmbedder
    images: int

    @property
    def prompts(self) -> Sequence[Prompt]:
        """The prompts of the config."""
        return prompts_of_model(self.request.model, self.request.prompts)

    def look(self, arm_of: Callable[[Prompt, Sequence[ImageKey]], Intervention | None]) -> dict[str, Seen]:
        """Sample every prompt in batches, and look at the images."""
        found, batch = {}, self.request.sampling.batch
        for prompt in self.prompts:
            parts = []
            for start in range(0, self.images, batch):
                keys = [ImageKey(prompt.id, i) for i in range(start, min(self.images, start + batch))]
                seeds = [key.seed(self.request.seed) for key in keys]
                parts.append(self.generator.generate(prompt, seeds, arm_of(prompt, keys)))
            pictures = torch.cat(parts)
            found[prompt.id] = Seen(self.judge.perceive(pictures, prompt.occupation), self.clip.images(pictures))
        return found


def fit_in_process(
    section: MitigationConfig, request: FitRequest, prompts: Sequence[Prompt], tools: FitTools, directory: Path
) -> Path | None:
    """Fit the method of a section, round by round, and store it; None if the method is not fitted."""
    fit = METHODS[section.method].fit
    if fit is None:
        return None
    rounds, found = in_rounds(fit), dict[str, Tensor]()
    for _ in range(rounds.rounds(request)):
        sums: dict[str, Tensor] = {}
        for prompt in prompts:
            for key, tensor in rounds.part(tools, request, prompt, found).items():
                sums[key] = sums[key] + tensor if key in sums else tensor
        found = rounds.join(request, sums, found)
        if rounds.is_finished(request, found):
            break
    directory.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, directory / TENSORS_FILE)
    return directory


def ready(bench: Bench, section: MitigationConfig, lens: Lens) -> Intervene:
    """Fit and load a method."""
    request, groups = bench.request, tuple(bench.request.attributes[section.attribute])
    asked = FitRequest(section, groups, request.prompts.template, request.sampling)
    tools = FitTools(bench.generator, lambda: bench.judge, lambda: lens)
    with tempfile.TemporaryDirectory() as directory:
        fitted = fit_in_process(section, asked, bench.prompts, tools, Path(directory) / "fit")
        return METHODS[section.method].ready(section, lens if section.uses_lens else None, fitted)


def distance(perceived: Perceived, attribute: str, groups: int) -> float:
    """Return the debiased squared distance of the counted shares from uniform."""
    codes = perceived.codes(attribute)
    counts = np.bincount(codes[codes != NO_GROUP], minlength=groups)
    shares, n = counts / counts.sum(), counts.sum()
    return float(((shares - 1 / groups) ** 2).sum() - (1 - (shares**2).sum()) / (n - 1))


def row(bench: Bench, attribute: str, before: Mapping[str, Seen], after: Mapping[str, Seen]) -> str:
    """Return discrepancy (root of the mean square), worst, CLIP-I, flips by attribute."""
    groups = len(bench.request.attributes[attribute])
    left = [distance(seen.perceived, attribute, groups) for seen in after.values()]
    cosine = np.concatenate([(before[p].embedded * after[p].embedded).sum(1) for p in after])
    flips = [
        np.mean([before[p].perceived.codes(name) != after[p].perceived.codes(name) for p in after])
        for name in bench.request.attributes
    ]
    roots = [max(0.0, value) ** 0.5 for value in (float(np.mean(left)), max(left))]
    return " | ".join(f"{value:.3f}" for value in (*roots, float(cosine.mean()), *map(float, flips)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=32, help="of each prompt and arm")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    request = MeasurementRequest.of(read_config(arguments.config))
    generator, clip = load_generator(request.model, request.sampling), load_clip(request.quality, request.model)
    if not isinstance(generator, DiffusionGenerator) or clip is None:
        raise SystemExit("expected a diffusion model and a CLIP model; see `model` and `quality.clip` of the config")
    judge = load_judge(request.judge, request.model, request.attributes)
    bench = Bench(request, generator, judge, clip, arguments.images)
    lens = Lens.load(next((BUNDLED / "lens").iterdir()))
    flips = " | ".join(f"flips {name}" for name in request.attributes)
    print(f"{len(bench.prompts)} prompts x {bench.images} images\n")
    print(f"| arm | discrepancy | worst | CLIP-I | {flips} | fit s | s |")
    print("| --- " * (6 + len(request.attributes)) + "|")
    start = time.monotonic()
    before = bench.look(lambda _prompt, _keys: None)
    seconds = time.monotonic() - start
    print(f"| baseline | {row(bench, request.sections[0].attribute, before, before)} | | {seconds:.0f} |", flush=True)
    for section in request.sections:
        start = time.monotonic()
        intervene, groups = ready(bench, section, lens), tuple(request.attributes[section.attribute])
        fitted = time.monotonic()

        def arm(
            prompt: Prompt,
            keys: Sequence[ImageKey],
            section: MitigationConfig = section,
            intervene: Intervene = intervene,
            groups: tuple[str, ...] = groups,
        ) -> Intervention:
            assigned = assigned_groups(section, groups, keys, request.seed)
            return intervene(Batch(prompt, assigned, generator.steps, request.prompts.template, groups))

        after = bench.look(arm)
        cells = row(bench, section.attribute, before, after)
        print(f"| {section.name} | {cells} | {fitted - start:.0f} | {time.monotonic() - fitted:.0f} |", flush=True)


if __name__ == "__main__":
    main()
