"""Figures of an audit as a whole: means over its prompts, each of which counts once.

Legend: m prompts.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from audit.measure.intervals import mean_interval, mean_p_value
from audit.records import Change, Estimate

FEW_PROMPTS = 8
"""Of four prompts of two kinds all are of one kind in an eighth of samples, and no interval can know of the other; of
eight, in one of 128."""


def mean_over_prompts(values: ArrayLike, confidence: float = 0.95, errors: ArrayLike | None = None) -> Estimate:
    """Return the overall figure of an audit: the unweighted mean of a figure over its prompts.

    Every prompt counts once, however many of its images were classified. A prompt is a cluster of images: the interval
    is that of a mean over the prompts' own values (the clustered standard error of Miller 2024, arXiv:2411.00640, for
    clusters of equal weight), so it speaks of prompts *like these*. For these prompts alone it is on the wide side,
    since it also holds how much they differ. Prompts can agree by chance: where the standard errors of the values are
    known, the interval is never narrower than what their images alone leave open. Otherwise prompts that all have the
    same value give an interval without width.

    Fewer than ``FEW_PROMPTS`` with known errors are no sample of anything: the interval then speaks of these prompts
    *alone*, and holds what their images leave open.

    Args:
        values: One value per prompt, shape (m,), m ≥ 2.
        confidence: Coverage of the interval, in (0, 1).
        errors: Standard error of each value, shape (m,).

    Returns:
        The mean; its n counts prompts.

    Raises:
        ValueError: If there are fewer than two prompts, a value is not finite or there is not an error for each.
    """
    mean = mean_interval(values, confidence)
    among_images = _error_of_images(mean.n, errors) * float(ndtri((1 + confidence) / 2))
    low, high = mean.value - among_images, mean.value + among_images
    if _alone(mean.n, errors):
        return replace(mean, low=low, high=high)
    return replace(mean, low=min(mean.low, low), high=max(mean.high, high))


def change_over_prompts(
    before: ArrayLike, after: ArrayLike, confidence: float = 0.95, errors: ArrayLike | None = None
) -> Change:
    """Return the mean over prompts of after − before, with the interval of ``mean_over_prompts``.

    Args:
        before: One value per prompt, shape (m,), m ≥ 2.
        after: The same prompts after, in the same order.
        confidence: Coverage of the interval, in (0, 1).
        errors: Standard error of each prompt's change, shape (m,).

    Returns:
        The mean change; its n counts prompts. Standard error and p-value are those of the interval: the larger of what
        the prompts and what their images leave, of few prompts that of the images.

    Raises:
        ValueError: If there are fewer than two prompts, the shapes differ or a value is not finite.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape:
        raise ValueError(f"expected the same prompts before and after, found shapes {old.shape} and {new.shape}")
    mean = mean_over_prompts(new - old, confidence, errors)
    of_images = _error_of_images(mean.n, errors)
    among_images = 2 * float(ndtr(-abs(mean.value) / of_images)) if of_images else 0.0
    if _alone(mean.n, errors):
        return Change(mean.value, mean.low, mean.high, mean.n, of_images, among_images)
    of_prompts = float((new - old).std(ddof=1)) / math.sqrt(mean.n)
    p_value = max(mean_p_value(new - old), among_images)
    return Change(mean.value, mean.low, mean.high, mean.n, max(of_prompts, of_images), p_value)


def _alone(prompts: int, errors: ArrayLike | None) -> bool:
    """Return whether a mean over prompts speaks of these prompts alone."""
    return errors is not None and prompts < FEW_PROMPTS


def _error_of_images(prompts: int, errors: ArrayLike | None) -> float:
    """Return the standard error that independent errors of the prompts' values leave in their mean."""
    own = np.zeros(prompts) if errors is None else np.asarray(errors, dtype=np.float64)
    if own.shape != (prompts,):
        raise ValueError(f"expected one standard error for each of {prompts} prompts, found shape {own.shape}")
    return float(np.linalg.norm(own)) / prompts
