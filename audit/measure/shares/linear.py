"""How far a weighted sum of multinomial shares may lie from its estimate, at any confidence.

A weighted sum is taken apart into shares of two kinds: with the labels in the order of their weights,
w·q = w₍₁₎ + Σⱼ (w₍ⱼ₊₁₎ − w₍ⱼ₎) P(weight ≥ w₍ⱼ₊₁₎), and each of these probabilities has the exact limits of Clopper and
Pearson (1934, Biometrika 26). Added up, their distances from the estimates hold whatever the shares have to do with
each other; where one of the steps is much the largest, as between one group and the rest, little is lost by it.

Legend: L labels, q their probabilities, x how many images have each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

Floats = NDArray[np.float64]


def reach(counts: Floats, weights: Floats, tail: ArrayLike, *, up: bool) -> Floats:
    """Return how far w·q may lie above (or below) w·x/n, except with probability ``tail``.

    Args:
        counts: Images by label, shape (…, L), at least one in every row.
        weights: Weight of each label, shape (L,).
        tail: Chance that it lies farther, in (0, 1), of the shape of ``counts`` without its last axis, or one for all.
        up: Whether above.

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
    """Return how far a share may lie above ``successes / n``: Clopper and Pearson's limit, less the share."""
    rest = n - successes
    limit = betaincinv(successes + 1, np.maximum(rest, 1), 1 - tail)
    return np.asarray(np.where(rest > 0, limit - successes / n, 0.0))
