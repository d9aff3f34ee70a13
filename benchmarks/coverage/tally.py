"""Results of a cell: coverage and width of each interval, and errors of the estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.coverage.settings import CONFIDENCE, Setting

Floats = NDArray[np.float64]

OURS = "ours"
"""The interval that an audit prints."""

METHODS = {
    OURS: "this project",
    "bootstrap": "plug-in, percentile bootstrap",
    "joint": "joint region",
    "wilson": "Wilson",
    "clopper_pearson": "Clopper–Pearson",
}
"""Names of a figure's intervals."""

ROUNDING = 1e-9
"""Tolerance: an interval whose end equals the true value contains it, despite rounding."""


@dataclass(frozen=True)
class Tally:
    """One figure in one cell.

    Attributes:
        figure: Its name.
        setting: The cell.
        samples: Number of samples; 0 if every outcome was counted with its probability.
        truth: True value, averaged over the samples if each has its own.
        coverage: Interval → share of samples whose interval contains the true value.
        width: Interval → mean width.
        error: Mean error of the estimate, None if it is not meant to be unbiased.
        standard_errors: The same in Monte-Carlo standard errors.
        confidence: Nominal coverage of the interval.
    """

    figure: str
    setting: Setting
    samples: int
    truth: float
    coverage: dict[str, float]
    width: dict[str, float]
    error: float | None = None
    standard_errors: float | None = None
    confidence: float = CONFIDENCE


def tallied(
    figure: str,
    setting: Setting,
    truth: ArrayLike,
    intervals: Mapping[str, ArrayLike],
    *,
    weights: ArrayLike | None = None,
    errors: ArrayLike | None = None,
) -> Tally:
    """Count how often intervals contain the true value.

    Args:
        figure: Name of the figure.
        setting: The cell.
        truth: The true value, one number or one per outcome (m,).
        intervals: Name → intervals of the outcomes, shape (m, 2).
        weights: Frequencies of the outcomes, whole numbers of shape (m,), or their probabilities, which add up to 1; by
            default each occurs once.
        errors: Errors of the estimate, shape (m,), if it is meant to be unbiased.
    """
    ends = {name: np.asarray(found, dtype=np.float64) for name, found in intervals.items()}
    truths = np.broadcast_to(np.asarray(truth, dtype=np.float64), len(ends[OURS]))
    times = np.ones(len(ends[OURS])) if weights is None else np.asarray(weights, dtype=np.float64)
    samples = 0 if abs(times.sum() - 1) < ROUNDING and len(times) > 1 else round(times.sum())
    coverage, width = {}, {}
    for name, found in ends.items():
        own = times[: len(found)]  # a comparison may use the first samples only
        due = truths[: len(found)]
        held = (found[:, 0] <= due + ROUNDING) & (due - ROUNDING <= found[:, 1])
        coverage[name] = float(np.average(held, weights=own))
        width[name] = float(np.average(found[:, 1] - found[:, 0], weights=own))
    error, standard_errors = None, None
    if errors is not None:
        error, standard_errors = _mean_error(np.asarray(errors, dtype=np.float64), times)
    mean_truth = float(np.average(truths, weights=times))
    return Tally(figure, setting, samples, mean_truth, coverage, width, error, standard_errors)


def _mean_error(errors: Floats, times: Floats) -> tuple[float, float]:
    mean = float(np.average(errors, weights=times))
    spread = math.sqrt(float(np.average((errors - mean) ** 2, weights=times)) / times.sum())
    return mean, mean / spread if spread else 0.0
