"""Sampling weights for denoiser training.

n is the number of examples. Labels are as in ``make.Drawings``: question → int64 (n,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS
from audit.calibration.world import World
from audit.training.captions import names_all_groups, names_no_group

DESCRIBED = 0.5
"""Share of the second stage's examples whose captions name every group."""

UNDESCRIBED = 0.9
"""Share of the third stage's examples whose captions name no group."""


def sorted_by_content(labels: Mapping[str, Tensor], captions: Sequence[str]) -> Tensor:
    """Return the positions (n,) that sort examples by caption and labels, so that neighbours are similar."""
    named = np.array([not names_no_group(caption) for caption in captions])
    least_first = [labels[question].numpy() for question in (*reversed(ATTRIBUTES), "occupation")]
    return torch.from_numpy(np.lexsort((*least_first, named)))


def on_descriptions(captions: Sequence[str]) -> Tensor:
    """Weights (n,) with a total of ``DESCRIBED`` for captions that name every group, which are rare."""
    full = torch.tensor([names_all_groups(caption) for caption in captions], dtype=torch.float64)
    return _mostly(full, DESCRIBED)


def on_planted_shares(world: World, labels: Mapping[str, Tensor], captions: Sequence[str]) -> Tensor:
    """Weights (n,) with a total of ``UNDESCRIBED`` for captions that name no group, in exactly the planted shares.

    The drawings are a sample from the planted table and deviate by a point or two. Post-stratification weights each
    combination of groups to its planted share.
    """
    plain = torch.tensor([names_no_group(caption) for caption in captions])
    weights = torch.zeros(len(captions), dtype=torch.float64)
    for occupation in world.occupations:
        own = torch.nonzero(plain & (labels["occupation"] == OCCUPATIONS.index(occupation)))[:, 0]
        cells = tuple(labels[attribute][own] for attribute in ATTRIBUTES)
        joint = torch.from_numpy(world.joint(occupation))
        drawn = torch.zeros_like(joint).index_put(cells, torch.ones(len(own), dtype=joint.dtype), accumulate=True)
        weights[own] = (_as_far_as_drawn(joint, drawn) / drawn.clamp(min=1))[cells]
    return _mostly(weights, UNDESCRIBED)


def _as_far_as_drawn(joint: Tensor, drawn: Tensor) -> Tensor:
    """Give the share of combinations (2, 3, 4) that were not drawn to those with the same gender and age, or gender."""
    cells = joint * (drawn > 0)
    for axes in ((2,), (1, 2)):
        cells = cells * joint.sum(axes, keepdim=True) / cells.sum(axes, keepdim=True).clamp(min=1e-12)
    return cells


def _mostly(weights: Tensor, share: float) -> Tensor:
    """Weight examples by ``weights`` (n,) with a total of ``share``, and uniformly with the rest; the sum is 1."""
    return (1 - share) / len(weights) + share * weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
