"""Figures of a whole audit: means over its prompts, with equal weights.

Such a mean has two intervals, which answer two questions. The interval for *these prompts* is for the mean of the
audited prompts and covers the variation of their images. The auditor chose the prompts, so all figures and gates use
this interval. The interval for *prompts like these* treats the prompts as a sample of similar prompts, so it also
covers the variation between prompts. It is reported in addition if there are enough prompts.

Legend: m prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from audit.measure.inference.intervals import mean_interval, mean_p_value
from audit.measure.inference.span import Span
from audit.records.estimates import Change, ChangeOverPrompts, Estimate, LikeThese, OverPrompts

Floats = NDArray[np.float64]

FEW_PROMPTS = 8
"""Smallest number of prompts for an interval for prompts like these. If there are two kinds of prompts, four prompts
are all of one kind in one of 8 samples, and no interval can include the other kind; eight prompts in one of 128."""


def mean_of_these_prompts(
    values: ArrayLike,
    ends: ArrayLike,
    confidence: float = 0.95,
    errors: ArrayLike | None = None,
    freedom: ArrayLike | None = None,
) -> Estimate:
    """Return the mean of a figure over these prompts; its interval covers the variation of images, not of prompts.

    The intervals of the prompts are combined by square-and-add: the length of the interval below the mean is
    √Σ bᵢ² / m, where bᵢ is the length of prompt i's interval below its value, and the same above (method of variance
    estimates recovery; Zou and Donner 2008, Statistics in Medicine 27:1693). The interval of the mean therefore
    reflects the intervals of prompts with few images, on both sides and for any confidence.

    An interval that is cut at a limit of the possible range is shorter than the variation of its estimate. If standard
    errors are known, the interval is therefore widened to include Student's t interval with variance Σ sᵢ² / m² and
    Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2:110), (Σ sᵢ²)² / Σ (sᵢ⁴ / fᵢ).

    Args:
        values: An unbiased estimate per prompt, shape (m,), m ≥ 2; the prompts' errors are independent.
        ends: The prompts' intervals at ``confidence``, shape (m, 2). An interval can exclude its value if the value is
            outside the possible range.
        confidence: Confidence level of the interval, in (0, 1).
        errors: Standard error of each value, shape (m,).
        freedom: Degrees of freedom of each error, shape (m,): its images minus one. None if errors are exact.

    Returns:
        The mean; its n counts prompts.

    Raises:
        ValueError: If there are fewer than two prompts, a value is not finite or the shapes differ.
    """
    own = _finite(values)
    low, high = _shaped(ends, (own.size, 2), "one interval").T
    mean = float(own.mean())
    half_width = 0.0
    if errors is not None:
        squares = _shaped(errors, own.shape, "one standard error") ** 2
        half_width = _quantile(squares, freedom, confidence) * math.sqrt(squares.sum())
    below, above = (
        max(float(np.linalg.norm(np.maximum(0.0, side))), half_width) / own.size for side in (own - low, high - own)
    )
    return Estimate(value=mean, low=mean - below, high=mean + above, n=own.size)


def mean_of_prompts_like_these(values: ArrayLike, confidence: float = 0.95, these: Estimate | None = None) -> Estimate:
    """Return the mean of a figure over all prompts like these, of which these are a sample.

    All prompts have the same weight, regardless of the number of classified images. A prompt is a cluster of images:
    the interval is that of a mean over the values of the prompts (the clustered standard error of Miller 2024,
    arXiv:2411.00640, for clusters of equal weight). Prompts can agree by chance, so it is never narrower than that of
    ``these`` alone.

    It is valid for at least ``FEW_PROMPTS`` prompts; for fewer it is only approximate.

    Args:
        values: One value per prompt, shape (m,), m ≥ 2.
        confidence: Confidence level of the interval, in (0, 1).
        these: ``mean_of_these_prompts`` at the same confidence, if the prompts' intervals are known. Without it,
            prompts with equal values give an interval of length 0.

    Returns:
        The mean; its n counts prompts.

    Raises:
        ValueError: If there are fewer than two prompts, or a value is not finite.
    """
    mean = mean_interval(values, confidence)
    if these is None:
        return mean
    return Estimate(mean.value, min(mean.low, these.low), max(mean.high, these.high), mean.n)


def like_these(these: Estimate, values: ArrayLike, span: Span, confidence: float = 0.95) -> OverPrompts:
    """Add the interval for prompts like these to a figure of these prompts, if there are enough prompts.

    Args:
        these: The mean of the prompts' values with its interval for these prompts, at the same confidence.
        values: One value per prompt, shape (m,).
        span: The possible range of the figure.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If a value is not finite.
    """
    own, beside = np.asarray(values, dtype=np.float64), None
    if own.size >= FEW_PROMPTS:
        found = span.held(mean_of_prompts_like_these(own, confidence, these))
        beside = LikeThese(found.low, found.high)
    return OverPrompts(these.value, these.low, these.high, these.n, beside)


def change_of_these_prompts(changes: Sequence[Change], confidence: float = 0.95) -> Change:
    """Return the mean of a change over these prompts, as ``mean_of_these_prompts`` does.

    Args:
        changes: Each prompt's change, with its interval at ``confidence``.
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        The mean change; its n counts prompts. The p-value is below 1 − confidence if the interval excludes 0.

    Raises:
        ValueError: If there are fewer than two prompts.
    """
    errors = [change.standard_error for change in changes]
    mean = mean_of_these_prompts(_values(changes), [(change.low, change.high) for change in changes], confidence)
    towards_zero = mean.value - mean.low if mean.value > 0 else mean.high - mean.value
    unit = towards_zero / float(ndtri((1 + confidence) / 2))
    p_value = 2 * float(ndtr(-abs(mean.value) / unit)) if unit else float(mean.value == 0)
    return Change(mean.value, mean.low, mean.high, mean.n, float(np.linalg.norm(errors)) / mean.n, p_value)


def change_like_these(changes: Sequence[Change], span: Span, confidence: float = 0.95) -> ChangeOverPrompts:
    """Return ``change_of_these_prompts`` with the interval for prompts like these, if there are enough prompts."""
    these, values = span.held(change_of_these_prompts(changes, confidence)), _values(changes)
    found = like_these(these, values, span, confidence).like_these
    return ChangeOverPrompts(these.value, these.low, these.high, these.n, these.standard_error, these.p_value, found)


def change_of_prompts_like_these(changes: Sequence[Change], confidence: float = 0.95) -> Change:
    """Return the mean of a change over all prompts like these, as ``mean_of_prompts_like_these`` does.

    Args:
        changes: Each prompt's change, with its interval at ``confidence``.
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        The mean change; its n counts prompts. Standard error and p-value are the larger of those from the variation of
        prompts and of images.

    Raises:
        ValueError: If there are fewer than two prompts.
    """
    values, these = _values(changes), change_of_these_prompts(changes, confidence)
    mean = mean_of_prompts_like_these(values, confidence, these)
    of_prompts = float(values.std(ddof=1)) / math.sqrt(mean.n)
    p_value = max(mean_p_value(values), these.p_value)
    return Change(mean.value, mean.low, mean.high, mean.n, max(of_prompts, these.standard_error), p_value)


def _values(changes: Sequence[Change]) -> Floats:
    return np.array([change.value for change in changes], dtype=np.float64)


def _quantile(squares: Floats, freedom: ArrayLike | None, confidence: float) -> float:
    """Return Student's t for a sum of independent variances with different degrees of freedom (Satterthwaite 1946)."""
    if freedom is None or not squares.any():
        return float(ndtri((1 + confidence) / 2))
    own = _shaped(freedom, squares.shape, "the degrees of freedom")
    return float(stdtrit(squares.sum() ** 2 / (squares**2 / own).sum(), (1 + confidence) / 2))


def _finite(values: ArrayLike) -> Floats:
    own = np.asarray(values, dtype=np.float64)
    if own.ndim != 1 or own.size < 2:
        raise ValueError(f"a mean over prompts needs at least 2 values in one row, found shape {own.shape}")
    if not np.isfinite(own).all():
        raise ValueError("the values must be finite; leave out prompts without a value and report how many they are")
    return own


def _shaped(numbers: ArrayLike, shape: tuple[int, ...], what: str) -> Floats:
    found = np.asarray(numbers, dtype=np.float64)
    if found.shape != shape:
        raise ValueError(f"expected {what} for each of {shape[0]} prompts, found shape {found.shape}")
    return found
