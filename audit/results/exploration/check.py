"""How well scores predict perceived shares: which prompts are sampled for it, and the rank correlation with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit.records.inside.exploration import Checked, Score

Floats = NDArray[np.floating[Any]]

RESAMPLES = 2000


def prompts_to_check(scores: Sequence[Score], axes: Sequence[str], count: int) -> tuple[str, ...]:
    """Choose prompts whose scores are spread over each axis: from its ends inwards, one axis after the other.

    Args:
        scores: Scores of all prompts.
        axes: Axes of audited attributes.
        count: Most prompts.
    """
    ranked = {axis: sorted((score for score in scores if score.axis == axis), key=_by_value) for axis in axes}
    chosen: dict[str, None] = {}
    longest = max((len(rows) for rows in ranked.values()), default=0)
    for place in range(longest):
        for rows in ranked.values():
            if len(chosen) < min(count, len(rows)):
                chosen.setdefault(rows[_spread(place, len(rows))].prompt)
    return tuple(chosen)


def _by_value(score: Score) -> tuple[float, str]:
    return score.value, score.prompt


def _spread(place: int, length: int) -> int:
    """Return the ``place``-th of the positions 0 … length − 1, in an order that starts at both ends and then halves."""
    order: list[int] = []
    parts = 1
    while len(order) < length:
        points = np.linspace(0, length - 1, parts + 1).round().astype(int)
        order += [int(point) for point in points if int(point) not in order]
        parts *= 2
    return order[place]


def check(axis: str, scores: Sequence[Score], prompts: Sequence[str], counts: Floats, images: int) -> Checked:
    """Compare the scores of an axis with what a judge perceives.

    Args:
        axis: An audited attribute.
        scores: Scores of all prompts.
        prompts: Ids of the sampled prompts.
        counts: (prompts, groups) images in which the judge perceived a group, groups in the order of the attribute.
        images: Images of each prompt.
    """
    known = counts.sum(1) > 0
    places = counts @ np.linspace(0, 1, counts.shape[1]) / np.maximum(counts.sum(1), 1)
    by_prompt = {score.prompt: score for score in scores if score.axis == axis}
    own = [by_prompt[prompt] for prompt in prompts]
    values, texts = np.array([s.value for s in own])[known], np.array([s.text_score for s in own])[known]
    rho, interval = _spearman(values, places[known]), _interval(values, places[known])
    return Checked(
        axis=axis,
        prompts=tuple(prompts),
        images=images,
        classified=int(counts.sum()),
        perceived=_perceived(prompts, places, known),
        rho=rho,
        low=interval[0],
        high=interval[1],
        text_rho=_spearman(texts, places[known]),
    )


def _perceived(prompts: Sequence[str], places: Floats, known: NDArray[np.bool_]) -> Mapping[str, float]:
    return {prompt: float(place) for prompt, place, one in zip(prompts, places, known, strict=True) if one}


def _spearman(values: Floats, places: Floats) -> float | None:
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(places) == 0:
        return None
    return float(stats.spearmanr(values, places).statistic)


def _interval(values: Floats, places: Floats) -> tuple[float | None, float | None]:
    """Return a percentile interval over resampled prompts; resamples in which all prompts agree say nothing."""
    if _spearman(values, places) is None:
        return None, None
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    found = [rho for rows in draws if (rho := _spearman(values[rows], places[rows])) is not None]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
