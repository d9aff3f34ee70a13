"""Power to detect a departure from the target."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import binom

from audit.measure.discrepancy.fairness import _distribution
from audit.planning.power.search import every_outcome, smallest

Floats = NDArray[np.float64]

ENUMERATED_OUTCOMES = 50_000
"""Up to so many outcomes power is exact: any n at K = 2, n ≤ 314 at K = 3, n ≤ 64 at K = 4."""

NULL_SAMPLES = 100_000
"""Samples from the target beyond that, for the critical distance."""

SAMPLES = 10_000
"""Samples from an alternative beyond that: a power of 0.8 then has a standard error of 0.004."""


@dataclass(frozen=True)
class Direction:
    """A direction away from the target: some groups gain equally, the others lose equally.

    Attributes:
        raised: Indices of the groups that gain.
        unit: The direction, shape (K,), sum 0 and length 1.
    """

    raised: tuple[int, ...]
    unit: tuple[float, ...]

    @classmethod
    def towards(cls, raised: tuple[int, ...], groups: int) -> Direction:
        """Return the direction in which the groups ``raised`` gain.

        Raises:
            ValueError: If none or all of the groups gain, or one does not exist.
        """
        if not 0 < len(set(raised)) < groups or not set(raised) <= set(range(groups)):
            raise ValueError(f"expected some but not all of groups 0 to {groups - 1} to gain, found {raised}")
        step = np.where(np.isin(np.arange(groups), raised), 1 / len(raised), -1 / (groups - len(raised)))
        return cls(raised, tuple((step / np.linalg.norm(step)).tolist()))

    def reach(self, target: Floats) -> float:
        """Return the distance at which the first group has no share left."""
        unit = np.asarray(self.unit)
        return float((target[unit < 0] / -unit[unit < 0]).min())

    def shares(self, target: Floats, distance: float) -> Floats:
        """Return the shares π = r + d·u."""
        moved = np.maximum(target + distance * np.asarray(self.unit), 0.0)
        return np.asarray(moved / moved.sum())


@dataclass(frozen=True)
class ParityTest:
    """Test of the hypothesis that n labels were drawn from the target, at one level.

    Attributes:
        n: Classified images, at least 1.
        target: The distribution that counts as fair.
        level: Level of the test, in (0, 1).
    """

    n: int
    target: tuple[float, ...]
    level: float = 0.05

    def __post_init__(self) -> None:
        """Check the number of images and the level."""
        _distribution(self.target)
        if self.n < 1 or not 0 < self.level < 1:
            raise ValueError(f"expected at least 1 image and a level in (0, 1), found n={self.n}, level={self.level}")

    def power(self, shares: ArrayLike) -> float:
        """Return the probability that parity is rejected if the true shares are ``shares``, shape (K,).

        Raises:
            ValueError: If the shares are no distribution over the target's groups.
        """
        truth = _distribution(shares)
        if truth.size != len(self.target):
            raise ValueError(f"expected shares of {len(self.target)} groups, found {truth.size}")
        if self._exact:
            rejected = self._rejected
            return float(np.exp(rejected[1] + xlogy(rejected[0], truth).sum(axis=1)).sum())
        counts = np.random.default_rng(1).multinomial(self.n, truth, size=SAMPLES)
        return float((self._extremity(counts) >= self._critical).mean())

    def smallest_distance(self, direction: Direction, power: float = 0.8) -> float | None:
        """Return the smallest distance from the target in one direction that is detected, None if none is."""
        goal = np.asarray(self.target)
        return smallest(lambda d: self.power(direction.shares(goal, d)) >= power, direction.reach(goal))

    def hardest(self, power: float = 0.8) -> tuple[Direction, float | None]:
        """Return the direction in which a departure is hardest to see, and the smallest distance detected in all.

        Looked through are all directions in which some groups gain equally and the others lose equally; of those that
        differ in the names of groups only, the first.
        """
        found = [(direction, self.smallest_distance(direction, power)) for direction in _directions(self.target)]
        return max(found, key=lambda pair: math.inf if pair[1] is None else pair[1])

    @property
    def _exact(self) -> bool:
        return math.comb(self.n + len(self.target) - 1, len(self.target) - 1) <= ENUMERATED_OUTCOMES

    @cached_property
    def _rejected(self) -> tuple[Floats, Floats]:
        """Return the outcomes (m, K) that reject parity, and the log of their number of orders (m,)."""
        counts, orders = every_outcome(self.n, len(self.target))
        extremity = self._extremity(counts)
        weights = np.exp(orders + xlogy(counts, np.asarray(self.target)).sum(axis=1))
        order = np.argsort(-extremity, kind="stable")
        # Outcomes that are equally extreme are rejected together or not at all.
        last = np.searchsorted(-extremity[order], -extremity[order], side="right") - 1
        p_values = np.cumsum(weights[order])[last]
        kept = order[p_values <= self.level]
        return counts[kept], orders[kept]

    @cached_property
    def _critical(self) -> float:
        counts = np.random.default_rng(0).multinomial(self.n, self.target, size=NULL_SAMPLES)
        values, place = np.unique(self._extremity(counts), return_inverse=True)
        at_least = np.cumsum(np.bincount(place)[::-1])[::-1] / NULL_SAMPLES
        beyond = values[at_least <= self.level]
        return float(beyond[0]) if beyond.size else math.inf

    def _extremity(self, counts: NDArray[np.float64] | NDArray[np.int64]) -> Floats:
        """Return the statistic of the test: the distance, or for two groups the improbability (as binomtest)."""
        if len(self.target) == 2:
            return np.asarray(np.round(-binom.logpmf(counts[:, 0], self.n, self.target[0]), 9))
        return np.asarray(np.round(((counts / self.n - np.asarray(self.target)) ** 2).sum(axis=1), 9))


def _directions(target: tuple[float, ...]) -> Iterator[Direction]:
    """Yield the directions in which some groups gain, each once up to the names of the groups."""
    seen = set()
    for size in range(1, len(target)):
        for raised in combinations(range(len(target)), size):
            kind = tuple(sorted((index in raised, target[index]) for index in range(len(target))))
            if kind not in seen:
                seen.add(kind)
                yield Direction.towards(raised, len(target))
