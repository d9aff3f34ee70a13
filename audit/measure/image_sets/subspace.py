"""Distance of activations from the activations of unedited images.

The squared Mahalanobis distance from the mean of unedited activations, in their leading principal components, measures
how unusual an activation is in directions that the model uses (Lee et al. 2018, NeurIPS, "A simple unified framework
for detecting out-of-distribution samples", section 2.1). The share of its energy outside these components measures how
much lies in directions that it hardly uses (Wang et al. 2022, CVPR, "ViM", section 4.1: the norm of the residual).

Principal components fit the vectors that they come from: other vectors vary less along them. So the components come
from one half of the images, and the mean and the variance along each from the other half without the measured image.

Legend: n images, d numbers of a vector, p components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.image_sets.frechet import FeatureStats

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

EXPLAINED = 0.95
"""Share of the variance that the components explain, if there are enough vectors for as many."""

VECTORS_PER_COMPONENT = 4
"""Fewest vectors for each component; with fewer, the last components are mostly noise."""

LEAST_VECTORS = 6
"""Fewest unedited vectors; the expected distance is finite with four others at least, and known with five."""


@dataclass(frozen=True, eq=False)
class Subspace:
    """The leading principal components of unedited vectors.

    Attributes:
        basis: The components, orthonormal rows, shape (p, d).
        explained: Share of the variance of these vectors that they explain.
    """

    basis: Floats
    explained: float

    @classmethod
    def of(cls, stats: FeatureStats, share: float = EXPLAINED) -> Subspace:
        """Return the fewest components that explain ``share`` of the variance, at most n / ``VECTORS_PER_COMPONENT``.

        Raises:
            ValueError: There are too few vectors for one component, or they are all equal.
        """
        most = stats.n // VECTORS_PER_COMPONENT
        if most < 1:
            raise ValueError(f"principal components need at least {VECTORS_PER_COMPONENT} vectors, got {stats.n}")
        values, vectors = np.linalg.eigh(stats.covariance)
        values, vectors = values[::-1].clip(min=0.0), vectors[:, ::-1]
        total = float(values.sum())
        if total <= 0:
            raise ValueError("expected vectors that differ, found equal ones; they have no principal component")
        cumulated = np.cumsum(values) / total
        p = min(int(np.searchsorted(cumulated, share * (1 - 1e-12)) + 1), most)
        return cls(vectors[:, :p].T.copy(), float(cumulated[p - 1]))


def distances(space: Subspace, unedited: Vectors, vectors: Vectors) -> Floats:
    """Return squared Mahalanobis distances by their expectation, shape (n,): 1 on average for unedited vectors.

    Vector i is measured with the mean and the variances of all unedited vectors but vector i. For normal vectors the
    squared distance along one component has the expectation n (n − 2) / ((n − 1) (n − 4)): that of a squared Student t
    with n − 2 degrees of freedom, times 1 + 1 / (n − 1) for the estimated mean.

    Args:
        space: Components of other images.
        unedited: Vectors of the unedited images, shape (n, d), which are not equal along every component.
        vectors: The measured vectors of the same images, shape (n, d).

    Raises:
        ValueError: There are fewer than ``LEAST_VECTORS`` images, the shapes differ, or all unedited vectors are equal.
    """
    own, tried = _checked(unedited, vectors)
    along, moved = own @ space.basis.T, tried @ space.basis.T
    n, away = len(along), along - along.mean(0)
    mean, variance = along.mean(0) - away / (n - 1), _variances_without_each(along)
    varies = _varying(along)
    if not varies.any():
        raise ValueError("expected unedited vectors that differ, found equal ones; a distance has no unit")
    ratios = (moved - mean)[:, varies] ** 2 / variance[:, varies]
    found: Floats = ratios.mean(1) * (n - 1) * (n - 4) / (n * (n - 2))
    return found


def has_unit(space: Subspace, unedited: Vectors) -> bool:
    """Return whether unedited vectors (n, d) vary along a component, also without any one of them."""
    return bool(_varying(np.asarray(unedited, dtype=np.float64) @ space.basis.T).any())


def _variances_without_each(along: Floats) -> Floats:
    """Return the variance (n, p) along each component of all vectors but vector i."""
    n, away = len(along), along - along.mean(0)
    found: Floats = ((away**2).sum(0) - away**2 * n / (n - 1)) / (n - 2)
    return found


def _varying(along: Floats) -> NDArray[np.bool_]:
    """Return the components (p,) whose variance is more than rounding, whichever vector is left out."""
    found: NDArray[np.bool_] = _variances_without_each(along).min(0) > np.finfo(np.float64).eps * (along**2).sum(0)
    return found


def outside(space: Subspace, unedited: Vectors, vectors: Vectors) -> Floats:
    """Return the share of each vector's energy that lies outside the components, shape (n,), from 0 to 1.

    The energy of vector i is that about the mean of all unedited vectors but vector i. The arguments and errors are
    those of ``distances``.
    """
    own, tried = _checked(unedited, vectors)
    away = tried - (own.sum(0) - own) / (len(own) - 1)
    energy, inside = (away**2).sum(1), ((away @ space.basis.T) ** 2).sum(1)
    left = np.maximum(energy - inside, 0.0)
    found: Floats = np.divide(left, energy, out=np.zeros_like(left), where=energy > 0)
    return found


def _checked(unedited: Vectors, vectors: Vectors) -> tuple[Floats, Floats]:
    own, tried = (np.asarray(rows, dtype=np.float64) for rows in (unedited, vectors))
    if own.shape != tried.shape or own.ndim != 2 or len(own) < LEAST_VECTORS:
        raise ValueError(
            f"expected vectors (n, d) of the same n images, n at least {LEAST_VECTORS}, found {own.shape} and "
            f"{tried.shape}"
        )
    return own, tried
