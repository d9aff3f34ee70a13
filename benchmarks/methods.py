"""Compares the mitigations of a config in one process: what each does to groups and pictures, and what its fit takes.

Methods are fitted as the workers do it; sections that differ only in how a fit is applied share it. Every arm has the
noise of the audit. An audit of the same config measures with intervals; this prints a table in minutes.

- *discrepancy*: distance of the counted shares from uniform, debiased; the root of the mean square over the prompts;
- *worst*: that of the prompt with the largest;
- *assigned*: share of the images that show their assigned group; empty if no image is assigned to one;
- *flips*: share of the images whose perceived group of an attribute differs from that of the unedited image;
- *fit images*: images that the fit samples at most.

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
from torch import Tensor

from audit.calibration.bundle import BUNDLED
from audit.config.file import read_config
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.section import SearchableSection
from audit.config.slices import MeasurementRequest
from audit.dissect.lens import check_fits
from audit.dissect.strengths import GroupStrength, choose_strengths
from audit.mitigate.assignment import assigned_groups
from audit.mitigate.method import Batch, Intervene
from audit.mitigate.registry import METHODS
from audit.mitigate.strength import StrengthSearch, try_strengths
from audit.mitigate.tools import FitTools, fit_tools
from audit.models.generator import DiffusionGenerator, load_generator
from audit.models.intervention import Intervention
from audit.perception.judges.perceived import NO_GROUP, Perceived
from audit.planning.fits import FitRequest, cost_of_fit, fit_name, fit_requests, fit_settings
from audit.planning.plan import prompts_of_model
from audit.records.work import ImageKey, Prompt
from audit.storage.place import place_of
from benchmarks.fits import fit_in_process

Arm = Callable[[Prompt, Sequence[ImageKey]], Intervention]


@dataclass(frozen=True)
class Seen:
    """What judge and CLIP see in one prompt's images, and which group each was steered to."""

    perceived: Perceived
    embedded: NDArray[np.float32]
    assigned: tuple[str | None, ...]


@dataclass(frozen=True)
class Bench:
    """The model with what measures its images."""

    request: MeasurementRequest
    prompts: tuple[Prompt, ...]
    tools: FitTools
    images: int

    def look(self, arm: Arm | None = None) -> dict[str, Seen]:
        """Sample every prompt in batches, and look at the images."""
        return {prompt.id: self._look(prompt, arm) for prompt in self.prompts}

    def _look(self, prompt: Prompt, arm: Arm | None) -> Seen:
        parts, assigned, batch = list[Tensor](), list[str | None](), self.request.sampling.batch
        for start in range(0, self.images, batch):
            keys = [ImageKey(prompt.id, i) for i in range(start, min(self.images, start + batch))]
            seeds = [key.seed(self.request.seed) for key in keys]
            intervention = None if arm is None else arm(prompt, keys)
            assigned += [None] * len(keys) if intervention is None else intervention.assigned
            parts.append(self.tools.generator.generate(prompt, seeds, intervention))
        pictures = torch.cat(parts)
        perceived = self.tools.judge().perceive(pictures, prompt.occupation)
        return Seen(perceived, self.tools.clip().images(pictures), tuple(assigned))

    def groups(self, section: MitigationConfig) -> tuple[str, ...]:
        """Return the groups of a section's attribute."""
        return tuple(self.request.attributes[section.attribute])

    def arm(self, section: MitigationConfig, fitted: Path | None) -> Arm:
        """Load a method, and search its strengths if the section asks for that.

        Raises:
            ValueError: The lens does not fit the model.
        """
        generator, lens, groups = self.tools.generator, None, self.groups(section)
        if section.uses_lens:
            lens = self.tools.lens()
            check_fits(lens, generator.fingerprint, generator.steps, {section.attribute: groups}, generator.sampling)
        intervene = METHODS[section.method].ready(section, lens, fitted)
        strengths = self._searched(section, intervene)

        def intervention(prompt: Prompt, keys: Sequence[ImageKey]) -> Intervention:
            assigned = assigned_groups(section, groups, keys, self.request.seed)
            found = strengths.get(prompt.id)
            own = None if found is None else tuple(found[group].strength for group in assigned)
            template = self.request.prompts.template
            return intervene(Batch(prompt, assigned, generator.steps, template, groups, own))

        return intervention

    def _searched(self, section: MitigationConfig, intervene: Intervene) -> dict[str, dict[str, GroupStrength]]:
        if not isinstance(section, SearchableSection) or not section.searches_strength:
            return {}
        found, budget = {}, section.side_effect_budget
        for prompt in self.prompts:
            search = StrengthSearch(
                prompt,
                self.request.prompts.template,
                section.attribute,
                self.groups(section),
                section.trial_images,
                budget,
            )
            tried = try_strengths(self.tools.generator, self.tools.judge(), intervene, search)
            found[prompt.id] = choose_strengths(tried, budget)
        return found


