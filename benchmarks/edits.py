"""Compares forms of the DiffLens edit: add or scale, symmetric or asymmetric reverse steps, several strengths.

Every form steers the same images with the same lens, so the rows differ only in the edit. Compare two columns: a form
is better if it leaves less discrepancy at the same cost (CLIP-I, shifts of other attributes).
``python -m benchmarks.edits configs/occupations.yaml``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audit.config.file import read_config
from audit.config.mitigations.edits import DiffLensConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.dissect.lens import Lens
from audit.dissect.settings import dissected_groups, dissected_prompts
from audit.measure.discrepancy.fairness import hard_counts, soft_plug_in, total_variation, uniform
from audit.mitigate.edits.difflens import Steering, steered
from audit.models.device import device_here
from audit.models.generator import DiffusionGenerator, load_generator
from audit.perception.embedders.clip import ClipEmbedder, load_clip
from audit.perception.judges.interface import Judge
from audit.perception.judges.perceived import Perceived
from audit.perception.judges.registry import load_judge
from audit.records.work import Prompt, derive_seed
from ray_jobs.run.prepare.lens import find_lens

STRENGTHS = {
    ("add", "symmetric"): (0.5, 1.0, 1.5, 2.0, 3.0),
    ("add", "asymmetric"): (0.25, 0.5, 0.75, 1.0, 1.5),
    ("scale", "symmetric"): (1.0, 3.0, 7.0),
    ("scale", "asymmetric"): (0.5, 1.0, 3.0),
}
FORMS = [(edit, reverse, strength) for (edit, reverse), strengths in STRENGTHS.items() for strength in strengths]


@dataclass(frozen=True)
class Seen:
    """Results of judge and CLIP for one prompt's images."""

    perceived: Perceived
    embedded: NDArray[np.float32]


@dataclass(frozen=True)
class Bench:
    """The model, with the judge and CLIP model."""

    generator: DiffusionGenerator
    judge: Judge
    clip: ClipEmbedder
    lens: Lens
    attribute: str
    images: int

    def look(self, prompt: Prompt, mitigation: DiffLensConfig | None) -> Seen:
        """Sample a prompt, steered or not, and evaluate the images."""
        groups = self.lens.groups[self.attribute]
        assigned = tuple(groups[i % len(groups)] for i in range(self.images))
        arm = None
        if mitigation is not None:
            strength = mitigation.strength or 0.0
            arm = steered(mitigation, self.lens, Steering(assigned, (strength,) * self.images))
        seeds = [derive_seed("edits", prompt.id, i) for i in range(self.images)]
        pictures = self.generator.generate(prompt, seeds, arm)
        return Seen(self.judge.perceive(pictures, prompt.occupation), self.clip.images(pictures))


def open_bench(config: AuditConfig, attribute: str, images: int) -> Bench:
    directory = find_lens(DissectionRequest.of(config), config.output)
    if directory is None:
        raise SystemExit("there is no lens yet; make one with `difflens-audit dissect CONFIG`")
    generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
    clip = load_clip(config.quality, config.model)
    if not isinstance(generator, DiffusionGenerator) or clip is None:
        raise SystemExit("expected a diffusion model and a CLIP model; see `model` and `quality.clip` of the config")
    judge = load_judge(config.judge, config.model, dissected_groups(config.lens, config.attributes))
    return Bench(generator, judge, clip, Lens.load(directory).to(device_here()), attribute, images)


def row(bench: Bench, before: dict[str, Seen], after: dict[str, Seen]) -> str:
    """Remaining discrepancy (mean, worst), occupation shown, CLIP-I, shifts of the other attributes."""
    groups = bench.lens.groups
    target = uniform(len(groups[bench.attribute]))
    left = [soft_plug_in(seen.perceived.probabilities[bench.attribute], target) for seen in after.values()]
    shown = np.concatenate([np.asarray(seen.perceived.prompt_shown) for seen in after.values()])
    cosine = np.concatenate([(before[p].embedded * after[p].embedded).sum(1) for p in after])
    moved = {other: _moved(other, before, after) for other in groups if other != bench.attribute}
    cells = [statistics.mean(left), max(left), float((shown >= 0.5).mean()), float(cosine.mean()), *moved.values()]
    return " | ".join(f"{cell:.3f}" for cell in cells)


def _moved(attribute: str, before: dict[str, Seen], after: dict[str, Seen]) -> float:
    def shares(seen: Seen) -> NDArray[np.float64]:
        counts = hard_counts(seen.perceived.probabilities[attribute])
        return counts / counts.sum()

    return statistics.mean(total_variation(shares(before[p]), shares(after[p])) for p in after)


def rows(bench: Bench, prompts: list[Prompt]) -> Iterator[str]:
    before = {prompt.id: bench.look(prompt, None) for prompt in prompts}
    yield f"| none | | 0 | {row(bench, before, before)} |"
    for edit, reverse, strength in FORMS:
        mitigation = DiffLensConfig.model_validate(
            {"name": "form", "attribute": bench.attribute, "edit": edit, "reverse_step": reverse, "strength": strength}
        )
        after = {prompt.id: bench.look(prompt, mitigation) for prompt in prompts}
        yield f"| {edit} | {reverse} | {strength:g} | {row(bench, before, after)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--attribute", default="gender")
    parser.add_argument("--images", type=int, default=24, help="of each prompt and form")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = read_config(arguments.config)
    bench = open_bench(config, arguments.attribute, arguments.images)
    prompts = list(dissected_prompts(DissectionRequest.of(config)))
    others = [attribute for attribute in bench.lens.groups if attribute != arguments.attribute]
    print(
        f"{len(prompts)} prompts x {arguments.images} images of {bench.lens.name}, edited for {arguments.attribute}\n"
    )
    moved = " | ".join(f"{other} moved" for other in others)
    print(f"| edit | reverse step | strength | discrepancy | worst | occupation shown | CLIP-I | {moved} |")
    print("| --- " * (7 + len(others)) + "|")
    for line in rows(bench, prompts):
        print(line, flush=True)


if __name__ == "__main__":
    main()
