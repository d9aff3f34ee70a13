"""Scores of prompts with their intervals, and which of them differ from the neutral prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit.analyses.directions import Directions
from audit.records.inside.exploration import Score

Floats = NDArray[np.floating[Any]]

RESAMPLES = 9999
NEUTRAL = ""
"""In place of a prompt's id in scores of the neutral prompt."""


def scores_of(directions: Directions, prompts: Sequence[tuple[str, str]], rate: float) -> tuple[Score, ...]:
    """Return the score of every prompt on every axis.

    The interval is Student's, over seeds: it is about other noise for this prompt, not about other prompts. The p-value
    is that of a permutation test with the signs of the differences from the neutral prompt at equal noise; it is
    corrected over all prompts and axes by the procedure of Benjamini and Hochberg (1995).

    Args:
        directions: Directions of all texts.
        prompts: (id, text) of each prompt.
        rate: Rate of false discoveries.
    """
    rows = directions.rows([text for _, text in prompts])
    found = directions.scores[rows]  # (n, A, seeds)
    changes = found - directions.scores[0]
    p = _p_values(changes.reshape(-1, changes.shape[-1])) if found.size else None
    differs = np.zeros(found.shape[:2], bool)
    if p is not None:
        differs = (stats.false_discovery_control(p) <= rate).reshape(differs.shape)
    low, high = _intervals(found)
    return tuple(
        Score(
            prompt=prompt,
            axis=axis,
            value=float(found[row, column].mean()),
            low=_number(low, row, column),
            high=_number(high, row, column),
            change=float(changes[row, column].mean()),
            p=None if p is None else float(p[row * len(directions.axes) + column]),
            differs=bool(differs[row, column]),
            text_score=float(directions.text_scores[rows[row], column]),
        )
        for row, (prompt, _) in enumerate(prompts)
        for column, axis in enumerate(directions.axes)
    )


def neutral_scores(directions: Directions) -> tuple[Score, ...]:
    """Return the scores of the neutral prompt, which differs from itself nowhere."""
    low, high = _intervals(directions.scores[:1])
    return tuple(
        Score(
            prompt=NEUTRAL,
            axis=axis,
            value=float(directions.scores[0, column].mean()),
            low=_number(low, 0, column),
            high=_number(high, 0, column),
            change=0.0,
            p=None,
            differs=False,
            text_score=float(directions.text_scores[0, column]),
        )
        for column, axis in enumerate(directions.axes)
    )


def _intervals(values: Floats) -> tuple[Floats | None, Floats | None]:
    """Return the ends of Student's 95 % interval over the last axis; None for one seed."""
    seeds = values.shape[-1]
    if seeds < 2:
        return None, None
    half = stats.t.ppf(0.975, seeds - 1) * values.std(-1, ddof=1) / np.sqrt(seeds)
    return values.mean(-1) - half, values.mean(-1) + half


def _p_values(changes: Floats) -> Floats | None:
    """Return two-sided p-values of changes (rows, seeds) being symmetric about 0; None for one seed.

    All sign patterns are tried where there are at most 9,999, and as many random ones otherwise, which are the same for
    every row.
    """
    seeds = changes.shape[1]
    if seeds < 2:
        return None
    if 2**seeds <= RESAMPLES:
        patterns = 1 - 2 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)
        extra = 0
    else:
        patterns = np.random.default_rng(0).choice([-1, 1], (RESAMPLES, seeds))
        extra = 1  # the observed signs are one of the patterns
    observed = np.abs(changes.sum(1))
    counts = np.zeros(len(changes))
    for block in np.array_split(np.arange(len(changes)), max(1, len(changes) // 256)):
        sums = np.abs(changes[block] @ patterns.T.astype(float))
        counts[block] = (sums >= observed[block, None] * (1 - 1e-9)).sum(1)
    found: Floats = (counts + extra) / (len(patterns) + extra)
    return found


def _number(values: Floats | None, row: int, column: int) -> float | None:
    return None if values is None else float(values[row, column])
