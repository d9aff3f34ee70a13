"""Confusion matrix of a judge, and the effect of its errors on perceived shares.

Errors of a judge mix the groups, p = Mᵀπ, and reduce the visible bias: with accuracy 0.9, true shares of 80/20 are
perceived as 74/26. The matrix M is estimated from images with known groups (hand labels, or drawings). With two groups
the correction is the estimator of Rogan & Gladen 1978, which CLEAM (Teo et al. 2023) applies to generative models.
CLEAM treats M as exact; here every interval includes the error of M, as in the formula with unknown standard errors of
the R package serosurvey.

The correction is valid if the judge has the same error rates on the audit's images as on the labelled ones. M must be
for the same kind of answers: a matrix of most probable groups corrects hard counts, not mean probabilities.

Legend: K groups; M (K, K), M_gh = P(perceived h | true g), rows sum to 1; p (K,) perceived and π (K,) true shares; n
audited images, n_g labelled images whose truth is g; A = (Mᵀ)⁻¹.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.inference.intervals import share_estimate
from audit.measure.inference.simplex import Floats, nearest_distribution
from audit.records.estimates import Estimate

Ints = NDArray[np.int64]

CONDITION_LIMIT = 10.0
"""Largest ratio of M's singular values for a correction. The error of corrected shares is then at most ten times that
of perceived shares, as with a hundredth of the images. For two groups of equal accuracy the limit is an accuracy of
0.55."""

PSEUDO_LABELS = 2.0
"""Labelled images added to each row of M, spread evenly, to estimate its error, because a judge without an error in 200
labels can still have errors. Two is the value of Agresti & Coull (1998), as used by Lang & Reiczigel (2014)."""


class IllConditioned(ValueError):
    """The judge's errors are too large for a correction."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of a judge's answers on images with known groups.

    Attributes:
        groups: Group names.
        counts: Images by true group (rows) and perceived group (columns), K rows of K whole numbers.
    """

    groups: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Refuse an invalid confusion matrix."""
        size = len(self.groups)
        if size < 2 or len(set(self.groups)) != size:
            raise ValueError(f"a confusion matrix needs at least 2 different groups, found {list(self.groups)}")
        if len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise ValueError(f"expected {size} rows of {size} counts, one for each of {list(self.groups)}")
        if any(count < 0 or count != int(count) for row in self.counts for count in row):
            raise ValueError(f"expected whole counts of images, none negative; found {self.counts}")
        empty = [group for group, row in zip(self.groups, self.counts, strict=True) if not sum(row)]
        if empty:
            raise ValueError(f"expected labelled images of every group, found none whose truth is {', '.join(empty)}")

    @classmethod
    def of(cls, groups: Sequence[str], counts: ArrayLike) -> ConfusionMatrix:
        """Create a matrix from counts of shape (K, K), rows are the truth."""
        rows = np.asarray(counts).tolist()
        return cls(tuple(groups), tuple(tuple(row) for row in rows))

    @property
    def rates(self) -> Floats:
        """M, shape (K, K): P(perceived | true), rows sum to 1."""
        counts = np.asarray(self.counts, dtype=np.float64)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    @property
    def labelled(self) -> Ints:
        """Labelled images by true group, n_g of shape (K,)."""
        return np.asarray(np.asarray(self.counts, dtype=np.int64).sum(axis=1))

    @property
    def accuracy(self) -> Estimate:
        """Share of labelled images that were classified correctly, over all groups, with its interval."""
        counts = np.asarray(self.counts, dtype=np.int64)
        return share_estimate(int(counts.trace()), int(counts.sum()))

    @property
    def recall(self) -> dict[str, Estimate]:
        """For each true group, the share of its images that were classified correctly, with its interval."""
        labelled = self.labelled.tolist()
        return {group: share_estimate(self.counts[i][i], labelled[i]) for i, group in enumerate(self.groups)}

    @property
    def condition_number(self) -> float:
        """Ratio of M's largest and smallest singular value; 1 for a perfect judge, infinity for a singular matrix."""
        values = np.linalg.svd(self.rates, compute_uv=False)
        return float(values[0] / values[-1]) if values[-1] > 1e-12 else float("inf")

    @property
    def correctable(self) -> bool:
        """Whether the condition number is within ``CONDITION_LIMIT``."""
        return self.condition_number <= CONDITION_LIMIT

    @property
    def exact(self) -> ConfusionMatrix:
        """The same rates with a very large number of labelled images, so that their error is negligible."""
        return ConfusionMatrix(self.groups, tuple(tuple(count * 10**9 for count in row) for row in self.counts))

    def reordered(self, groups: Sequence[str]) -> ConfusionMatrix:
        """Return the matrix with its groups in another order.

        Raises:
            ValueError: If ``groups`` are not the same groups.
        """
        if sorted(groups) != sorted(self.groups):
            raise ValueError(f"expected the groups {', '.join(groups)}, the matrix has {', '.join(self.groups)}")
        order = [self.groups.index(group) for group in groups]
        return ConfusionMatrix(tuple(groups), tuple(tuple(self.counts[i][j] for j in order) for i in order))


def correct(perceived: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    """Return the corrected shares: π̂ = (Mᵀ)⁻¹p̄, projected to the simplex; shape (K,) to (K,).

    Args:
        perceived: Counts or shares of the perceived groups, in the matrix's order.
        matrix: The judge's confusion matrix.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are no perceived images, or the groups do not match.
    """
    values = _perceived(perceived, matrix)
    return nearest_distribution(inverse_of(matrix) @ (values / values.sum()))


def _perceived(values: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (len(matrix.groups),):
        raise ValueError(f"expected one value for each of {', '.join(matrix.groups)}, found shape {found.shape}")
    if not (np.isfinite(found) & (found >= 0)).all() or not found.sum():
        raise ValueError(f"expected counts or shares of at least 1 image, none negative; found {found.tolist()}")
    return found


def checked_counts(values: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    """Return counts by perceived group as an array (K,).

    Raises:
        ValueError: If they are not whole numbers, there are no images, or the groups do not match.
    """
    found = _perceived(values, matrix)
    if (found != np.floor(found)).any():
        raise ValueError(f"an interval needs whole counts of images, found {found.tolist()}; give counts, not shares")
    return found


def inverse_of(matrix: ConfusionMatrix) -> Floats:
    """Return A = (Mᵀ)⁻¹, if M is well-conditioned."""
    if not matrix.correctable:
        condition = matrix.condition_number
        raise IllConditioned(
            f"expected a confusion matrix with a condition number up to {CONDITION_LIMIT:g}, found {condition:.3g}; "
            f"the judge cannot tell {', '.join(matrix.groups)} apart well enough: merge groups, or use another judge"
        )
    return np.asarray(np.linalg.inv(matrix.rates.T), dtype=np.float64)


def smoothed(matrix: ConfusionMatrix) -> tuple[Floats, Floats]:
    """Return M̃ (K, K) and ñ (K,): the rates and labels with ``PSEUDO_LABELS`` added to each row."""
    counts = np.asarray(matrix.counts, dtype=np.float64) + PSEUDO_LABELS / len(matrix.groups)
    labelled = counts.sum(axis=1)
    return counts / labelled[:, None], labelled


def label_covariance(q: Floats) -> Floats:
    """Return diag(q) − qqᵀ, the covariance of a single draw."""
    return np.diag(q) - np.outer(q, q)
