"""H-Distribution: moves the map of each image along the gradient of a classifier of the map, towards its group.

A linear head per step reads the map: p = softmax((W_t h + b_t) / T). The map takes one step down the gradient of a
loss, h ← h − γ ∇_h L (Parihar et al. 2024, distribution guidance). With L = −log p of the image's group this is their
sample guidance, whose gradient is W_tᵀ (p − y) / T. Their batch guidance, L = D(mean of p over the batch ‖ target), is
not offered: an image would depend on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audit.config.mitigations.trained import HDistributionConfig
from audit.dissect.group_heads import fit_group_heads
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Examples, Fit, Intervene, Trained, TrainedFit
from audit.mitigate.tools import FitTools
from audit.mitigate.training import Checkpoint
from audit.models.intervention import Intervention, Observer
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming, window_of
from audit.records.work import Prompt, derive_seed

# S steps, G groups, B images, d = C·H·W numbers of the map

METHOD = "h_distribution"


class HDistribution:
    """Guides the map of each image by the gradient of a classifier."""

    def __init__(self) -> None:
        self.fit: Fit | TrainedFit | None = HDistributionFit()

    def ready(self, mitigation: HDistributionConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the heads.

        Raises:
            ValueError: If no fit is given, or its file cannot be read.
        """
        tensors = fitted_tensors(mitigation.name, fitted)

        def intervene(batch: Batch) -> Intervention:
            edits = {path: _Guidance.of(tensors, path, batch.assigned, mitigation) for path in mitigation.hookpoints}
            window = window_of(mitigation.window, batch.steps)
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits=edits)

        return intervene


class HDistributionFit:
    """Samples images that name a group, and fits a head per step and hookpoint on their maps."""

    def examples(self, tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the flattened maps ``(S, n, d)`` of each group and hookpoint, in half precision."""
        mitigation, batch = _section(request), request.sampling.batch
        seeds = [derive_seed(METHOD, prompt.id, i) for i in range(mitigation.images_per_group)]
        found: dict[str, Tensor] = {}
        for group in request.groups:
            text = text_naming(mitigation, group, request.template, prompt)
            readers = {path: _Reader() for path in mitigation.hookpoints}
            for start in range(0, len(seeds), batch):
                own = seeds[start : start + batch]
                observers: dict[str, Observer] = dict(readers)
                tools.generator.sample([text] * len(own), own, observers=observers)
            found |= {f"{path}/{group}": reader.maps() for path, reader in readers.items()}
        return found

    def train(self, tools: FitTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
        """Return weights ``(S, G, d)`` and biases ``(S, G)`` of each hookpoint, with one row for each group.

        The heads are logistic regressions in closed form up to a few Newton steps, so nothing is resumed.

        Raises:
            ValueError: A map holds numbers that are not finite.
        """
        tensors, report = dict[str, Tensor](), dict[str, float]()
        for path in _section(request).hookpoints:
            of_groups = [torch.cat([own[f"{path}/{group}"] for _, own in examples], 1) for group in request.groups]
            labels = torch.cat([torch.full((maps.shape[1],), row) for row, maps in enumerate(of_groups)])
            maps = torch.cat(of_groups, 1)
            if not bool(maps.isfinite().all()):
                raise ValueError(f"expected finite maps, found NaN or infinity at {path}; try another model.dtype")
            heads, accuracy = fit_group_heads(maps, {METHOD: labels}, {METHOD: request.groups})
            for row, group in enumerate(request.groups):
                tensors[f"{path}/{group}/weight"] = heads.weights[METHOD][:, row].contiguous()
                tensors[f"{path}/{group}/bias"] = heads.biases[METHOD][:, row].contiguous()
            steps = accuracy.per_step[METHOD]
            report[f"held_out_accuracy_{path}"] = round(sum(steps) / len(steps), 3)
        return Trained(tensors, report)


@dataclass(frozen=True)
class _Guidance:
    """h ← h − γ Wᵀ (p − y) / T, image by image.

    Attributes:
        weights: ``(S, G, d)``.
        biases: ``(S, G)``.
        wanted: y, one row for each image with a 1 at its group, ``(B, G)``.
        size: γ.
        temperature: T.
    """

    weights: Tensor
    biases: Tensor
    wanted: Tensor
    size: float
    temperature: float

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], path: str, assigned: Sequence[str], mitigation: HDistributionConfig
    ) -> _Guidance:
        """Take the heads of a hookpoint out of a fit."""
        ending = "/weight"
        groups = [
            name.removeprefix(f"{path}/").removesuffix(ending)
            for name in tensors
            if name.startswith(f"{path}/") and name.endswith(ending)
        ]
        weights = torch.stack([tensors[f"{path}/{group}/weight"] for group in groups], 1)
        biases = torch.stack([tensors[f"{path}/{group}/bias"] for group in groups], 1)
        wanted = torch.tensor([[float(group == own) for group in groups] for own in assigned], device=weights.device)
        return cls(weights, biases, wanted, mitigation.strength, mitigation.temperature)

    def __call__(self, step: int, h: Tensor) -> Tensor:
        if self.size == 0:
            return h
        logits = h.flatten(1).float() @ self.weights[step].T + self.biases[step]
        error = (logits / self.temperature).softmax(1) - self.wanted
        gradient = (error @ self.weights[step] / self.temperature).view(h.shape)
        return h - (self.size * gradient).to(h.dtype)


class _Reader:
    """Keeps the flattened maps of every step, in half precision."""

    def __init__(self) -> None:
        self._steps: dict[int, list[Tensor]] = {}

    def __call__(self, step: int, h: Tensor) -> None:
        self._steps.setdefault(step, []).append(h.flatten(1).half().cpu())

    def maps(self) -> Tensor:
        """Return ``(S, n, d)``."""
        return torch.stack([torch.cat(self._steps[step]) for step in sorted(self._steps)])


def _section(request: FitRequest) -> HDistributionConfig:
    if not isinstance(request.mitigation, HDistributionConfig):
        raise TypeError(f"expected a section of {METHOD}, found {request.mitigation!r}")
    return request.mitigation
