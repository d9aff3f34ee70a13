"""Confidence intervals of shares and means."""

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
"""A relative spread or a skewness below this is due to rounding errors."""


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval (Wilson 1927, without continuity correction).

    Args:
        successes: How many of the images belong to the group.
        n: Images counted.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If ``n`` is zero, or ``successes`` is not in [0, n].
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
    """Return the ends of Wilson's score intervals of shares (…) of ``images`` (…), which can be fractional."""
    share, n = np.asarray(shares, dtype=np.float64), np.asarray(images, dtype=np.float64)
    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # For shares of 0 and 1 the end is exact; rounding must not exclude the share from its interval.
    return np.where(share == 0, 0.0, centre - half_width), np.where(share == 1, 1.0, centre + half_width)


@lru_cache(maxsize=65_536)  # many prompts of an audit have equal counts
def share_estimate(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return a share with the interval that audits report: Wilson's, widened to include the exact mid-P interval.

    The coverage of Wilson's interval is too low for some rare shares: with a true share of 2 % and one image of the
    group, its lower end is above 2 %, for any number of images at that rate. The mid-P interval (Lancaster 1961,
    Journal of the American Statistical Association 56), the exact interval with half of the probability of the observed
    outcome, has low coverage at other shares. Their union has sufficient coverage; ``python -m benchmarks.coverage``
    computes it over all outcomes.

    Args:
        successes: How many of the images belong to the group.
        n: Images counted.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If ``n`` is zero, or ``successes`` is not in [0, n].
    """
    _check_successes(successes, n)
    low, high = share_interval(successes / n, n, confidence)
    return Estimate(value=successes / n, low=low, high=high, n=n)


def share_interval(share: float, images: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of ``share_estimate`` for a share with an effective number of ``images``."""
    low, high = (float(end) for end in wilson_intervals(share, images, confidence))
    tail, successes = (1 - confidence) / 2, share * images
    return (
        min(low, _mid_p_end(successes, images, tail)),
        max(high, 1 - _mid_p_end(images - successes, images, tail)),
    )


def _mid_p_end(successes: float, n: float, tail: float) -> float:
    """Return the share for which the mid-P probability of at least this many successes is ``tail``.

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

    For skewed values the coverage of the t interval is too low: 90 % for the mean of 16 squares. Hall's
    transformation (1992, Journal of the Royal Statistical Society B 54:221) of Student's t removes the skewness of
    order 1/√n: g(t) = t + κt²/3 + κ²t³/27 + κ/6, κ being the values' skewness divided by √n. Its coverage is also too
    low if a few values do not include the tail of their distribution. The returned interval includes both.

    Args:
        values: Independent values, shape (n,), n ≥ 2.
        confidence: Confidence level of the interval, in (0, 1).

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
    """Return the upper end of the interval of a squared distance from the half-width of its t interval.

    The variance of a squared estimate increases with the distance, so a value that is low by chance has an error that
    is too small. The error of the root hardly depends on the distance, so the upper end is (√v + h / 2√v)² =
    v + h + h²/4v. Near 0 errors are already large, so v is replaced by h if it is smaller.
    """
    return value + half_width + (half_width**2 / (4 * max(value, half_width)) if half_width else 0.0)


def mean_p_value(values: ArrayLike) -> float:
    """Return the two-sided p-value of a mean of 0: below α exactly if ``mean_interval`` at 1 − α excludes 0.

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
