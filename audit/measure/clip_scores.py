"""CLIP similarities: the cosine, and the rescaled figure that the paper reports, under names of their own.

CLIP-I pairs an edited image with the baseline image of the same prompt and noise, CLIP-T an image with its prompt.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cosine(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the cosine of paired rows: two arrays of shape (n, d) to (n,), in [−1, 1].

    Raises:
        ValueError: If there is no pair, the shapes differ, or an embedding is zero or not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or not len(a):
        raise ValueError(f"expected two arrays of paired rows (n, d) with n at least 1, found {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("an embedding is zero or not finite; leave out the images that failed")
    return np.asarray(np.clip((a * b).sum(axis=1) / lengths, -1.0, 1.0))


@overload
def rescaled(cosine: float) -> float: ...
@overload
def rescaled(cosine: NDArray[np.float64]) -> NDArray[np.float64]: ...
def rescaled(cosine: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """Return (cosine + 1) / 2 in [0, 1], the figure that DiffLens prints as its CLIP score."""
    return (cosine + 1) / 2
