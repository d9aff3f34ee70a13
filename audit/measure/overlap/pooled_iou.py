"""Intersection over union, pooled over images: sums of intersections over sums of unions, so that absent parts count.

A mean over images of each image's own ratio would have no value where a part is absent from both masks, and would not
punish a part that is predicted where there is none. Intervals resample images (percentile bootstrap, Efron 1979).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.records.estimates import Estimate

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# n images, P parts, R resamples


def overlaps(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Return intersections and unions in pixels, (n, P) each, of masks (n, P, H, W)."""
    both = (predicted & true).sum((-2, -1), dtype=np.int64)
    either = (predicted | true).sum((-2, -1), dtype=np.int64)
    return both, either


def pooled_iou(intersections: Counts, unions: Counts) -> Floats:
    """Return the pooled ratio of each part, (P,); NaN for a part that no image has, in neither mask."""
    with np.errstate(invalid="ignore"):
        found: Floats = intersections.sum(0) / unions.sum(0)
    return found


def resampling_weights(images: int, resamples: int, seed: int) -> Floats:
    """Return how often each image is drawn in each resample, (R, n); each row sums to n.

    Raises:
        ValueError: There are no images.
    """
    if images < 1:
        raise ValueError("expected at least one image to resample, found none")
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return draws.astype(np.float64)


def iou_estimates(intersections: Counts, unions: Counts, weights: Floats) -> tuple[list[Estimate | None], Estimate]:
    """Return the ratio of each part, and their mean, with 95 % intervals over images.

    Args:
        intersections: (n, P).
        unions: (n, P).
        weights: From ``resampling_weights``; equal weights make figures of several methods paired.

    Returns:
        One for each part, None for a part that no image has, and the mean over the other parts.

    Raises:
        ValueError: No image has any part.
    """
    points, drawn = pooled_iou(intersections, unions), _drawn(intersections, unions, weights)
    known = ~np.isnan(points)
    if not known.any():
        raise ValueError("expected masks with at least one part, found none; choose other parts or prompts")
    images = len(intersections)
    each = [_estimate(points[part], drawn[:, part], images) if known[part] else None for part in range(points.shape[0])]
    return each, _estimate(float(points[known].mean()), np.nanmean(drawn[:, known], 1), images)


def iou_gain(first: tuple[Counts, Counts], second: tuple[Counts, Counts], weights: Floats) -> Estimate:
    """Return by how much the mean ratio of one method exceeds that of another, for the same resampled images.

    Args:
        first: Intersections and unions (n, P) of a method.
        second: Those of the method that it is compared with.
        weights: From ``resampling_weights``.
    """
    known = ~np.isnan(pooled_iou(*first)) & ~np.isnan(pooled_iou(*second))
    point = float((pooled_iou(*first) - pooled_iou(*second))[known].mean())
    drawn = np.nanmean((_drawn(*first, weights) - _drawn(*second, weights))[:, known], 1)
    return _estimate(point, drawn, len(first[0]))


def _drawn(intersections: Counts, unions: Counts, weights: Floats) -> Floats:
    """Return the ratios (R, P) of the resamples."""
    with np.errstate(invalid="ignore"):
        found: Floats = (weights @ intersections) / (weights @ unions)
    return found


def _estimate(point: float, drawn: Floats, images: int) -> Estimate:
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Estimate(float(point), float(low), float(high), images)
