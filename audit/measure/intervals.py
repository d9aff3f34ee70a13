"""Intervals of shares and of means: every number that an audit prints carries one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from audit.records import Estimate


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval (Wilson 1927, without continuity correction).

    Args:
        successes: How many of the images belong to the group.
        n: Images counted.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If ``n`` is zero, or ``successes`` does not lie in [0, n].
    """
    if n < 1:
        raise ValueError(f"a share needs at least 1 image, got {n}; report the missing images by their status instead")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, {n}], got {successes}")
    z = float(ndtri((1 + confidence) / 2))
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At the ends the interval touches 0 and 1 exactly; rounding must not push the share out of its own interval.
    low = 0.0 if successes == 0 else centre - half_width
    high = 1.0 if successes == n else centre + half_width
    return Estimate(value=share, low=low, high=high, n=n)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return a mean with its Student t interval.

    Args:
        values: Independent values, shape (n,), n ≥ 2.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If there are fewer than two values, or one is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"the interval of a mean needs at least 2 values in one row, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("the values must be finite; leave out images without a value and report how many they are")
    n = sample.size
    mean = float(sample.mean())
    half_width = float(stdtrit(n - 1, (1 + confidence) / 2) * sample.std(ddof=1) / math.sqrt(n))
    return Estimate(value=mean, low=mean - half_width, high=mean + half_width, n=n)
