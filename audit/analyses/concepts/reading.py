"""Predicts the final layout from what a block adds at one step: by concepts, by concepts at their place, by a probe.

Each reader gives every pixel a score for every part; a threshold for each part, chosen on images of their own, turns
scores into masks. The same rule is applied to the prior.

Legend: n images, N latents, P parts, C H W the map, M side of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.analyses.concepts.naming import one_hot
from audit.analyses.concepts.stored_recording import FIT
from audit.dissect.sae import SparseAutoencoder, SparseCodes
from audit.measure.overlap.pooled_iou import Counts, overlaps, pooled_iou

_THRESHOLDS = np.linspace(0.05, 0.95, 19)
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties, relative to the mean square of a feature summed over the images."""

_LEAST = 1e-6


@torch.inference_mode()
def concept_scores(sae: SparseAutoencoder, meaning: Tensor, maps: Tensor) -> Tensor:
    """Return the mean meaning of the active latents at each place, weighted by activation, (n, P, H, W) in [0, 1].

    It takes the place of the mean word embedding of the concepts at a place in arXiv 2504.15473, section 4: with a
    closed list of parts, what a concept means is its share of each part.

    Args:
        sae: The dictionary.
        meaning: (N, P), see :class:`audit.analyses.concepts.naming.Names`.
        maps: Updates (n, C, H, W) of one step.
    """
    codes = sae.codes_of_map(maps.float().to(sae.decoder.device))  # (n, Q, k)
    values, indices = codes.values.cpu(), codes.indices.cpu()
    weighted = (values[..., None] * meaning[indices]).sum(2)
    shares = weighted / values.sum(2, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return shares.transpose(1, 2).reshape(len(maps), meaning.shape[1], *maps.shape[-2:])


@torch.inference_mode()
def placed_scores(sae: SparseAutoencoder, maps: Mapping[str, Tensor], labels: Tensor, parts: int) -> dict[str, Tensor]:
    """Return the mean of what the active latents mean at each place, weighted by activation.

    What a latent means at a place is the mean mask, inside of this place, of the training pictures in which it is
    active there, weighted by activation. The mean mask of all training pictures counts as one more picture with a mean
    activation, so that a latent that was never active here means just that.

    Args:
        sae: The dictionary.
        maps: Role of the images → updates (n, C, H, W) of one step; those of ``FIT`` train.
        labels: (n, M, M) of the images that train.
        parts: P.

    Returns:
        Role → scores (n, P, M, M) in [0, 1].

    Raises:
        ValueError: The sides of a mask are no multiples of those of the map.
    """
    grid = _Grid.of(maps[FIT], labels, parts)
    codes = {role: sae.codes_of_map(own.float().to(sae.decoder.device)) for role, own in maps.items()}
    masks = _cells(one_hot(labels, parts), grid.size)  # (Q, n, P·m)
    active = codes[FIT].values[codes[FIT].values > 0]
    one = float(active.mean()) if len(active) else 1.0
    found: dict[str, list[Tensor]] = {role: [] for role in maps}
    for place, truth in enumerate(masks):  # one place at a time, since N · P · m numbers are many
        dense = {role: _dense(own, place, sae.shape.n_latents) for role, own in codes.items()}
        usual = truth.mean(0)
        meaning = (dense[FIT].T @ truth + one * usual) / (dense[FIT].sum(0)[:, None] + one)
        for role, own in dense.items():
            total = own.sum(1, keepdim=True)
            mean = own @ meaning / total.clamp_min(torch.finfo(torch.float32).tiny)
            found[role].append(torch.where(total > 0, mean, usual))
    return {role: grid.joined(torch.stack(cells)) for role, cells in found.items()}


def _dense(codes: SparseCodes, place: int, latents: int) -> Tensor:
    """Return the codes (n, N) at one place."""
    values, indices = codes.values[:, place].cpu(), codes.indices[:, place].cpu()
    return torch.zeros(len(values), latents).scatter(1, indices, values)


def enlarged(scores: Tensor, side: tuple[int, int]) -> Tensor:
    """Return scores (n, P, H, W) at the size of a mask, bilinear."""
    return functional.interpolate(scores, size=side, mode="bilinear")


@dataclass(frozen=True)
class _Grid:
    """How the places of a map divide a mask.

    Attributes:
        size: (H, W) of the map.
        side: Sides of the mask.
        parts: P.
    """

    size: tuple[int, int]
    side: tuple[int, int]
    parts: int

    @classmethod
    def of(cls, maps: Tensor, labels: Tensor, parts: int) -> _Grid:
        """Return the grid of maps (n, C, H, W) and labels (n, M, M).

        Raises:
            ValueError: The sides of a mask are no multiples of those of the map.
        """
        size, side = (int(maps.shape[2]), int(maps.shape[3])), (int(labels.shape[1]), int(labels.shape[2]))
        if side[0] % size[0] or side[1] % size[1]:
            raise ValueError(f"expected masks whose sides are multiples of {size}, found {side}")
        return cls(size, side, parts)

    def joined(self, cells: Tensor) -> Tensor:
        """Return what is inside of the places, (Q, n, P·m), as scores (n, P, M, M)."""
        (height, width), (rows, columns) = self.size, self.side
        inside = (rows // height, columns // width)
        apart = cells.reshape(height, width, cells.shape[1], self.parts, *inside)
        return apart.permute(2, 3, 0, 4, 1, 5).reshape(cells.shape[1], self.parts, rows, columns)


@dataclass(frozen=True)
class Probe:
    """A ridge regression at each place of a map, from the update to the masks inside of the place.

    Attributes:
        weights: (Q, C, P·m) for each place.
        centre: (Q, C) mean update.
        base: (Q, P·m) mean masks.
        grid: How the places divide a mask.
    """

    weights: Tensor
    centre: Tensor
    base: Tensor
    grid: _Grid

    @classmethod
    def fit(cls, maps: Tensor, labels: Tensor, parts: int, validation: tuple[Tensor, Tensor]) -> Probe:
        """Fit a probe; its penalty is the one with the smallest error on the validation images.

        Args:
            maps: Updates (n, C, H, W) of one step.
            labels: (n, M, M).
            parts: P.
            validation: Maps and labels of other images.

        Raises:
            ValueError: The sides of a mask are no multiples of those of the map.
        """
        grid = _Grid.of(maps, labels, parts)
        x, y = _vectors(maps), _cells(one_hot(labels, parts), grid.size)
        centre, base = x.mean(1), y.mean(1)
        other, truth = _vectors(validation[0]) - centre[:, None], _cells(one_hot(validation[1], parts), grid.size)
        best: tuple[float, Tensor] | None = None
        for penalty in _PENALTIES:
            weights = _ridge(x - centre[:, None], y - base[:, None], penalty)
            error = float((other @ weights + base[:, None] - truth).square().mean())
            if best is None or error < best[0]:
                best = error, weights
        assert best is not None  # noqa: S101 - there are penalties
        return cls(best[1], centre, base, grid)

    def scores(self, maps: Tensor) -> Tensor:
        """Return scores (n, P, M, M) of updates (n, C, H, W)."""
        return self.grid.joined((_vectors(maps) - self.centre[:, None]) @ self.weights + self.base[:, None])


def thresholds_of(scores: NDArray[np.floating], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each part the threshold with the largest pooled intersection over union, (P,).

    Args:
        scores: (n, P, M, M).
        true: Masks (n, P, M, M).
    """
    found = np.stack([np.nan_to_num(pooled_iou(*overlaps(scores > cut, true))) for cut in _THRESHOLDS])
    best: NDArray[np.float64] = _THRESHOLDS[found.argmax(0)]
    return best


def read(
    scores: NDArray[np.floating], true: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> tuple[Counts, Counts]:
    """Return intersections and unions (n, P) of the masks that scores above the thresholds give."""
    return overlaps(scores > thresholds[None, :, None, None], true)


def _vectors(maps: Tensor) -> Tensor:
    """Return (n, C, H, W) as (Q, n, C)."""
    return maps.float().flatten(2).permute(2, 0, 1)


def _cells(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks (n, P, M, M) as what is inside of each place, (Q, n, P·m)."""
    n, parts, rows, columns = masks.shape
    height, width = size
    cells = masks.reshape(n, parts, height, rows // height, width, columns // width)
    return cells.permute(2, 4, 0, 1, 3, 5).reshape(height * width, n, -1)


def _ridge(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Return the weights (Q, C, m) of x (Q, n, C) for y (Q, n, m), in the smaller of both forms of the equations."""
    _, images, channels = x.shape
    scale = x.square().sum((1, 2)) / channels
    ridge = (penalty * scale).clamp_min(_LEAST)[:, None, None]
    if channels <= images:
        primal: Tensor = torch.linalg.solve(x.mT @ x + ridge * torch.eye(channels), x.mT @ y)
        return primal
    dual: Tensor = torch.linalg.solve(x @ x.mT + ridge * torch.eye(images), y)
    return x.mT @ dual
