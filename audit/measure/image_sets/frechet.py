"""Fréchet distance between two sets of images, from feature statistics that merge by ``+``.

Shards return sums and not images, so the distance does not depend on how the images were distributed over workers. The
estimate is biased upwards for few images, and the covariance is singular if there are fewer images than dimensions.
Compare it with the split-half value of the baseline, and prefer the kernel distance.

Legend: n images, d feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureStats:
    """Sufficient statistics of feature vectors, in float64.

    Attributes:
        n: Images.
        sum: Sum of the features, shape (d,).
        outer: Sum of the outer products x xᵀ, shape (d, d).
    """

    n: int
    sum: Floats
    outer: Floats

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureStats:
        """Return the statistics of ``features`` of shape (n, d).

        Raises:
            ValueError: If there are no images or a feature is not finite.
        """
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f"expected features of shape (n, d) with n at least 1, found {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("features must be finite; leave out the images that failed")
        return cls(n=len(rows), sum=rows.sum(axis=0), outer=rows.T @ rows)

    @classmethod
    def zero(cls, dimensions: int) -> FeatureStats:
        """Return the statistics of an empty set, the neutral element of ``+``."""
        return cls(n=0, sum=np.zeros(dimensions), outer=np.zeros((dimensions, dimensions)))

    def __add__(self, other: FeatureStats) -> FeatureStats:
        """Return the statistics of both sets together."""
        if self.sum.shape != other.sum.shape:
            raise ValueError(
                f"cannot merge features of {self.sum.size} and {other.sum.size} dimensions; use one feature network"
            )
        return FeatureStats(n=self.n + other.n, sum=self.sum + other.sum, outer=self.outer + other.outer)

    @property
    def mean(self) -> Floats:
        """Mean feature, shape (d,)."""
        if self.n < 1:
            raise ValueError("a mean needs at least 1 image, got 0")
        return self.sum / self.n

    @property
    def covariance(self) -> Floats:
        """Unbiased covariance, shape (d, d)."""
        if self.n < 2:
            raise ValueError(f"covariance needs at least 2 images, got {self.n}")
        return (self.outer - np.outer(self.sum, self.mean)) / (self.n - 1)


def frechet_distance(first: FeatureStats, second: FeatureStats) -> float:
    """Return ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) (Heusel et al. 2017, eq. 6), never negative.

    The trace of (Σ₁Σ₂)^½ is computed from the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½, which are the same and are
    real even if a covariance is singular.

    Raises:
        ValueError: If a set has fewer than two images or the dimensions differ.
    """
    if first.sum.shape != second.sum.shape:
        raise ValueError(f"expected features of one network, found {first.sum.size} and {second.sum.size} dimensions")
    shift = first.mean - second.mean
    root = _symmetric_root(first.covariance)
    overlap = np.sqrt(_without_rounding(np.linalg.eigvalsh(root @ second.covariance @ root))).sum()
    distance = shift @ shift + np.trace(first.covariance) + np.trace(second.covariance) - 2 * overlap
    return max(0.0, float(distance))


def _symmetric_root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(_without_rounding(values))) @ vectors.T)


def _without_rounding(eigenvalues: NDArray[np.floating[Any]]) -> Floats:
    """Set eigenvalues that differ from 0 only by rounding to 0, because the sum of their roots would be too large."""
    noise = eigenvalues.max() * eigenvalues.size * np.finfo(np.float64).eps
    return np.where(eigenvalues > noise, eigenvalues, 0.0)
