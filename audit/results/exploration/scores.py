"""Scores of prompts with their intervals, and which of them differ from the neutral prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit.analyses.directions import Directions
from audit.records.inside.exploration import Move, Score

Floats = NDArray[np.floating[Any]]

RESAMPLES = 9999
NEUTRAL = ""
"""In place of a prompt's id in scores of the neutral prompt."""


@dataclass(frozen=True)
class Modified:
    """A prompt with a word before what it is about.

    Attributes:
        prompt: Id of the prompt.
        text: Its text.
        modifier: The word.
        modified: The text with the word.
    """

    prompt: str
    text: str
    modifier: str
    modified: str


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
    p, differs = _tested(changes, rate)
    low, high = _intervals(found)
    return tuple(
        Score(
            prompt=prompt,
            axis=axis,
            value=float(found[row, column].mean()),
            low=_number(low, row, column),
            high=_number(high, row, column),
            change=float(changes[row, column].mean()),
            p=_number(p, row, column),
            differs=bool(differs[row, column]),
            text_score=float(directions.text_scores[rows[row], column]),
        )
        for row, (prompt, _) in enumerate(prompts)
        for column, axis in enumerate(directions.axes)
    )


def moves_of(directions: Directions, modified: Sequence[Modified], rate: float) -> tuple[Move, ...]:
    """Return how far words move prompts; intervals and p-values are those of the differences at equal noise.

    Args:
        directions: Directions of all texts.
        modified: The prompts with the words.
        rate: Rate of false discoveries, over all of them and all axes.
    """
    plain, changed = (directions.rows([getattr(one, name) for one in modified]) for name in ("text", "modified"))
    changes = directions.scores[changed] - directions.scores[plain]  # (n, A, seeds)
    p, differs = _tested(changes, rate)
    low, high = _intervals(changes)
    return tuple(
        Move(
            prompt=one.prompt,
            modifier=one.modifier,
            axis=axis,
            change=float(changes[row, column].mean()),
            low=_number(low, row, column),
            high=_number(high, row, column),
            p=_number(p, row, column),
            differs=bool(differs[row, column]),
        )
        for row, one in enumerate(modified)
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


def _tested(changes: Floats, rate: float) -> tuple[Floats | None, NDArray[np.bool_]]:
    """Return p-values of changes (n, A, seeds), None for one seed, and which of them are found at the rate."""
    p = _p_values(changes.reshape(-1, changes.shape[-1])) if changes.size else None
    if p is None:
        return None, np.zeros(changes.shape[:2], bool)
    return p.reshape(changes.shape[:2]), (stats.false_discovery_control(p) <= rate).reshape(changes.shape[:2])


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
