"""Whether two judges see the same: the share of images on which they agree, and Cohen's kappa.

Agreement is no accuracy: two judges can be wrong together. Kappa takes off what two judges with these habits would
agree on by chance, so that calling everybody male does not count as agreeing.

Legend: n images, K groups; p_ij is the share of images that the first judge calls i and the second j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from audit.measure.inference.intervals import share_estimate
from audit.records.estimates import Estimate

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """What two judges have in common.

    Attributes:
        share: Share of images with the same answer.
        kappa: Cohen's kappa; None where it is undefined, since both judges gave all images one and the same answer.
    """

    share: Estimate
    kappa: Estimate | None


def agreement(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Agreement:
    """Compare the hard answers of two judges about the same images.

    Args:
        first: One judge's groups as whole numbers from 0 on, shape (n,).
        second: The other's, in the same order of images.
        confidence: Coverage of both intervals, in (0, 1).

    Raises:
        ValueError: If there is no image, or the answers do not pair up.
    """
    table = answer_table(first, second)
    n, agreed = int(table.sum()), int(np.trace(table))
    kappa = None if _expected(table / n) == 1 else cohen_kappa(table, confidence)
    return Agreement(share=share_estimate(agreed, n, confidence), kappa=kappa)


def answer_table(first: ArrayLike, second: ArrayLike) -> Ints:
    """Count the images by both judges' answers: (n,) and (n,) to (K, K), rows are the first judge.

    Raises:
        ValueError: If there is no image, or the answers do not pair up.
    """
    rows, columns = np.asarray(first), np.asarray(second)
    if rows.ndim != 1 or rows.shape != columns.shape or not rows.size:
        raise ValueError(
            f"expected the answers of two judges about the same n ≥ 1 images, found {rows.shape} and {columns.shape}; "
            "leave out images that only one of them classified"
        )
    for answers in (rows, columns):
        if not np.issubdtype(answers.dtype, np.integer) or (answers < 0).any():
            raise ValueError(f"expected groups as whole numbers from 0 on, found {answers.dtype}; give their positions")
    groups = int(max(rows.max(), columns.max())) + 1
    counts: Ints = np.bincount(rows * groups + columns, minlength=groups * groups)
    return counts.reshape(groups, groups)


def cohen_kappa(table: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return κ = (p_o − p_e) / (1 − p_e) with its large-sample interval (:func:`large_sample_kappa`), widened.

    The large-sample interval holds the truth far too seldom where few images show some group, so it is widened to hold
    that of the same table with K more images, spread evenly over all pairs of answers, and both have the quantiles of
    Student's t with n − 1 degrees of freedom, as the error is estimated itself. Where the judges agree on every
    image the standard error is 0, which is no knowledge; the lower end is then that of the interval of p_o, at the p_e
    found.

    Args:
        table: Images by both judges' answers, shape (K, K).
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If the table is empty, or p_e is 1, since every answer of both judges is the same.
    """
    counts = np.asarray(table)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.sum():
        raise ValueError(
            f"expected a square table of at least 1 image, found shape {counts.shape}, {counts.sum()} images"
        )
    n = int(counts.sum())
    p = counts / n
    observed, expected = float(np.trace(p)), _expected(p)
    if expected == 1:
        raise ValueError("kappa is undefined where both judges gave all images one answer; report the share agreed on")
    kappa = (observed - expected) / (1 - expected)
    if counts.trace() == n:
        low = (share_estimate(n, n, confidence).low - expected) / (1 - expected)
        return Estimate(value=1.0, low=max(-1.0, low), high=1.0, n=n)
    t = float(stdtrit(max(n - 1, 1), (1 + confidence) / 2))
    ends = (*_ends(counts, t), *_ends(counts + 1 / len(counts), t))
    return Estimate(value=kappa, low=max(-1.0, min(ends)), high=min(1.0, max(ends)), n=n)


def _ends(table: ArrayLike, t: float) -> tuple[float, float]:
    kappa, error = large_sample_kappa(table)
    return kappa - t * error, kappa + t * error


def large_sample_kappa(table: ArrayLike) -> tuple[float, float]:
    """Return κ and its large-sample standard error (Fleiss, Cohen & Everitt 1969, eq. 13).

    Args:
        table: Images by both judges' answers, shape (K, K), p_e below 1; parts of an image count as well.
    """
    counts = np.asarray(table, dtype=np.float64)
    n = float(counts.sum())
    p = counts / n
    observed, expected = float(np.trace(p)), _expected(p)
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    apart = (columns[:, None] + rows[None, :]) ** 2  # (p_.i + p_j.)²
    np.fill_diagonal(apart, 0.0)
    variance = (
        np.diag(p) @ ((1 - expected) - (rows + columns) * (1 - observed)) ** 2
        + (1 - observed) ** 2 * (p * apart).sum()
        - (observed * expected - 2 * expected + observed) ** 2
    ) / (n * (1 - expected) ** 4)
    return (observed - expected) / (1 - expected), math.sqrt(max(0.0, float(variance)))


def _expected(p: Floats) -> float:
    """Return p_e = Σ p_i. p_.i, what independent judges with these habits would agree on."""
    return float(p.sum(axis=1) @ p.sum(axis=0))
