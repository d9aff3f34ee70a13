"""Projection to the probability simplex."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def nearest_distribution(points: ArrayLike) -> Floats:
    """Return the Euclidean projection of each row of ``points`` to the simplex: shape (…, K) to (…, K).

    The projection subtracts one threshold from all coordinates and clips at 0 (Held, Wolfe & Crowder 1974; Duchi et al.
    2008, figure 1).

    Raises:
        ValueError: If there are no coordinates, or one is not finite.
    """
    rows = np.asarray(points, dtype=np.float64)
    if rows.ndim < 1 or not rows.shape[-1]:
        raise ValueError(f"a projection needs at least 1 group in the last axis, found shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("a projection needs finite points; leave out what could not be measured")
    descending = -np.sort(-rows, axis=-1)
    thresholds = (np.cumsum(descending, axis=-1) - 1) / np.arange(1, rows.shape[-1] + 1)
    kept = (descending > thresholds).sum(axis=-1, keepdims=True)
    return np.asarray(np.maximum(rows - np.take_along_axis(thresholds, kept - 1, axis=-1), 0.0))
