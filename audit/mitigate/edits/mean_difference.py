"""Mean difference: one direction per group, step and hookpoint, added to the map.

The direction of a group is what naming it in the prompt changes in the map on average: the mean over prompts and seeds
of its maps, minus the mean of the other groups' means. All groups are drawn from the same noise. (Difference in means:
Marks and Tegmark 2023; as activation addition: Rimsky et al. 2024, eq. 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audit.config.mitigations.edits import MeanDifferenceConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Fit, Intervene, strengths_in
from audit.models.device import device_here
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Intervention, Observer
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming, window_of
from audit.records.work import Prompt, derive_seed

# S steps, G groups, B images, C H W the map

COUNT = "images"
"""Key of the number of images in the sums."""


class MeanDifference:
    """Adds a group's mean difference to the map."""

    def __init__(self) -> None:
        self.fit: Fit | None = MeanDifferenceFit()

    def ready(self, mitigation: MeanDifferenceConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the directions.

        Raises:
            ValueError: If no fit is given, or its file cannot be read.
        """
        directions = fitted_tensors(mitigation.name, fitted)

        def intervene(batch: Batch) -> Intervention:
            strengths = torch.tensor(strengths_in(mitigation, batch), device=device_here()).view(-1, 1, 1, 1)
            edits = {
                path: _Addition(_of_images(directions, path, batch.assigned), strengths)
                for path in mitigation.hookpoints
            }
            window = window_of(mitigation.window, batch.steps)
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits=edits)

        return intervene


class MeanDifferenceFit:
    """Sums the maps of prompts that name a group, prompt by prompt."""

    def part(self, generator: DiffusionGenerator, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Sum the maps ``(S, C, H, W)`` of each group and hookpoint over the images of one prompt."""
        mitigation, batch = _section(request), request.sampling.batch
        seeds = [derive_seed("mean_difference", prompt.id, i) for i in range(mitigation.images_per_group)]
        sums: dict[str, Tensor] = {COUNT: torch.tensor(len(seeds), dtype=torch.float64)}
        for group in request.groups:
            text = text_naming(mitigation, group, request.template, prompt)
            adders = {path: _Adder(generator.steps) for path in mitigation.hookpoints}
            for start in range(0, len(seeds), batch):
                own = seeds[start : start + batch]
                observers: dict[str, Observer] = dict(adders)
                generator.sample([text] * len(own), own, observers=observers)
            sums |= {key_of(path, group): adder.total() for path, adder in adders.items()}
        return sums

    def join(self, request: FitRequest, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return each group's direction ``(S, C, H, W)`` at each hookpoint, in float32.

        Raises:
            ValueError: A map holds numbers that are not finite.
        """
        odd = sorted(name for name, tensor in sums.items() if not bool(tensor.isfinite().all()))
        if odd:
            raise ValueError(f"expected finite maps, found NaN or infinity at {odd[0]}; try another model.dtype")
        found = {}
        for path in _section(request).hookpoints:
            means = {group: sums[key_of(path, group)] / sums[COUNT] for group in request.groups}
            for group in request.groups:
                others = torch.stack([means[other] for other in request.groups if other != group]).mean(0)
                found[key_of(path, group)] = (means[group] - others).float()
        return found


def key_of(hookpoint: str, group: str) -> str:
    """Name a group's tensor at a hookpoint."""
    return f"{hookpoint}/{group}"


def _section(request: FitRequest) -> MeanDifferenceConfig:
    if not isinstance(request.mitigation, MeanDifferenceConfig):
        raise TypeError(f"expected a section of mean_difference, found {request.mitigation!r}")
    return request.mitigation


def _of_images(directions: dict[str, Tensor], hookpoint: str, assigned: Sequence[str]) -> Tensor:
    """Return the direction of each image by step, ``(S, B, C, H, W)``."""
    return torch.stack([directions[key_of(hookpoint, group)] for group in assigned], 1)


@dataclass(frozen=True)
class _Addition:
    """Adds each image's direction (S, B, C, H, W), times its strength (B, 1, 1, 1)."""

    directions: Tensor
    strengths: Tensor

    def __call__(self, step: int, h: Tensor) -> Tensor:
        return torch.where(self.strengths == 0, h, h + (self.strengths * self.directions[step]).to(h.dtype))


class _Adder:
    """Sums the maps of every step over images, in float64."""

    def __init__(self, steps: int) -> None:
        self._sums: list[Tensor | None] = [None] * steps

    def __call__(self, step: int, h: Tensor) -> None:
        own, before = h.double().sum(0).cpu(), self._sums[step]
        self._sums[step] = own if before is None else before + own

    def total(self) -> Tensor:
        """Return the sums ``(S, C, H, W)``."""
        return torch.stack([part for part in self._sums if part is not None])
