"""The p-value of a statistic whose distribution under the hypothesis is sampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-9
"""Statistics closer than this count as equal: a tie must not depend on the order of a sum."""

RESAMPLES = 9_999
"""Samples behind a p-value, which is then at least 1 / 10,000. As the observed arrangement is counted among them, the
p-value is valid at any number; more of them only steady it."""


def share_as_large(resampled: Floats, observed: float) -> float:
    """Return (1 + how many are at least as large) / (1 + how many there are) (Phipson and Smyth 2010)."""
    return (1 + int((resampled >= observed - ROUNDING).sum())) / (1 + resampled.size)
