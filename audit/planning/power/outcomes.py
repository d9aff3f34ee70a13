"""Every outcome of a number of images."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from audit.measure.discrepancy.fairness import _compositions

Floats = NDArray[np.float64]

NEGLIGIBLE = 1e-7
"""Outcomes with less probability than this in all are left out where each of them costs something."""


@lru_cache(maxsize=16)
def every_outcome(n: int, groups: int) -> tuple[Floats, Floats]:
    """Return every outcome of n images, shape (m, K), and the log of its number of orders, shape (m,)."""
    counts = _compositions(n, groups)
    return counts, gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)
