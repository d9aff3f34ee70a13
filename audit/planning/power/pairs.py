"""Power to detect a change between two arms of the same noise (McNemar)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from audit.planning.power.search import NEGLIGIBLE, smallest


def paired_power(n: int, before: float, after: float, correlation: float = 0.0, level: float = 0.05) -> float:
    """Return the power of McNemar's exact test to see a group's share change between two paired arms.

    The test counts only pairs that disagree (McNemar 1947); their number is binomial, and given it so is the split.

    Args:
        n: Pairs: images of the same prompt and noise, classified in both arms, at least 1.
        before: True share of the group in the first arm, in [0, 1].
        after: True share in the second, in [0, 1].
        correlation: Correlation of the two labels of a pair; 0 where sharing the noise does not help at all.
        level: Level of the test, two-sided.

    Raises:
        ValueError: If there is no pair, or no pairs have these shares and this correlation.
    """
    lost, gained = _discordant(before, after, correlation)
    if n < 1:
        raise ValueError(f"expected at least 1 pair, found {n}")
    disagree = lost + gained
    if not disagree:
        return 0.0
    pairs = np.arange(n + 1)
    weights = binom.pmf(pairs, n, min(disagree, 1.0))
    pairs, weights = pairs[weights > NEGLIGIBLE / (n + 1)], weights[weights > NEGLIGIBLE / (n + 1)]
    tail = _sign_test_tail(n, level)[pairs]
    rejects = binom.cdf(tail, pairs, lost / disagree) + binom.cdf(tail, pairs, gained / disagree)
    return float((weights * rejects).sum())


def smallest_paired_change(
    n: int, before: float | None = None, correlation: float = 0.0, level: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the smallest fall of a group's share between paired arms that is detected, None if none is.

    Args:
        n: Pairs, at least 1.
        before: Share in the first arm; nothing means one as far above a half as the second is below it, where shares
            vary most and a change is hardest to see.
        correlation: Correlation of the two labels of a pair.
        level: Level of the test, two-sided.
        power: Chance of detection.

    Raises:
        ValueError: If there is no pair, or no pairs have this correlation.
    """

    def shares(change: float) -> tuple[float, float]:
        return (0.5 + change / 2, 0.5 - change / 2) if before is None else (before, before - change)

    def detected(change: float) -> bool:
        return paired_power(n, *shares(change), _feasible(*shares(change), correlation), level) >= power

    return smallest(detected, 1.0 if before is None else before)


@lru_cache(maxsize=64)
def _sign_test_tail(n: int, level: float) -> NDArray[np.int64]:
    """Return per number of discordant pairs, 0 to n, the largest smaller count that rejects; −1 if none does."""
    pairs = np.arange(n + 1)
    tail = np.asarray(binom.ppf(level / 2, pairs, 0.5), dtype=np.int64)
    return np.asarray(np.where(2 * binom.cdf(tail, pairs, 0.5) <= level, tail, tail - 1), dtype=np.int64)


def _discordant(before: float, after: float, correlation: float) -> tuple[float, float]:
    """Return the probabilities of a pair in the group only before, and only after."""
    if not (0 <= before <= 1 and 0 <= after <= 1):
        raise ValueError(f"shares must lie in [0, 1], found {before} and {after}")
    both = before * after + correlation * math.sqrt(before * (1 - before) * after * (1 - after))
    if not max(0.0, before + after - 1) - 1e-12 <= both <= min(before, after) + 1e-12:
        raise ValueError(f"no pairs have shares {before:g} and {after:g} and correlation {correlation:g}; lower it")
    return max(0.0, before - both), max(0.0, after - both)


def _feasible(before: float, after: float, correlation: float) -> float:
    """Return the correlation, or the largest that pairs with these shares can have if that is smaller."""
    spread = math.sqrt(before * (1 - before) * after * (1 - after))
    if not spread or correlation <= 0:
        return correlation if spread else 0.0
    return min(correlation, (min(before, after) - before * after) / spread)
