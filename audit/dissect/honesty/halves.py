"""Random halves of the recorded images; images of the same noise stay in one half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from audit.dissect.group_heads import UNLABELLED
from audit.dissect.recording.trajectories import Groups

LEAST_PER_GROUP = 8
"""Fewest images of a group that are split into halves."""

LEAST_PER_HALF = 2
"""Fewest images of a group in a half; the fit of a head needs as many."""

_TRIES = 100


def attributes_to_split(labels: Mapping[str, Tensor], groups: Groups) -> tuple[list[str], dict[str, str]]:
    """Return the attributes with enough images of every group, and why the others are left out.

    Args:
        labels: Attribute → group of each usable image (m,), ``UNLABELLED`` for the others.
        groups: Groups by attribute.
    """
    left_out = {}
    for attribute, names in groups.items():
        counts = {name: int((labels[attribute] == row).sum()) for row, name in enumerate(names)}
        rarest = min(counts, key=lambda name: counts[name])
        if counts[rarest] < LEAST_PER_GROUP:
            left_out[attribute] = (
                f"{counts[rarest]} images show {rarest}, at least {LEAST_PER_GROUP} are needed; raise lens.trajectories"
            )
    return [attribute for attribute in groups if attribute not in left_out], left_out


def clusters_of(partners: Tensor) -> Tensor:
    """Return a number (m,) for each image that only its counterfactual shares.

    Args:
        partners: (m,) row of the image with the same noise, or −1.
    """
    rows = torch.arange(len(partners))
    return torch.where(partners >= 0, torch.minimum(rows, partners), rows)


def random_halves(
    labels: Mapping[str, Tensor], groups: Groups, attributes: Sequence[str], partners: Tensor, count: int
) -> list[Tensor]:
    """Return the first half (m,) of each of ``count`` random halvings, as masks.

    Single images and pairs are halved separately, so that both halves have as many of each.

    Args:
        labels: Attribute → group of each usable image (m,).
        groups: Groups by attribute.
        attributes: Attributes of which each half needs images of every group.
        partners: (m,) row of the image with the same noise, or −1.
        count: Number of halvings.

    Raises:
        ValueError: Halves with all groups were not found.
    """
    draws = torch.Generator().manual_seed(0)
    halves: list[Tensor] = []
    for _ in range(_TRIES * count):
        first = _halved(partners, draws)
        if all(_has_all(labels[a], len(groups[a]), half) for a in attributes for half in (first, ~first)):
            halves.append(first)
            if len(halves) == count:
                return halves
    raise ValueError("expected halves of the images with all groups, found none; raise lens.trajectories")


def _halved(partners: Tensor, draws: torch.Generator) -> Tensor:
    clusters = clusters_of(partners)
    is_pair = partners >= 0
    owners = torch.arange(len(partners)) == clusters
    chosen = torch.zeros(len(partners), dtype=torch.bool)
    for kind in (is_pair, ~is_pair):
        own = (owners & kind).nonzero().flatten()
        chosen[own[torch.randperm(len(own), generator=draws)][: (len(own) + 1) // 2]] = True
    return chosen[clusters]


def _has_all(labels: Tensor, groups: int, half: Tensor) -> bool:
    shown = labels[half]
    counts = torch.bincount(shown[shown != UNLABELLED], minlength=groups)
    return int(counts.min()) >= LEAST_PER_HALF
