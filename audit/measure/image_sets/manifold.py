"""Whether an image lies among other images in the feature space of a network: improved precision, image by image.

The manifold of a set is the union of balls about its images, each as large as the distance to the k-th nearest other
image of the set (Kynkäänniemi et al. 2019, "Improved precision and recall metric", eq. 1 and 2; k = 3 there). Precision
is the share of images inside; here the images outside are marked, so that they can be paired and counted by prompt.

Legend: n images, m images of the set, d features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 3
"""k of the paper."""

LEAST_IMAGES = NEIGHBOURS + 1
"""Smallest set: every image needs k others."""

_ROWS = 512
"""Images that are compared at once."""


def outside_manifold(features: NDArray[np.floating], of_set: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which images (n, d) lie outside the manifold of a set (m, d) that they are not part of, shape (n,).

    Raises:
        ValueError: The set has fewer than ``LEAST_IMAGES`` images, or the numbers of features differ.
    """
    own, others = np.asarray(features, dtype=np.float64), np.asarray(of_set, dtype=np.float64)
    if own.ndim != 2 or others.ndim != 2 or own.shape[1] != others.shape[1]:
        raise ValueError(f"expected features (n, d) of one network, found {own.shape} and {others.shape}")
    if len(others) < LEAST_IMAGES:
        raise ValueError(f"a manifold needs at least {LEAST_IMAGES} images, got {len(others)}")
    radii = np.concatenate([np.partition(rows, NEIGHBOURS, axis=1)[:, NEIGHBOURS] for rows in _squares(others, others)])
    if not len(own):
        return np.zeros(0, dtype=np.bool_)
    found: NDArray[np.bool_] = np.concatenate([(rows > radii).all(axis=1) for rows in _squares(own, others)])
    return found


def _squares(first: NDArray[np.float64], second: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return squared distances between all rows, in blocks of rows of ``first``; 0 comes out as 0."""
    lengths = (second**2).sum(1)
    blocks = [first[start : start + _ROWS] for start in range(0, len(first), _ROWS)]
    return [np.maximum((rows**2).sum(1)[:, None] + lengths - 2 * rows @ second.T, 0.0) for rows in blocks]
