"""Requirements of the study on coverage and bias, and the cells that miss them."""

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
"""Required coverage of 95 % intervals in every cell, in cells with eight images, and the largest mean coverage."""

ERRORS, SAMPLES = 3, 2000
"""Allowed shortfall at other confidences, in standard errors of this number of samples."""

CHANCE = 0.001
"""A cell is clearly short if an interval that just meets the requirement would rarely show so low a coverage."""


def line(tally: Tally) -> float:
    """Return the required coverage of a cell."""
    if tally.confidence == CONFIDENCE:
        return LEAST_OF_EIGHT if tally.setting.n <= 8 else LEAST
    return tally.confidence - ERRORS * math.sqrt(tally.confidence * (1 - tally.confidence) / SAMPLES)


def is_short(tally: Tally) -> bool:
    """Return whether a cell has less coverage than required."""
    return tally.coverage[OURS] < line(tally)


def is_clearly_short(tally: Tally) -> bool:
    """Return whether a cell is short by more than the noise of its samples explains."""
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
        largest: The largest absolute value.
        by_chance: Probability that the largest of as many unbiased cells is at least this large.
        mean: Mean over the cells, in standard errors of that mean: shows a bias too small for any one cell.
    """

    cells: int
    within: float
    largest: float
    by_chance: float
    mean: float

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Bias | None:
        """Collect the cells of an estimator that is meant to be unbiased."""
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
