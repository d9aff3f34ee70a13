"""Sums of many samples of images, which estimators of the group distribution use instead of the rows.

An audit of ten thousand prompts has ten thousand small samples. Means and covariances of all samples are computed in a
few passes over the rows. Estimators work on arrays of samples; a single sample is an array of length one.

Legend: N images in P samples, K groups; z (K,) is the row of one image, one-hot where the judge gives labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """P non-empty samples.

    Attributes:
        n: Images, shape (P,), at least one each.
        mean: Mean row, shape (P, K).
        products: Mean of zzᵀ, shape (P, K, K).
        covariance: Estimated covariance of the mean row, shape (P, K, K): that of one image divided by n, or less if
            the numbers of images in strata were fixed in advance. Zero for a single image.
        counts: Images by most probable group, shape (P, K); a tie counts for the first group.
        labels: Whether every row of the sample is one-hot, shape (P,).
    """

    n: Floats
    mean: Floats
    products: Floats
    covariance: Floats
    counts: Ints
    labels: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: ArrayLike, owners: ArrayLike, size: int, strata: ArrayLike | None = None) -> Samples:
        """Create samples from their rows.

        The mean of a stratified sample varies less than that of a simple random sample: its covariance is
        Σ (n_h/n)² S_h/n_h over the strata h (Cochran 1977, section 5.3). A stratum of one image gets the covariance of
        the whole sample, which is too large, so that a debiased square of such a sample is too small. No unbiased
        estimate exists in this case: the mean of a function of one image is linear in its distribution, but a squared
        distance is not.

        Args:
            rows: Group probabilities, shape (N, K).
            owners: The sample of each row, in [0, size), shape (N,).
            size: P.
            strata: Any code of each row's stratum, shape (N,), if the numbers of images in strata were fixed; equal
                codes in different samples are different strata.

        Raises:
            ValueError: If a sample has no images, or the shapes do not match.
        """
        values, owner = np.asarray(rows, dtype=np.float64), np.asarray(owners, dtype=np.int64)
        if values.ndim != 2 or owner.shape != (len(values),):
            raise ValueError(f"expected one sample for each of {len(values)} rows, found {owner.shape}")
        n, sums, products = _sums(values, owner, size)
        if not n.all():
            raise ValueError("a sample without an image has no mean; report the images by their status instead")
        mean, products = sums / n[:, None], products / n[:, None, None]
        alike = _unbiased(products - _outer(mean), n)
        return cls(
            n=n,
            mean=mean,
            products=products,
            covariance=alike / n[:, None, None] if strata is None else _stratified(values, owner, strata, n, alike),
            counts=np.bincount(owner * values.shape[1] + values.argmax(axis=1), minlength=sums.size).reshape(
                mean.shape
            ),
            labels=np.bincount(owner, ((values > 0) & (values < 1)).any(axis=1), size) == 0,
        )

    @classmethod
    def of_counts(cls, counts: ArrayLike) -> Samples:
        """Return the samples with counts of labels (P, K), each with at least one image.

        Raises:
            ValueError: If a row has no images.
        """
        numbers = np.asarray(counts, dtype=np.int64)
        n = numbers.sum(axis=1).astype(np.float64)
        if not n.all():
            raise ValueError("a sample without an image has no mean; report the images by their status instead")
        mean = numbers / n[:, None]
        products = mean[:, :, None] * np.eye(numbers.shape[1])
        covariance = _unbiased(products - _outer(mean), n) / n[:, None, None]
        return cls(n, mean, products, covariance, numbers, np.ones(len(n), dtype=np.bool_))

    @classmethod
    def one(cls, rows: ArrayLike, strata: Sequence[str] | None = None) -> Samples:
        """Return a single sample from its rows (n, K), with the name of each image's stratum if there are strata."""
        codes = None if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
        return cls.of(rows, np.zeros(len(np.asarray(rows)), dtype=np.int64), 1, codes)

    def at(self, places: NDArray[np.bool_] | Ints) -> Samples:
        """Return some of the samples."""
        return Samples(
            self.n[places],
            self.mean[places],
            self.products[places],
            self.covariance[places],
            self.counts[places],
            self.labels[places],
        )


def _sums(rows: Floats, owners: Ints, size: int) -> tuple[Floats, Floats, Floats]:
    """Return the number (P,), the sum (P, K) and the sum of outer products (P, K, K) of each sample's rows."""
    groups = rows.shape[1]
    n = np.bincount(owners, minlength=size).astype(np.float64)
    sums = np.zeros((size, groups))
    products = np.empty((size, groups, groups))
    for i in range(groups):
        sums[:, i] = np.bincount(owners, rows[:, i], size)
        for j in range(i, groups):
            products[:, i, j] = products[:, j, i] = np.bincount(owners, rows[:, i] * rows[:, j], size)
    return n, sums, products


def _stratified(rows: Floats, owners: Ints, strata: ArrayLike, n: Floats, alike: Floats) -> Floats:
    codes = np.asarray(strata)
    if codes.shape != owners.shape:
        raise ValueError(f"expected one stratum for each of {len(owners)} images, found {codes.shape}")
    pairs, own = np.unique(np.stack([owners, codes], axis=1), axis=0, return_inverse=True)
    sample = pairs[:, 0]
    size, sums, products = _sums(rows, own.ravel(), len(pairs))
    mean = sums / size[:, None]
    within = _unbiased(products / size[:, None, None] - _outer(mean), size)
    within = np.where((size > 1)[:, None, None], within, alike[sample])
    parts = (size / n[sample] ** 2)[:, None, None] * within
    covariance = np.zeros_like(alike)
    np.add.at(covariance, sample, parts)
    return covariance


def _unbiased(spread: Floats, n: Floats) -> Floats:
    """Convert mean squares about the mean (P, K, K) to sample covariances; zero for a single image."""
    return spread * (n / np.maximum(n - 1, 1))[:, None, None]


def _outer(rows: Floats) -> Floats:
    return rows[:, :, None] * rows[:, None, :]
