"""Means and shares over all images of an arm, stratified by prompt.

The number of images of each prompt is fixed in advance, so only the images within prompts vary: the sample is
stratified by prompt (Cochran 1977, chapter 5). The error does not include differences between prompts, and does not
depend on the order of the rows.

Legend: N images of P prompts, n_p of prompt p, with weight w_p in the mean.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.inference.intervals import ROUNDING, share_interval, skewed_t_interval
from audit.measure.inference.span import SHARE
from audit.measure.prompts.over_prompts import like_these
from audit.records.estimates import Estimate, OverPrompts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PSEUDO_IMAGES = 1
"""Pseudo-images with and without the group that are added for each prompt's variance (Laplace), because a prompt with
images of only one group can still draw another."""


def stratified_mean(values: ArrayLike, prompts: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the mean over these prompts of the mean of their images, with equal weights of prompts.

    The variance is Σ w_p² s_p² / n_p, with Satterthwaite's degrees of freedom (Cochran 1977, section 5.4); the interval
    is Student's t, widened on the side to which the values are skewed, as in
    :func:`audit.measure.inference.intervals.mean_interval`, with the third moments Σ w_p³ μ_p / n_p². A prompt with a
    single image gets the variance of all images, which is too large. With one prompt it is a plain mean.

    Args:
        values: One value per image, shape (N,), N ≥ 2.
        prompts: Any code of each image's prompt, shape (N,).
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        The mean; its n counts images.

    Raises:
        ValueError: If there are fewer than two images, the shapes differ, or a value is not finite.
    """
    sample, numbers = np.asarray(values, dtype=np.float64), np.asarray(prompts)
    if sample.ndim != 1 or sample.size < 2 or numbers.shape != sample.shape:
        raise ValueError(
            f"expected the values of at least 2 images and a prompt for each, found {sample.shape} and {numbers.shape}"
        )
    if not np.isfinite(sample).all():
        raise ValueError("the values must be finite; leave out images without a value and report how many they are")
    _, place, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    means = np.bincount(place, sample) / sizes
    second, third = (_moments(sample, place, sizes, power) for power in (2, 3))
    parts = second / sizes / sizes.size**2
    variance, mean = float(parts.sum()), float(means.mean())
    if math.sqrt(variance) <= ROUNDING * abs(mean):
        return Estimate(mean, mean, mean, sample.size)
    degrees = variance**2 / float((parts**2 / (np.where(sizes > 1, sizes, sample.size) - 1)).sum())
    kappa = float((third / sizes**2).sum()) / sizes.size**3 / variance**1.5
    low, high = skewed_t_interval(mean, math.sqrt(variance), kappa, degrees, confidence)
    return Estimate(mean, low, high, sample.size)


def stratified_share(
    counts: ArrayLike, images: ArrayLike, confidence: float = 0.95, *, each_prompt_once: bool = False
) -> Estimate:
    """Return the share of a group among the images of these prompts, by default with equal weights of images.

    The variance of the share is smaller if prompts differ more. With p̃ the prompts' shares including ``PSEUDO_IMAGES``,
    it is that of a simple random sample of n* images, p(1 − p) / n* = Σ w_p² p̃_p(1 − p̃_p) / n_p (the effective number
    of images; Korn and Graubard 1998, Survey Methodology 24). The interval is that of a share of n* images. n* is at
    least 1 / Σ (w_p² / n_p), because a mixture of prompts does not vary more than images of a single prompt (Hoeffding
    1956, Annals of Mathematical Statistics 27).

    Args:
        counts: Images of the group in each prompt, shape (P,).
        images: Images of each prompt, shape (P,).
        confidence: Confidence level of the interval, in (0, 1).
        each_prompt_once: Whether to return the mean of the prompts' shares, with equal weights of prompts.

    Returns:
        The share; its n counts images.

    Raises:
        ValueError: If there are no images, or a count is larger than the number of images.
    """
    found, sizes = np.asarray(counts, dtype=np.int64), np.asarray(images, dtype=np.int64)
    if found.shape != sizes.shape or (found < 0).any() or (found > sizes).any():
        raise ValueError(f"expected as many counts as prompts, none above its images; found {found} of {sizes}")
    n = int(sizes.sum())
    if not n:
        raise ValueError("a share needs at least 1 image, got 0; report the missing images by their status instead")
    found, sizes = found[sizes > 0], sizes[sizes > 0]
    weights = np.full(sizes.size, 1 / sizes.size) if each_prompt_once else sizes / n
    share = _share(found, sizes, weights)
    smoothed = (found + PSEUDO_IMAGES) / (sizes + 2 * PSEUDO_IMAGES)
    of_one_kind = float((weights**2 / sizes).sum())
    variance = float((weights**2 * smoothed * (1 - smoothed) / sizes).sum())
    low, high = share_interval(share, max(1 / of_one_kind, share * (1 - share) / variance), confidence)
    return Estimate(share, low, high, n)


def pooled_share(counts: ArrayLike, images: ArrayLike, confidence: float = 0.95) -> OverPrompts:
    """Return ``stratified_share`` with equal weights of images, with the interval for prompts like these.

    For prompts with unequal numbers of images, the pooled share is a ratio of two means over prompts. The interval for
    prompts like these is that of the mean of its linear part, p + (p_p − p) n_p P / N (Cochran 1977, section 6.5).

    Args:
        counts: Images of the group in each prompt, shape (P,).
        images: Images of each prompt, shape (P,).
        confidence: Confidence level of both intervals, in (0, 1).

    Raises:
        ValueError: In the same cases as ``stratified_share``.
    """
    these = stratified_share(counts, images, confidence)
    found, sizes = np.asarray(counts, dtype=np.int64), np.asarray(images, dtype=np.int64)
    found, sizes = found[sizes > 0], sizes[sizes > 0]
    linear = these.value + (found - sizes * these.value) * sizes.size / these.n
    return like_these(these, linear, SHARE, confidence)


def _share(counts: Ints, images: Ints, weights: Floats) -> float:
    """Return the weighted share; shares of 0 and 1 are exact, so that the interval ends there."""
    if not counts.any():
        return 0.0
    return 1.0 if np.array_equal(counts, images) else float((weights * counts / images).sum())


def _moments(sample: Floats, place: Ints, sizes: Ints, power: Literal[2, 3]) -> Floats:
    """Return the unbiased central moment of each prompt's values, shape (P,); for a single image that of all images.

    The third moment of two values is 0, because they are symmetric about their mean.
    """
    away = sample - (np.bincount(place, sample) / sizes)[place]
    of_prompts = _unbiased(np.bincount(place, away**power), sizes, power)
    of_all = _unbiased(np.array([((sample - sample.mean()) ** power).sum()]), np.array([sample.size]), power)
    return np.where(sizes > 1, of_prompts, of_all)


def _unbiased(sums: NDArray[Any], sizes: Ints, power: Literal[2, 3]) -> Floats:
    """Return unbiased central moments from sums of powers about the mean of ``sizes`` values."""
    n = sizes.astype(np.float64)
    if power == 2:
        return np.asarray(sums / np.maximum(n - 1, 1))
    return np.asarray(sums * n / np.maximum((n - 1) * (n - 2), 1))
