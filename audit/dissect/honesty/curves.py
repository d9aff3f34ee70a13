"""Deletion and insertion: a group's probability while its features are set to their mean, or all but them are.

After RISE (Petsiuk et al. 2018), in the space of latents instead of pixels. Decoder and head are affine, so the logits
change by the sum of the effects of the latents, and every curve follows from one small matrix per image and step. The
reconstruction error stays as it is. The heads measure the probability; no picture is drawn.

Shapes: n images, N latents, L of them, G groups, F features, R random sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from audit.dissect.features.attribution import latent_effects
from audit.dissect.group_heads import UNLABELLED
from audit.dissect.lens import Lens
from audit.dissect.recording.recording import Recording
from audit.dissect.settings import rows_per_block
from audit.records.inside.honesty import Curve, area

MOST_STEPS = 10
"""Most sampler steps that a curve averages over, evenly spaced."""

DRAWS = 20
"""Random sets of features behind a curve."""

NEIGHBOURS = 20
"""A random feature is one of so many with the most similar activity."""


@dataclass(frozen=True)
class GroupCurves:
    """Deletion and insertion of one group's features.

    Attributes:
        deletion: The features are set to their mean.
        insertion: All latents but these are at their mean.
        random_activity: Mean activation of the random features as a multiple of the features' own.
    """

    deletion: Curve
    insertion: Curve
    random_activity: float


def curve_steps(steps: int) -> list[int]:
    """Return the sampler steps that the curves average over."""
    return sorted({round(place) for place in np.linspace(0, steps - 1, min(steps, MOST_STEPS))})


def group_curves(lens: Lens, recording: Recording, attribute: str) -> dict[str, GroupCurves]:
    """Return the curves of each group of an attribute that has features and enough others to compare them with."""
    rows = (recording.labels[attribute] != UNLABELLED).nonzero().flatten()
    activity = _activity(lens, recording, rows)
    orders: dict[str, Tensor] = {}
    for number, (group, features) in enumerate(lens.features[attribute].items()):
        latents = [feature.latent for feature in features]
        drawn = random_sets(latents, activity, lens.latents(attribute), np.random.default_rng(number))
        if drawn.numel():
            orders[group] = torch.cat([torch.tensor([latents]), drawn])
    if not orders:
        return {}
    steps = [_at_step(lens, recording, attribute, step, rows, orders) for step in curve_steps(recording.steps)]
    means = {group: reduce(torch.add, (own[group] for own in steps)) / len(steps) for group in orders}
    return {
        group: GroupCurves(
            _curve(means[group][0]), _curve(means[group][1]), float(activity[own[1:]].mean() / activity[own[0]].mean())
        )
        for group, own in orders.items()
    }


def random_sets(
    latents: Sequence[int], activity: Tensor, excluded: Sequence[int], draws: np.random.Generator
) -> Tensor:
    """Draw ``DRAWS`` sets (R, F) of other latents; the one at place j has an activity like that of feature j.

    Args:
        latents: F features.
        activity: (N,) mean activation.
        excluded: Latents that are never drawn; latents that are not active are not drawn either.
        draws: Source of randomness.

    Returns:
        The sets, empty if there are fewer than F other latents.
    """
    allowed = activity > 0
    allowed[list(excluded)] = False
    pool = allowed.nonzero().flatten()
    if len(pool) < len(latents):
        return torch.empty(0, len(latents), dtype=torch.long)
    own = activity[list(latents)].clamp_min(1e-12)
    distance = (activity[pool].log()[None] - own.log()[:, None]).abs()
    near = pool[distance.argsort(dim=1, stable=True)].tolist()
    return torch.tensor([_one_set(near, draws) for _ in range(DRAWS)])


def _one_set(near: Sequence[Sequence[int]], draws: np.random.Generator) -> list[int]:
    """Draw one latent for each feature from its unused nearest ones."""
    chosen = [0] * len(near)
    used: set[int] = set()
    for place in draws.permutation(len(near)):
        free = [latent for latent in near[place] if latent not in used][:NEIGHBOURS]
        chosen[place] = free[draws.integers(len(free))]
        used.add(chosen[place])
    return chosen


def _activity(lens: Lens, recording: Recording, rows: Tensor) -> Tensor:
    """Return the mean value (N,) of every latent over images, positions and the steps of the curves."""
    total = torch.zeros(lens.sae.shape.n_latents, dtype=torch.float64)
    steps = curve_steps(recording.steps)
    for step in steps:
        for block in _blocks(lens, recording, rows, 1):
            codes = lens.sae.codes_of_map(recording.at(step, block).to(lens.device))
            total.index_add_(0, codes.indices.flatten().cpu(), codes.values.flatten().double().cpu())
    positions = recording.layout.numbers // lens.sae.shape.d_in
    return total / (len(steps) * len(rows) * positions)


def _at_step(
    lens: Lens, recording: Recording, attribute: str, step: int, rows: Tensor, orders: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return for each group the probabilities (2, 1 + R, 1 + F) of deletion and insertion.

    Args:
        lens: The lens.
        recording: What it was made from.
        attribute: The attribute.
        step: Sampler step.
        rows: Images with a group of the attribute.
        orders: Group → latents (1 + R, F), its features in row 0 and the random sets below.
    """
    latents = sorted({latent for order in orders.values() for latent in order.flatten().tolist()})
    place = torch.zeros(lens.sae.shape.n_latents, dtype=torch.long)
    place[latents] = torch.arange(len(latents))
    logits, parts, whole = _effects(lens, recording, attribute, step, rows, latents)
    to_mean, all_to_mean = parts.mean(0) - parts, whole.mean(0) - whole
    labels, found = recording.labels[attribute][rows], {}
    for number, group in enumerate(lens.groups[attribute]):
        if group in orders:
            shown = labels == number
            moved = to_mean[shown]
            curves = [
                _probabilities(logits[shown], all_to_mean[shown], moved[:, own], number) for own in place[orders[group]]
            ]
            found[group] = torch.stack(curves, 1)
    return found


