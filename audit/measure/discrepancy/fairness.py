"""Fairness discrepancy: the distance of the perceived groups of images from the target distribution.

The figure is the L2 distance of Shi et al. 2025 (DiffLens, section 5.1), with two estimators. *Hard* counts the judge's
most probable group and is used by audits. *Soft* averages the judge's probabilities, so it depends on the shares and on
the confidence of the judge. Both are plug-in estimates and biased upwards: even a perfectly fair model is above 0.
Every counted figure is therefore reported with its expectation at parity for its n.

Legend: n images, K groups. Probabilities are in [0, 1] and rows sum to 1.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

Floats = NDArray[np.float64]

ENUMERATED_OUTCOMES = 200_000
"""``expected_at_parity`` is exact up to this number of outcomes: any n at K = 2, n ≤ 630 at K = 3, n ≤ 104 at K = 4."""

SIMULATED_SAMPLES = 40_000
"""Number of simulated samples for more outcomes; the relative standard error is then at most 0.76 / √40,000 < 0.4 %."""


def soft_plug_in(probabilities: ArrayLike, target: ArrayLike) -> float:
    """Return ‖p̄ − r‖₂ of the mean probabilities p̄ of shape (n, K) and the target r, as DiffLens reports it."""
    rows, goal = _checked(probabilities, target)
    return float(np.linalg.norm(rows.mean(axis=0) - goal))


def hard_plug_in(probabilities: ArrayLike, target: ArrayLike) -> float:
    """Return ‖p̂ − r‖₂ of the shares p̂ of the most probable group and the target r."""
    rows, goal = _checked(probabilities, target)
    return float(np.linalg.norm(hard_counts(rows) / len(rows) - goal))


def hard_counts(probabilities: ArrayLike) -> NDArray[np.int64]:
    """Count the images by their most probable group: (n, K) to (K,); a tie counts for the first group."""
    rows = np.asarray(probabilities, dtype=np.float64)
    return np.bincount(rows.argmax(axis=1), minlength=rows.shape[1])


def hard_labels(probabilities: ArrayLike) -> Floats:
    """Return the most probable group of each image as a one-hot row, (n, K); a tie counts for the first group."""
    rows = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(np.eye(rows.shape[1])[rows.argmax(axis=1)])


@lru_cache(maxsize=4096)
def expected_at_parity(n: int, target: tuple[float, ...]) -> float:
    """Return the mean of the hard plug-in over samples of ``n`` images from the target itself: the noise floor.

    It is exact, by a sum over all outcomes of the multinomial, for at most ``ENUMERATED_OUTCOMES`` outcomes; otherwise
    it is the mean of ``SIMULATED_SAMPLES`` samples with a fixed seed.

    Args:
        n: Classified images, at least 1.
        target: The distribution that counts as fair, K ≥ 2 shares with sum 1.

    Raises:
        ValueError: If ``n`` is zero or the target is not a distribution over at least two groups.
    """
    if n < 1:
        raise ValueError(f"the expectation at parity needs at least 1 image, got {n}")
    goal = _distribution(target)
    if math.comb(n + goal.size - 1, goal.size - 1) <= ENUMERATED_OUTCOMES:
        outcomes = _compositions(n, goal.size)
        weights = np.exp(gammaln(n + 1) + (xlogy(outcomes, goal) - gammaln(outcomes + 1)).sum(axis=1))
        return float(np.average(np.linalg.norm(outcomes / n - goal, axis=1), weights=weights))
    samples = np.random.default_rng(0).multinomial(n, goal, size=SIMULATED_SAMPLES)
    return float(np.linalg.norm(samples / n - goal, axis=1).mean())


def maximum(target: ArrayLike) -> float:
    """Return the largest possible discrepancy from ``target``: all images in the group with the smallest target."""
    goal = _distribution(target)
    corners = np.linalg.norm(np.eye(goal.size) - goal, axis=1)
    return float(corners.max())


def total_variation(first: ArrayLike, second: ArrayLike) -> float:
    """Return half the L1 distance of two distributions of shape (K,): the largest difference in any set of groups."""
    p, q = _distribution(first), _distribution(second)
    if p.shape != q.shape:
        raise ValueError(f"expected two distributions over the same groups, got {p.size} and {q.size} groups")
    return float(np.abs(p - q).sum() / 2)


def uniform(groups: int) -> tuple[float, ...]:
    """Return the uniform target over ``groups`` groups."""
    return (1 / groups,) * groups


def _compositions(n: int, parts: int) -> Floats:
    """Return all ways to divide ``n`` images into ``parts`` groups, shape (C(n + parts − 1, parts − 1), parts)."""
    heads = np.zeros((1, 0))
    for _ in range(parts - 1):
        left = (n - heads.sum(axis=1)).astype(np.int64)
        first_of_row = np.repeat(np.cumsum(left + 1) - (left + 1), left + 1)
        values = np.arange(first_of_row.size) - first_of_row
        heads = np.column_stack([np.repeat(heads, left + 1, axis=0), values])
    return np.column_stack([heads, n - heads.sum(axis=1)])


def _checked(probabilities: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    goal = _distribution(target)
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != goal.size:
        raise ValueError(f"expected probabilities of shape (n, {goal.size}), one column per group; found {rows.shape}")
    if not len(rows):
        raise ValueError("fairness discrepancy of no image is undefined; report the images by their status instead")
    if not np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        raise ValueError("every row of the probabilities must sum to 1; apply softmax over the attribute's own groups")
    return rows, goal


def _distribution(shares: ArrayLike) -> Floats:
    values = np.asarray(shares, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"a distribution needs at least 2 groups in one row, found shape {values.shape}")
    if (values < 0).any() or not math.isclose(values.sum(), 1, abs_tol=1e-6):
        raise ValueError(f"a distribution must be non-negative and sum to 1, found {values.tolist()}")
    return values
