"""Agreement of two judges: the share of images with the same answer, and Cohen's kappa.

Agreement is not accuracy: both judges can be wrong. Kappa subtracts the agreement expected by chance for two judges
with these marginal shares, so two judges that classify every image as male have no agreement beyond chance.

Legend: n images, K groups; p_ij is the share of images that the first judge classifies as i and the second as j.
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
    """The agreement of two judges.

    Attributes:
        share: Share of images with the same answer.
        kappa: Cohen's kappa; None if it is undefined, because both judges gave the same single answer to all images.
    """

    share: Estimate
    kappa: Estimate | None


def agreement(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Agreement:
    """Compare the hard answers of two judges for the same images.

    Args:
        first: One judge's groups as whole numbers from 0, shape (n,).
        second: The other judge's groups, in the same order of images.
        confidence: Confidence level of both intervals, in (0, 1).

    Raises:
        ValueError: If there are no images, or the answers do not pair up.
    """
    table = answer_table(first, second)
    n, agreed = int(table.sum()), int(np.trace(table))
    kappa = None if _expected(table / n) == 1 else cohen_kappa(table, confidence)
    return Agreement(share=share_estimate(agreed, n, confidence), kappa=kappa)


def answer_table(first: ArrayLike, second: ArrayLike) -> Ints:
    """Count the images by both judges' answers: (n,) and (n,) to (K, K), rows are the first judge.

    Raises:
        ValueError: If there are no images, or the answers do not pair up.
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

    The coverage of the large-sample interval is much too low if a group has few images. It is therefore widened to
    include the interval of the same table with K additional images, spread evenly over all pairs of answers. Both use
    the quantiles of Student's t with n − 1 degrees of freedom, because the error is estimated. If the judges agree on
    every image, the standard error is 0; the lower end is then computed from the interval of p_o, with the observed
    p_e.

    Args:
        table: Images by both judges' answers, shape (K, K).
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If the table is empty, or p_e is 1, because all answers of both judges are the same.
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
        table: Images by both judges' answers, shape (K, K), p_e below 1; counts can be fractional.
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
    """Return p_e = Σ p_i. p_.i, the expected agreement of independent judges with these marginal shares."""
    return float(p.sum(axis=1) @ p.sum(axis=0))
