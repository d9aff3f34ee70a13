"""Names the latents of a dictionary after the parts of pictures in which they are active.

Legend: n images, S steps, Q places of a map (H · W), N latents, P parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audit.dissect.sae import SparseAutoencoder
from audit.dissect.settings import rows_per_block

ACTIVE_ABOVE = 0.1
"""A latent is active where its map, scaled to [0, 1] in each image, is above this (arXiv 2504.15473)."""

FEWEST_IMAGES = 5
"""Maps in which a latent must be active before its cohesion is measured."""


@dataclass(frozen=True)
class Names:
    """What the latents of a dictionary mean.

    Attributes:
        meaning: (N, P) share of each part in the places where a latent is active, weighted by its activation; a part
            that covers half of a place counts half. 0 for a latent that is never active.
        iou: (N, P) intersection over union of the places where a latent is active and of each part, pooled over the
            maps in which it is active.
        overall: (N, P) the same, pooled over all maps: a latent that is rarely active fits no part that is common.
        active: (N,) number of maps in which it is active.
        cohesion: (N,) mean cosine between the parts of the maps in which it is active; NaN for fewer than
            ``FEWEST_IMAGES``.
        separability: Mean cosine between the mean parts of two different latents with a cohesion: less is better.
    """

    meaning: Tensor
    iou: Tensor
    overall: Tensor
    active: Tensor
    cohesion: Tensor
    separability: float

    def best(self) -> Tensor:
        """Return for each part the latent with the largest intersection over union over all maps, (P,)."""
        return self.overall.argmax(0)

    def named(self, above: float) -> Tensor:
        """Return whether each latent has a name, (N,)."""
        return self.iou.amax(1) > above


def coverage(labels: Tensor, parts: int, size: tuple[int, int]) -> Tensor:
    """Return how much of each place of a map shows each part, (n, P, H, W) in [0, 1], from labels (n, M, M)."""
    return torch.cat([functional.adaptive_avg_pool2d(one_hot(block, parts), size) for block in torch.split(labels, 64)])


def one_hot(labels: Tensor, parts: int) -> Tensor:
    """Return masks (n, P, M, M) as numbers, from labels; a label of no part is in none."""
    return torch.stack([(labels == part).float() for part in range(parts)], 1)


@torch.inference_mode()
def name_latents(sae: SparseAutoencoder, maps: Tensor, covered: Tensor) -> Names:
    """Compare activation maps with masks.

    Args:
        sae: The dictionary.
        maps: Updates (n, S, C, H, W).
        covered: From ``coverage``, (n, P, H, W).
    """
    latents, parts = sae.shape.n_latents, covered.shape[1]
    weights, activity = torch.zeros(latents, parts), torch.zeros(latents)
    both, area, whole = torch.zeros(latents, parts), torch.zeros(latents), torch.zeros(latents, parts)
    active, directions, total = torch.zeros(latents), torch.zeros(latents, parts), torch.zeros(parts)
    for codes, truth in _blocks(sae, maps, covered):  # (m, Q, N), (m, Q, P)
        weights += torch.einsum("mqn,mqp->np", codes, truth)
        activity += codes.sum((0, 1))
        on = _switched_on(codes)
        fires = on.amax(1)  # (m, N)
        in_parts = torch.einsum("mqn,mqp->mnp", on, truth)
        both += in_parts.sum(0)
        area += on.sum((0, 1))
        whole += fires.T @ truth.sum(1)
        total += truth.sum((0, 1))
        active += fires.sum(0)
        directions += functional.normalize(in_parts, dim=2).sum(0)
    # Σᵢ<ⱼ uᵢ·uⱼ of unit vectors follows from the norm of their sum; maps that show no part have a zero vector.
    pairs = active * (active - 1)
    cohesion = torch.where(
        active >= FEWEST_IMAGES, (directions.square().sum(1) - active) / pairs.clamp_min(1), torch.nan
    )
    return Names(
        meaning=weights / activity.clamp_min(torch.finfo(torch.float32).tiny)[:, None],
        iou=both / (area[:, None] + whole - both).clamp_min(1e-9),
        overall=both / (area[:, None] + total - both).clamp_min(1e-9),
        active=active,
        cohesion=cohesion,
        separability=_mean_cosine(directions[~cohesion.isnan()]),
    )


def _blocks(sae: SparseAutoencoder, maps: Tensor, covered: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield codes (m, Q, N) and what the places show (m, Q, P), some images at a time."""
    steps, places = maps.shape[1], maps.shape[-2] * maps.shape[-1]
    each = rows_per_block(12 * steps * places * sae.shape.n_latents)
    for first in range(0, len(maps), each):
        block = maps[first : first + each].flatten(0, 1).float()
        truth = covered[first : first + each].flatten(2).transpose(1, 2).repeat_interleave(steps, 0)
        yield sae.latents_of_map(block.to(sae.decoder.device)).cpu(), truth


def _switched_on(codes: Tensor) -> Tensor:
    """Return 1 where the map of a latent, scaled to [0, 1] in each image, is above ``ACTIVE_ABOVE``: (m, Q, N)."""
    low, high = codes.amin(1, keepdim=True), codes.amax(1, keepdim=True)
    return ((codes - low > ACTIVE_ABOVE * (high - low)) & (high > low)).float()


def _mean_cosine(rows: Tensor) -> float:
    count = len(rows)
    if count <= 1:
        return float("nan")
    unit = functional.normalize(rows, dim=1)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1)))
