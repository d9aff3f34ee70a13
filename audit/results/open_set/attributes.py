"""Attributes without a name: components of the embeddings that have two states in most prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.open_set.components import components_of
from audit.measure.open_set.two_states import Levels, States, fit_states, levels_of
from audit.measure.open_set.usual_level import UsualLevels
from audit.results.open_set.sample import Sample

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

SIZES = (8, 12, 16, 24, 32)
"""Numbers of components that are tried."""

SEPARATION = 3.0
"""Least distance of the two states, in spreads; a threshold between them then classifies 7 % of the images wrongly."""

READ_BY_LEVEL = 3.5
"""Least distance of the two states, in spreads, for a rate to be read by its level. A component that separates them
less may not respond to the attribute in every prompt, and one mode would be taken for a rate of 0."""

EVIDENCE = 3.0
"""Least log-likelihood ratio of two states against one for a prompt whose rate counts."""

LEAST_IMAGES = 2
"""Least images of a prompt in each state."""

SHOWN_BY = 1 / 3
"""Share of the prompts that must show both states, so that they are an attribute and not the look of some prompts."""

MOST_PROMPTS = 2 / 3
"""Share of the prompts that must show both states, or one of them at a usual level."""

ALIKE = 0.5
"""Correlation within prompts from which two attributes are one."""

NEARLY_EQUAL = 0.9
"""Correlation of scores from which a component of another size is not fitted again."""


@dataclass(frozen=True)
class Unnamed:
    """An attribute with two states; the upper state is the rarer one.

    Attributes:
        scores: (n,) score of every image.
        states: The two states.
        discovery: What the discovery seeds say.
        held_out: What the held-out seeds say.
        known: (P,) prompts whose rate is identified on the discovery seeds.
        confirmable: (P,) those of them whose rate is identified on the held-out seeds as well.
    """

    scores: Floats
    states: States
    discovery: Levels
    held_out: Levels
    known: Bools
    confirmable: Bools


def unnamed_attributes(sample: Sample, sizes: Sequence[int] = SIZES) -> tuple[Unnamed, ...]:
    """Find the attributes on the discovery seeds, those that say something of most prompts first.

    Of equal ones the clearest is first. Of attributes that are alike the first is kept.

    Args:
        sample: The images.
        sizes: Numbers of components that are tried.
    """
    first = sample.half(held_out=False)
    components = components_of(sample.vectors[first], sample.prompts[first], sample.indicators[first], sizes)
    scores = components.scores(sample.vectors, sample.indicators)
    found = [one for column in _distinct(scores, sample) if (one := _attribute(sample, scores[:, column])) is not None]
    found.sort(key=lambda one: (-one.known.sum(), -one.states.separation))
    kept: list[Unnamed] = []
    for one in found:
        if all(abs(agreement(sample, one, other)) < ALIKE for other in kept):
            kept.append(one)
    return tuple(kept)


def _distinct(scores: Floats, sample: Sample) -> list[int]:
    """Return the columns of scores (n, K), without later ones that are nearly equal to an earlier one."""
    first = sample.half(held_out=False)
    if not scores.shape[1]:
        return []
    correlations = np.abs(np.atleast_2d(np.corrcoef(scores[first], rowvar=False)))
    kept: list[int] = []
    for column in range(scores.shape[1]):
        if all(correlations[column, other] < NEARLY_EQUAL for other in kept):
            kept.append(column)
    return kept


def _attribute(sample: Sample, scores: Floats) -> Unnamed | None:
    first, held = sample.half(held_out=False), sample.half(held_out=True)
    states, discovery = fit_states(scores[first], sample.prompts[first])
    shown = discovery.identified(sample.prompts[first], EVIDENCE, LEAST_IMAGES)
    if states.separation < SEPARATION or shown.sum() < max(2, SHOWN_BY * len(sample.names)):
        return None
    if np.median(discovery.rates[shown]) > 0.5:  # the upper state is the rarer one
        scores = -scores
        discovery = levels_of(scores[first], sample.prompts[first], states)
        shown = discovery.identified(sample.prompts[first], EVIDENCE, LEAST_IMAGES)
    is_clear = states.separation >= READ_BY_LEVEL
    usual = UsualLevels.of(discovery, shown, states) if is_clear else None
    discovery, known = _placed(scores[first], sample.prompts[first], states, discovery, usual)
    if known.sum() < MOST_PROMPTS * len(sample.names):
        return None
    held_out = levels_of(scores[held], sample.prompts[held], states)
    held_out, again = _placed(scores[held], sample.prompts[held], states, held_out, usual)
    return Unnamed(scores, states, discovery, held_out, known, known & again)


def _placed(
    scores: Floats, prompts: NDArray[np.integer[Any]], states: States, levels: Levels, usual: UsualLevels | None
) -> tuple[Levels, Bools]:
    """Return the levels, and the prompts whose rate their shape or their level identifies."""
    shown = levels.identified(prompts, EVIDENCE, LEAST_IMAGES)
    return (levels, shown) if usual is None else usual.read(scores, prompts, states, levels, shown)


def agreement(sample: Sample, one: Unnamed, other: Unnamed) -> float:
    """Return the correlation of two attributes' states on the discovery seeds, within prompts."""
    own = sample.prompts[sample.half(held_out=False)]
    first, second = (_centred(each.discovery.upper.astype(float), own) for each in (one, other))
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0


def _centred(values: Floats, prompts: NDArray[np.integer[Any]]) -> Floats:
    count = np.maximum(np.bincount(prompts), 1)
    found: Floats = values - (np.bincount(prompts, values) / count)[prompts]
    return found
