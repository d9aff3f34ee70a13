"""Change of a share between two arms with the same noise, and between two independent runs.

Arms use the same noise, so the two results for one image form a pair, and the pairs of a prompt are independent of each
other. Runs with different seeds are two independent samples. A change is always *after − before* (or second − first).

Legend: n images or pairs, K groups, P prompts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, fisher_exact

from audit.measure.inference.intervals import wilson
from audit.records.estimates import Estimate

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def paired_share_difference(before: ArrayLike, after: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the difference of two shares of the same images, after − before, with a score interval.

    The interval is Newcombe's square-and-add of two Wilson intervals with their correlation (Newcombe 1998, Statistics
    in Medicine 17:2635, method 10; φ with its continuity correction). It exists for every table, even if no image
    changed.

    Args:
        before: Whether image i belongs to the group before, shape (n,).
        after: The same after, in the same order.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If there are no pairs, the shapes differ or the values are not true or false.
    """
    first, second = _paired_flags(before, after)
    both, joined, left = int((first & second).sum()), int((~first & second).sum()), int((first & ~second).sum())
    return paired_share_difference_of_counts(both, joined, left, len(first), confidence)


def paired_share_difference_of_counts(both: int, joined: int, left: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return ``paired_share_difference`` from counts: images in the group both times, only after, and only before.

    Raises:
        ValueError: If there are no pairs, or the counts are larger than n.
    """
    old, new = wilson(both + left, n, confidence), wilson(both + joined, n, confidence)
    return _square_and_add(old, new, _correlation(both, joined, left, n), n)


def paired_share_errors(tables: ArrayLike) -> Floats:
    """Return the standard error, never 0, of each group's paired change of share, from pairs (P, K, K): (P, K).

    It is that of Agresti and Min (2005, Statistics in Medicine 24) for the 2 × 2 table of a group, with half an image
    added to each cell.

    Args:
        tables: Images by their group before (rows) and after (columns), at least one in each table.
    """
    counts = np.asarray(tables, dtype=np.float64)
    stayed = np.diagonal(counts, axis1=1, axis2=2)
    left, joined = counts.sum(axis=2) - stayed + 0.5, counts.sum(axis=1) - stayed + 0.5
    n = counts.sum(axis=(1, 2))[:, None] + 2
    return np.asarray(np.sqrt(left + joined - (joined - left) ** 2 / n) / n)


def mcnemar_p_value(before: ArrayLike, after: ArrayLike) -> float:
    """Return the exact two-sided p-value of McNemar's test that a share is the same before and after.

    Under the hypothesis of no change, both directions are equally likely among the discordant pairs (McNemar 1947).
    Without discordant pairs there is no evidence of a change, and the p-value is 1.

    Args:
        before: Whether image i belongs to the group before, shape (n,).
        after: The same after, in the same order.

    Raises:
        ValueError: If there are no pairs, the shapes differ or the values are not true or false.
    """
    first, second = _paired_flags(before, after)
    joined, left = int((second & ~first).sum()), int((first & ~second).sum())
    return float(binomtest(joined, joined + left).pvalue) if joined + left else 1.0


def two_sample_share_difference(k1: int, n1: int, k2: int, n2: int, confidence: float = 0.95) -> Estimate:
    """Return the difference of the shares of two independent samples, second − first, with a score interval.

    Newcombe's square-and-add of two Wilson intervals (Newcombe 1998, Statistics in Medicine 17:873, method 10).

    Args:
        k1: Images of the first sample that belong to the group.
        n1: Images of the first sample.
        k2: Images of the second sample that belong to the group.
        n2: Images of the second sample.
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        The difference; its n counts the images of both samples.

    Raises:
        ValueError: If a sample is empty or a count is not in [0, n].
    """
    return _square_and_add(wilson(k1, n1, confidence), wilson(k2, n2, confidence), 0.0, n1 + n2)


def fisher_p_value(k1: int, n1: int, k2: int, n2: int) -> float:
    """Return the two-sided p-value of Fisher's exact test that two independent samples have the same share.

    Raises:
        ValueError: If a sample is empty or a count is not in [0, n].
    """
    for k, n in ((k1, n1), (k2, n2)):
        if n < 1 or not 0 <= k <= n:
            raise ValueError(f"expected a count in [0, n] of at least 1 image, found {k} of {n}")
    return float(fisher_exact(np.array([[k1, n1 - k1], [k2, n2 - k2]])).pvalue)


def _square_and_add(old: Estimate, new: Estimate, correlation: float, n: int) -> Estimate:
    """Combine the intervals of two shares into that of their difference, new − old (Newcombe 1998, method 10)."""
    value = new.value - old.value
    below = float(hypotenuse(new.value - new.low, old.high - old.value, correlation))
    above = float(hypotenuse(new.high - new.value, old.value - old.low, correlation))
    return Estimate(value=value, low=value - below, high=value + above, n=n)


def hypotenuse(a: Floats | float, b: Floats | float, correlation: Floats | float) -> Floats:
    """Return √(a² + b² − 2ρab), the combination of two uncertainties with correlation ρ."""
    # Rounding must not make the sum negative if ρ = 1 and a = b.
    return np.asarray(np.sqrt(np.maximum(0.0, a * a + b * b - 2 * correlation * a * b)))


def _correlation(both: int, joined: int, left: int, n: int) -> float:
    """Return φ̂ of the 2 × 2 table; a positive value has a continuity correction, and an empty margin gives 0."""
    neither = n - both - joined - left
    margins = math.prod((both + left, joined + neither, both + joined, left + neither))
    if not margins:
        return 0.0
    product = float(both * neither - joined * left)
    return (max(product - n / 2, 0.0) if product > 0 else product) / math.sqrt(margins)


def _paired_flags(before: ArrayLike, after: ArrayLike) -> tuple[Bools, Bools]:
    first, second = np.asarray(before), np.asarray(after)
    if first.dtype != np.bool_ or second.dtype != np.bool_:
        raise ValueError(f"expected true or false for every image, found {first.dtype} and {second.dtype}")
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"expected the same images before and after, found shapes {first.shape} and {second.shape}")
    if not first.size:
        raise ValueError("the difference of two shares needs at least 1 pair, found none; report the statuses instead")
    return first, second
