"""Predicts the edit strength of an unseen prompt from its first denoising step, and estimates the prediction error.

The output of the denoiser for pure noise already shows which groups a prompt will draw. If an edit works, its searched
strength is almost a linear function of the group head's margin at step 0 (:mod:`audit.dissect.observer`).

This module loads no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.dissect.strengths import GroupStrength

Floats = NDArray[np.float64]

FEWEST_PROMPTS = 4
"""Smallest number of prompts for a line; with fewer, it cannot be validated."""
TRUSTED_ERROR = 0.5
"""Largest accepted leave-one-out error of a strength: one step of the ladder in its fine part."""
EXACT = 0.05
"""Error that is always accepted; all prompts then have the same strength, within a tenth of a step of the ladder."""
TRUSTED_RATIO = 0.75
"""Largest accepted ratio of a line's error to the error of the mean; above it, the projection is not informative."""


@dataclass(frozen=True)
class StrengthLine:
    """Strength of one group's edit as a linear function of the projection, clipped to 0 and the largest strength.

    Attributes:
        intercept: Strength at projection 0.
        slope: Strength per unit of the projection.
        highest: Largest strength that the search selected for the group.
        error: Leave-one-out root-mean-square error.
        error_of_mean: The same error if the prediction is the mean of the other prompts.
        prompts: Number of prompts for the fit.
    """

    intercept: float
    slope: float
    highest: float
    error: float
    error_of_mean: float
    prompts: int

    @property
    def trusted(self) -> bool:
        """Whether it is accurate enough for unseen prompts."""
        return self.error <= max(EXACT, min(TRUSTED_ERROR, TRUSTED_RATIO * self.error_of_mean))

    def strength(self, projection: float) -> GroupStrength:
        """Predict a strength."""
        raw = self.intercept + self.slope * projection
        return GroupStrength(round(float(np.clip(raw, 0, self.highest)), 3), "predicted")

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


Prediction = dict[str, dict[str, StrengthLine]]
"""Attribute → group → line; strengths of an attribute without lines are searched."""


def fit_line(projections: Sequence[float], strengths: Sequence[float]) -> StrengthLine | None:
    """Fit by least squares and validate by leave-one-out; None for fewer than ``FEWEST_PROMPTS`` prompts."""
    x, y = np.asarray(projections, dtype=float), np.asarray(strengths, dtype=float)
    if len(x) < FEWEST_PROMPTS:
        return None
    left_out = [np.arange(len(x)) != row for row in range(len(x))]
    predicted = [_clipped(_least_squares(x[rest], y[rest]), x[~rest], y[rest].max())[0] for rest in left_out]
    means = [float(y[rest].mean()) for rest in left_out]
    intercept, slope = _least_squares(x, y)
    return StrengthLine(
        intercept=intercept,
        slope=slope,
        highest=float(y.max()),
        error=_root_mean_square(np.asarray(predicted) - y),
        error_of_mean=_root_mean_square(np.asarray(means) - y),
        prompts=len(x),
    )


def fit_lines(
    projections: Mapping[str, Mapping[str, float]], strengths: Mapping[str, Mapping[str, GroupStrength]]
) -> dict[str, StrengthLine]:
    """Fit each group's line over the prompts of a lens; groups without a line are omitted.

    Args:
        projections: Prompt id → group → projection.
        strengths: Prompt id → group → searched strength, for the same prompts.
    """
    lines = {
        group: fit_line(
            [projections[prompt][group] for prompt in strengths],
            [by_group[group].strength for by_group in strengths.values()],
        )
        for group in next(iter(strengths.values()), {})
    }
    return {group: line for group, line in lines.items() if line is not None}


def is_trusted(lines: Mapping[str, StrengthLine], groups: Sequence[str]) -> bool:
    """Return whether all groups of an attribute have an accurate line; a search always includes all groups."""
    return all(group in lines and lines[group].trusted for group in groups)


def prediction_of_data(data: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Prediction:
    """Read lines from plain data."""
    return {
        attribute: {group: StrengthLine(**line) for group, line in by_group.items()}
        for attribute, by_group in data.items()
    }


def _least_squares(x: Floats, y: Floats) -> tuple[float, float]:
    """Return intercept and slope; the slope is 0 if ``x`` does not vary."""
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope


def _clipped(line: tuple[float, float], x: Floats, highest: float) -> Floats:
    return np.clip(line[0] + line[1] * x, 0, highest)


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