def _probabilities(logits: Tensor, all_to_mean: Tensor, to_mean: Tensor, group: int) -> Tensor:
    """Return the mean probability (2, 1 + F) of a group after 0 to F deletions, and after 0 to F insertions.

    Args:
        logits: (n, G) of the images.
        all_to_mean: (n, G) change of the logits if all latents are set to their means.
        to_mean: (n, F, G) change if one latent is, in order.
        group: The group.
    """
    moved = torch.nn.functional.pad(to_mean.cumsum(1), (0, 0, 1, 0))
    deleted = (logits[:, None] + moved).softmax(-1)[..., group].mean(0)
    inserted = ((logits + all_to_mean)[:, None] - moved).softmax(-1)[..., group].mean(0)
    return torch.stack([deleted, inserted])


def _effects(
    lens: Lens, recording: Recording, attribute: str, step: int, rows: Tensor, latents: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (n, G), what each of some latents adds to them (n, L, G), and what all together add (n, G)."""
    positions = recording.layout.numbers // recording.shape[0]
    effects = latent_effects(lens.sae, lens.heads.weights[attribute][step], positions)
    logits, parts, whole = [], [], []
    for block in _blocks(lens, recording, rows, effects.shape[2]):
        maps = recording.at(step, block).to(lens.device)
        codes = lens.sae.codes_of_map(maps)
        places = torch.arange(effects.shape[0], device=effects.device)[:, None]
        added = (effects[places, codes.indices] * codes.values.unsqueeze(-1)).flatten(1, 2)  # (B, P·k, G)
        dense = added.new_zeros(len(block), effects.shape[1], effects.shape[2])
        dense.scatter_add_(1, codes.indices.flatten(1).unsqueeze(-1).expand_as(added), added)
        logits.append(lens.heads.logits(attribute, step, maps).cpu())
        parts.append(dense[:, list(latents)].cpu())
        whole.append(added.sum(1).cpu())
    return torch.cat(logits).double(), torch.cat(parts).double(), torch.cat(whole).double()


def _blocks(lens: Lens, recording: Recording, rows: Tensor, groups: int) -> Iterator[Tensor]:
    """Split rows so that maps, codes and dense effects of a block fit in memory."""
    shape, numbers = lens.sae.shape, recording.layout.numbers
    codes = numbers // shape.d_in * shape.width * groups
    yield from torch.split(rows, rows_per_block(4 * (numbers + 3 * codes + shape.n_latents * groups)))


def _curve(probabilities: Tensor) -> Curve:
    """Return the curve of a group's features (row 0) beside those of the random sets (other rows)."""
    own, drawn = probabilities[0], probabilities[1:]
    areas = [area(tuple(row)) for row in drawn.tolist()]
    return Curve(
        _rounded(own),
        _rounded(drawn.mean(0)),
        _rounded(drawn.amin(0)),
        _rounded(drawn.amax(0)),
        (round(min(areas), 5), round(max(areas), 5)),
    )


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values.tolist())
