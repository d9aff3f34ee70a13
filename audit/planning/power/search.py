"""Enumerates the outcomes of n images, and searches for the smallest sufficient value."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from audit.measure.discrepancy.fairness import _compositions

Floats = NDArray[np.float64]

NEGLIGIBLE = 1e-7
"""Outcomes with less total probability than this are left out if each of them costs time."""


def smallest(detected: Callable[[float], bool], largest: float) -> float | None:
    """Return the smallest departure that is detected, to a ten-thousandth and rounded up; None if none is."""
    if not detected(largest):
        return None
    low, high = 0.0, largest
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if detected(middle) else (middle, high)
    return high


def settled(enough: Callable[[int], bool], largest: int) -> int | None:
    """Return the n from which on images suffice, although power is not monotone; None above ``largest``.

    The teeth of a test of counts are about √n wide at most where power is neither near 0 nor near 1: an n counts where
    it and the next so many are enough.
    """
    high = 1
    while not enough(high):
        high *= 2
        if high > largest:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    n = ahead = high
    while ahead <= n + math.isqrt(n) + 3:
        ahead += 1
        if not enough(ahead):
            n = ahead + 1
    return n if n <= largest else None


@lru_cache(maxsize=16)
def every_outcome(n: int, groups: int) -> tuple[Floats, Floats]:
    """Return every outcome of n images, shape (m, K), and the log of its number of orders, shape (m,)."""
    counts = _compositions(n, groups)
    return counts, gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)
