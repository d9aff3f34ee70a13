"""Intervals of shares and of means: every number that an audit prints carries one."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betainc, ndtri, stdtr, stdtrit

from audit.records.estimates import Estimate

Floats = NDArray[np.float64]

ROUNDING = 1e-9
"""A spread this small beside the mean, or a skewness this small, is that of the last digits."""


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval (Wilson 1927, without continuity correction).

    Args:
        successes: How many of the images belong to the group.
        n: Images counted.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If ``n`` is zero, or ``successes`` does not lie in [0, n].
    """
    _check_successes(successes, n)
    low, high = (float(end) for end in wilson_intervals(successes / n, n, confidence))
    return Estimate(value=successes / n, low=low, high=high, n=n)


def _check_successes(successes: int, n: int) -> None:
    if n < 1:
        raise ValueError(f"a share needs at least 1 image, got {n}; report the missing images by their status instead")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, {n}], got {successes}")


def wilson_intervals(shares: ArrayLike, images: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return Wilson's score intervals of shares (…) of so many images (…), which need not be whole: low and high."""
    share, n = np.asarray(shares, dtype=np.float64), np.asarray(images, dtype=np.float64)
    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At the ends the interval touches 0 and 1 exactly; rounding must not push the share out of its own interval.
    return np.where(share == 0, 0.0, centre - half_width), np.where(share == 1, 1.0, centre + half_width)


@lru_cache(maxsize=65_536)  # the prompts of an audit have many counts in common
def share_estimate(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return a share with the interval that an audit prints: Wilson's, widened to hold the exact mid-P interval.

    Wilson's interval holds some rare shares too seldom: one image of a group that 2 % of images show puts its lower end
    above 2 %, however many images there are at that rate. The mid-P interval (Lancaster 1961, Journal of the American
    Statistical Association 56), the exact one with the outcome seen counted half, has weak spots of its own, at other
    shares. Together they have none; ``python -m benchmarks.coverage`` counts over every outcome.

    Args:
        successes: How many of the images belong to the group.
        n: Images counted.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If ``n`` is zero, or ``successes`` does not lie in [0, n].
    """
    _check_successes(successes, n)
    low, high = share_interval(successes / n, n, confidence)
    return Estimate(value=successes / n, low=low, high=high, n=n)


def share_interval(share: float, images: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of ``share_estimate`` for a share that varies as one of ``images`` does, whole or not."""
    low, high = (float(end) for end in wilson_intervals(share, images, confidence))
    tail, successes = (1 - confidence) / 2, share * images
    return (
        min(low, _mid_p_end(successes, images, tail)),
        max(high, 1 - _mid_p_end(images - successes, images, tail)),
    )


def _mid_p_end(successes: float, n: float, tail: float) -> float:
    """Return the share under which at least so many successes, the observed number counted half, have chance ``tail``.

    P(X > k) + P(X = k) / 2 is the mean of P(X ≥ k) and P(X ≥ k + 1), two incomplete beta functions.
    """
    if successes <= ROUNDING:
        return 0.0

    def excess(share: float) -> float:
        more = betainc(successes + 1, n - successes, share) if n - successes > ROUNDING else 0.0
        return float(betainc(successes, max(n - successes, 0.0) + 1, share) + more) / 2 - tail

    return float(brentq(excess, 0.0, 1.0, xtol=1e-12))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return a mean with Student's t interval, widened on the side to which its values are skewed.

    Of skewed values the t interval holds the mean too seldom: of 16 squares in nine samples of ten. Hall's
    transformation (1992, Journal of the Royal Statistical Society B 54:221) of Student's t is free of the skewness of
    order 1/√n: g(t) = t + κt²/3 + κ²t³/27 + κ/6, κ being the values' skewness divided by √n. Where a few values show
    none of the tail that they are drawn from its interval falls short too; the one returned holds both.

    Args:
        values: Independent values, shape (n,), n ≥ 2.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If there are fewer than two values, or one is not finite.
    """
    sample = _finite(values)
    mean, error, kappa = _studentised(sample)
    low, high = skewed_t_interval(mean, error, kappa, sample.size - 1, confidence)
    return Estimate(value=mean, low=low, high=high, n=sample.size)


def skewed_t_interval(
    mean: float, error: float, kappa: float, degrees: float, confidence: float
) -> tuple[float, float]:
    """Return the interval of ``mean_interval`` from a mean, its standard error and the skewness κ of Student's t."""
    t = float(stdtrit(degrees, (1 + confidence) / 2))
    low = min(mean - t * error, mean - error * _untransformed(t, kappa))
    return low, max(mean + t * error, mean - error * _untransformed(-t, kappa))


def end_on_root_scale(value: float, half_width: float) -> float:
    """Return the upper end of the interval of a squared distance from half the width of its own t interval.

    The larger a distance, the more its squared estimate varies: a value that is low by chance has too small an error.
    The error of the root hardly depends on the distance, so the upper end is (√v + h / 2√v)² = v + h + h²/4v. Near 0
    errors are wide as they are, so v counts as h at least there.
    """
    return value + half_width + (half_width**2 / (4 * max(value, half_width)) if half_width else 0.0)


def mean_p_value(values: ArrayLike) -> float:
    """Return the two-sided p-value of a mean of 0: below α exactly where ``mean_interval`` of 1 − α leaves 0 out.

    Raises:
        ValueError: If there are fewer than two values, or one is not finite.
    """
    sample = _finite(values)
    mean, error, kappa = _studentised(sample)
    if not error:
        return float(mean == 0)
    t = mean / error
    least = min(abs(t), abs(t + kappa * t**2 / 3 + kappa**2 * t**3 / 27 + kappa / 6))
    return 2 * float(stdtr(sample.size - 1, -least))


def _finite(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"the interval of a mean needs at least 2 values in one row, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("the values must be finite; leave out images without a value and report how many they are")
    return sample


def _studentised(sample: Floats) -> tuple[float, float, float]:
    """Return the mean, its standard error and the skewness of Student's t, that of the values divided by √n."""
    mean, deviation = float(sample.mean()), float(sample.std())
    third = float(((sample - mean) ** 3).mean())
    kappa = third / deviation**3 / math.sqrt(sample.size) if deviation > ROUNDING * abs(mean) else 0.0
    return mean, float(sample.std(ddof=1)) / math.sqrt(sample.size), kappa


def _untransformed(y: float, kappa: float) -> float:
    """Return the t with g(t) = y."""
    return 3 / kappa * (math.cbrt(1 + kappa * (y - kappa / 6)) - 1) if abs(kappa) > ROUNDING else y
