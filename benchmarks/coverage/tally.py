"""What a cell gave: how often each interval held the truth, how wide it was, how far off the estimate was."""

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
"""Intervals of a figure, and what they are called."""

ROUNDING = 1e-9
"""An interval whose end is the truth holds it, whatever the last digit is."""


@dataclass(frozen=True)
class Tally:
    """One figure in one cell.

    Attributes:
        figure: Its name.
        setting: The cell.
        samples: Samples drawn; 0 if every outcome was counted with its probability.
        truth: What the interval is to hold, on average over the samples if each has its own.
        coverage: Interval → share of samples in which it held the truth.
        width: Interval → mean width.
        error: Mean error of the estimate, None if it is not meant to be without bias.
        standard_errors: The same in Monte-Carlo standard errors.
        confidence: Coverage that the interval claims.
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
    """Count how often intervals hold the truth.

    Args:
        figure: Name of the figure.
        setting: The cell.
        truth: What they are to hold, one number or one for each outcome (m,).
        intervals: Name → intervals of the outcomes, shape (m, 2).
        weights: How often each outcome came, whole numbers of shape (m,), or its probability, which add up to 1; once
            each unless given.
        errors: Errors of the estimate, shape (m,), if it is meant to be without bias.
    """
    ends = {name: np.asarray(found, dtype=np.float64) for name, found in intervals.items()}
    truths = np.broadcast_to(np.asarray(truth, dtype=np.float64), len(ends[OURS]))
    times = np.ones(len(ends[OURS])) if weights is None else np.asarray(weights, dtype=np.float64)
    samples = 0 if abs(times.sum() - 1) < ROUNDING and len(times) > 1 else round(times.sum())
    coverage, width = {}, {}
    for name, found in ends.items():
        own = times[: len(found)]  # a comparison may be made on the first samples only
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
