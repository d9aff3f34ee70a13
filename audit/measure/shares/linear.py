"""Confidence limits of a weighted sum of multinomial shares, at any confidence level.

A weighted sum is written as a sum of binomial probabilities: with the labels sorted by weight,
w·q = w₍₁₎ + Σⱼ (w₍ⱼ₊₁₎ − w₍ⱼ₎) P(weight ≥ w₍ⱼ₊₁₎), and each of these probabilities has the exact limits of Clopper and
Pearson (1934, Biometrika 26). The sum of their distances from the estimates is valid for any dependence between the
shares. It is only slightly conservative if one step is much larger than the others, as between one group and the rest.

Legend: L labels, q their probabilities, x the number of images of each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

Floats = NDArray[np.float64]


def reach(counts: Floats, weights: Floats, tail: ArrayLike, *, up: bool) -> Floats:
    """Return the distance that w·q is above (or below) w·x/n at most, except with probability ``tail``.

    Args:
        counts: Images by label, shape (…, L), at least one in every row.
        weights: Weight of each label, shape (L,).
        tail: Probability of a larger distance, in (0, 1), of the shape of ``counts`` without its last axis, or a
            scalar.
        up: Whether the distance is above.

    Returns:
        Distances of at least 0, of the shape of ``counts`` without its last axis.
    """
    order = np.argsort(weights, kind="stable")
    steps = np.diff(weights[order])
    n = counts.sum(axis=-1, keepdims=True)
    at_least = np.cumsum(counts[..., order[::-1]], axis=-1)[..., -2::-1]
    each = np.asarray(tail, dtype=np.float64)[..., None]
    return np.asarray(_above(at_least if up else n - at_least, n, each) @ steps)


def _above(successes: Floats, n: Floats, tail: Floats) -> Floats:
    """Return the upper limit of Clopper and Pearson minus the share ``successes / n``."""
    rest = n - successes
    limit = betaincinv(successes + 1, np.maximum(rest, 1), 1 - tail)
    return np.asarray(np.where(rest > 0, limit - successes / n, 0.0))
