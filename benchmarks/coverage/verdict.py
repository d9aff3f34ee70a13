"""What the study is held against, and what fell short of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom

from benchmarks.coverage.settings import CONFIDENCE
from benchmarks.coverage.tally import OURS, Tally

LEAST, LEAST_OF_EIGHT, MOST_ON_AVERAGE = 0.93, 0.92, 0.985
"""Coverage asked of 95 % in every cell, in those with eight images, and at most on average over a figure's cells."""

ERRORS, SAMPLES = 3, 2000
"""Of another confidence a cell may fall short by so many standard errors of so many samples."""

CHANCE = 0.001
"""A cell is clearly short if a coverage that just meets its line would seldom look so low."""


def line(tally: Tally) -> float:
    """Return the coverage that is asked of a cell."""
    if tally.confidence == CONFIDENCE:
        return LEAST_OF_EIGHT if tally.setting.n <= 8 else LEAST
    return tally.confidence - ERRORS * math.sqrt(tally.confidence * (1 - tally.confidence) / SAMPLES)


def is_short(tally: Tally) -> bool:
    """Return whether a cell covers less often than is asked of it."""
    return tally.coverage[OURS] < line(tally)


def is_clearly_short(tally: Tally) -> bool:
    """Return whether it does so by more than the noise of its samples explains."""
    if not tally.samples:
        return is_short(tally)
    held = round(tally.coverage[OURS] * tally.samples)
    return bool(binom.cdf(held, tally.samples, line(tally)) < CHANCE)


@dataclass(frozen=True)
class Bias:
    """Mean errors of one estimator over its cells, in Monte-Carlo standard errors.

    Attributes:
        cells: Cells.
        within: Share of them within 3 standard errors of 0; 99.73 % is expected without bias.
        largest: The largest, whatever its sign.
        by_chance: Probability that the largest of so many unbiased cells is at least this large.
        mean: Mean over the cells, in standard errors of that mean: shows a bias too small for any one cell.
    """

    cells: int
    within: float
    largest: float
    by_chance: float
    mean: float

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Bias | None:
        """Gather the cells of an estimator that is meant to be without bias."""
        errors = np.array([tally.standard_errors for tally in tallies if tally.standard_errors is not None])
        if not errors.size:
            return None
        largest = float(np.abs(errors).max())
        by_chance = -math.expm1(errors.size * math.log1p(-2 * float(ndtr(-largest))))
        mean = float(errors.mean() * math.sqrt(errors.size))
        return cls(errors.size, float((np.abs(errors) <= 3).mean()), largest, by_chance, mean)


def by_figure(tallies: Sequence[Tally]) -> dict[tuple[str, float], list[Tally]]:
    """Group tallies by figure and confidence, in their order."""
    groups: dict[tuple[str, float], list[Tally]] = {}
    for tally in tallies:
        groups.setdefault((tally.figure, tally.confidence), []).append(tally)
    return groups