@dataclass(frozen=True)
class Fits:
    """Fits by content, in a directory; each is made once."""

    bench: Bench
    directory: Path

    def fitted(self, request: FitRequest) -> tuple[Path, str]:
        """Return the directory of a fit, and the cells of a row: images, training steps and seconds."""
        prompts, tools = self.bench.prompts, self.bench.tools
        place = self.directory / fit_name(tools.generator.fingerprint, fit_settings(request, prompts))
        if place.exists():
            return place, "the same | |"
        start = time.monotonic()
        fit_in_process(request, prompts, tools, place)
        cost = cost_of_fit(request, prompts)
        return place, f"{cost['images']} | {cost['training_steps']} | {time.monotonic() - start:.0f}"


def distance(perceived: Perceived, attribute: str, groups: int) -> float:
    """Return the debiased squared distance of the counted shares from uniform."""
    codes = perceived.codes(attribute)
    counts = np.bincount(codes[codes != NO_GROUP], minlength=groups)
    shares, n = counts / counts.sum(), counts.sum()
    return float(((shares - 1 / groups) ** 2).sum() - (1 - (shares**2).sum()) / (n - 1))


def row(bench: Bench, attribute: str, before: Mapping[str, Seen], after: Mapping[str, Seen]) -> str:
    """Return the cells of an arm: discrepancy, worst prompt, assigned group shown, CLIP-I, flips by attribute."""
    names = tuple(bench.request.attributes[attribute])
    left = [distance(seen.perceived, attribute, len(names)) for seen in after.values()]
    shown = [
        names.index(group) == code
        for seen in after.values()
        for group, code in zip(seen.assigned, seen.perceived.codes(attribute), strict=True)
        if group is not None
    ]
    cosine = np.concatenate([(before[p].embedded * after[p].embedded).sum(1) for p in after])
    flips = [
        np.mean([before[p].perceived.codes(name) != after[p].perceived.codes(name) for p in after])
        for name in bench.request.attributes
    ]
    roots = [max(0.0, value) ** 0.5 for value in (float(np.mean(left)), max(left))]
    cells = [*roots, np.mean(shown) if shown else None, cosine.mean(), *flips]
    return " | ".join("" if value is None else f"{value:.3f}" for value in cells)


def bench_of(path: Path, images: int) -> Bench:
    """Load what a config names; the lens is that of ``lens.path``, or else the bundled one."""
    config = read_config(path)
    request = MeasurementRequest.of(config)
    generator = load_generator(request.model, request.sampling, request.hookpoint)
    if not request.mitigations or not isinstance(generator, DiffusionGenerator):
        raise SystemExit("expected mitigations and a diffusion model; see `mitigations` and `model` of the config")
    lens = place_of(config.lens.path) if config.lens.path else next((BUNDLED / "lens").iterdir())
    prompts = prompts_of_model(request.model, request.prompts)
    return Bench(request, prompts, fit_tools(generator, request, request.attributes, lens), images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=32, help="of each prompt and arm")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = bench_of(arguments.config, arguments.images)
    request = bench.request
    headings = ["arm", "discrepancy", "worst", "assigned", "CLIP-I", *(f"flips {name}" for name in request.attributes)]
    headings += ["fit images", "training steps", "fit seconds", "seconds"]
    print(f"{len(bench.prompts)} prompts x {bench.images} images\n\n| {' | '.join(headings)} |")
    print("| --- " * len(headings) + "|")
    start = time.monotonic()
    before = bench.look()
    cells = row(bench, request.mitigations[0].attribute, before, before)
    print(f"| baseline | {cells} | | | | {time.monotonic() - start:.0f} |", flush=True)
    requests = {one.mitigation.name: one for one in fit_requests(request)}
    with tempfile.TemporaryDirectory() as directory:
        fits = Fits(bench, Path(directory))
        for section in request.mitigations:
            asked = requests.get(section.name)
            fitted, cost = (None, "| |") if asked is None else fits.fitted(asked)
            arm, start = bench.arm(section, fitted), time.monotonic()
            cells = row(bench, section.attribute, before, bench.look(arm))
            print(f"| {section.name} | {cells} | {cost} | {time.monotonic() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
