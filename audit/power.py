"""What a number of images can tell, worked out before any is made.

Power is exact: the probability, summed over every outcome, that the test which the audit will use rejects parity
(:func:`audit.measure.discrepancy.parity_p_value`), or that a gate's interval decides. Where there are too many outcomes
to sum, it is estimated from samples with a fixed seed, ± 1 percentage point. The normal approximations of textbooks
stand beside it under names of their own, for comparison; a test of counts rejects a little less often than they say.

With several tests, power is that of one test at its first step of Holm or of Benjamini–Hochberg, ``planned_level``: the
promise then holds even where everything else is at parity, and is exceeded where other tests reject too.

Legend: n images of one prompt and arm, K groups, m outcomes, π true shares, r the target, d = ‖π − r‖₂.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri, xlogy
from scipy.stats import binom

from audit.measure.fairness import _compositions, _distribution, uniform
from audit.measure.intervals import share_estimate
from audit.records import Attribute

Floats = NDArray[np.float64]
CountsInterval = Callable[[NDArray[np.int64], float], tuple[float, float]]
"""(counts of shape (K,), confidence) → the interval of a gate's figure."""

ENUMERATED_OUTCOMES = 50_000
"""Up to so many outcomes power is exact: any n at K = 2, n ≤ 314 at K = 3, n ≤ 64 at K = 4."""

NULL_SAMPLES = 100_000
"""Samples from the target beyond that, for the critical distance."""

SAMPLES = 10_000
"""Samples from an alternative beyond that: a power of 0.8 then has a standard error of 0.004."""

NEGLIGIBLE = 1e-7
"""Outcomes with less probability than this in all are left out where each of them costs an interval."""

LARGEST = 100_000
"""Searches for a sample size end here: no one makes more images of one prompt."""


@dataclass(frozen=True)
class Direction:
    """A way to depart from the target: some groups gain equally, the others lose equally.

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
        """Return the distance at which the first group is gone."""
        unit = np.asarray(self.unit)
        return float((target[unit < 0] / -unit[unit < 0]).min())

    def shares(self, target: Floats, distance: float) -> Floats:
        """Return the shares π = r + d·u."""
        moved = np.maximum(target + distance * np.asarray(self.unit), 0.0)
        return np.asarray(moved / moved.sum())


@dataclass(frozen=True)
class Detectable:
    """What n images of one prompt can tell about one attribute.

    Attributes:
        attribute: The attribute.
        n: Classified images per prompt and arm.
        level: Level of each single test.
        power: Chance of detection that is promised.
        direction: The stated direction: the groups that gain.
        distance: Smallest distance from the target that is detected along it, None where none is.
        share: The same as what the largest gain among the groups adds to a share; for two groups |π₁ − r₁|.
        hardest_direction: The direction in which a departure is hardest to see.
        hardest_distance: Smallest distance that is detected in every direction, None where none is.
        paired_change: Smallest change of one group's share between two arms with the same noise, in the middle of the
            scale and as if the pairs were independent (both make it hardest to see), None where none is.
    """

    attribute: str
    n: int
    level: float
    power: float
    direction: tuple[str, ...]
    distance: float | None
    share: float | None
    hardest_direction: tuple[str, ...]
    hardest_distance: float | None
    paired_change: float | None


@dataclass(frozen=True)
class GatePower:
    """How a gate's verdict will turn out, given the truth: three probabilities with sum 1."""

    passes: float
    fails: float
    inconclusive: float


def planned_level(level: float, tests: int) -> float:
    """Return the level of the first step of Holm and of Benjamini–Hochberg over ``tests`` tests.

    Raises:
        ValueError: If there is no test, or the level is not in (0, 1).
    """
    if tests < 1 or not 0 < level < 1:
        raise ValueError(f"expected at least 1 test and a level in (0, 1), found {tests} tests at {level}")
    return level / tests


def detectable(
    attribute: Attribute,
    n: int,
    *,
    target: ArrayLike | None = None,
    raised: tuple[int, ...] = (0,),
    level: float = 0.05,
    power: float = 0.8,
) -> Detectable:
    """Return the smallest departures from parity, and between arms, that ``n`` images detect.

    Args:
        attribute: The attribute with its groups.
        n: Classified images per prompt and arm, at least 1.
        target: The distribution that counts as fair, shape (K,); uniform unless given.
        raised: The stated direction: indices of the groups that gain.
        level: Level of one test; ``planned_level`` where there are several.
        power: Chance of detection, in (0, 1).

    Raises:
        ValueError: If there is no image, or the target or direction does not fit the groups.
    """
    goal = _distribution(uniform(len(attribute.groups)) if target is None else target)
    test = ParityTest(n, tuple(goal.tolist()), level)
    stated = Direction.towards(raised, goal.size)
    distance = test.smallest_distance(stated, power)
    hardest, hardest_distance = test.hardest(power)
    return Detectable(
        attribute=attribute.name,
        n=n,
        level=level,
        power=power,
        direction=tuple(attribute.groups[index] for index in stated.raised),
        distance=distance,
        share=None if distance is None else distance * max(map(abs, stated.unit)),
        hardest_direction=tuple(attribute.groups[index] for index in hardest.raised),
        hardest_distance=hardest_distance,
        paired_change=smallest_paired_change(n, level=level, power=power),
    )


# ---- parity --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParityTest:
    """The test that n labels were drawn from the target, at one level.

    Attributes:
        n: Classified images, at least 1.
        target: The distribution that counts as fair.
        level: Level of the test, in (0, 1).
    """

    n: int
    target: tuple[float, ...]
    level: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is no test."""
        _distribution(self.target)
        if self.n < 1 or not 0 < self.level < 1:
            raise ValueError(f"expected at least 1 image and a level in (0, 1), found n={self.n}, level={self.level}")

    def power(self, shares: ArrayLike) -> float:
        """Return the probability that parity is rejected where the true shares are ``shares``, shape (K,).

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
        """Return the smallest distance from the target in one direction that is detected, None where none is."""
        goal = np.asarray(self.target)
        return _smallest(lambda d: self.power(direction.shares(goal, d)) >= power, direction.reach(goal))

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
        counts, orders = _outcomes(self.n, len(self.target))
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
        """Return what the test orders outcomes by: the distance, for two groups the improbability (as binomtest)."""
        if len(self.target) == 2:
            return np.asarray(np.round(-binom.logpmf(counts[:, 0], self.n, self.target[0]), 9))
        return np.asarray(np.round(((counts / self.n - np.asarray(self.target)) ** 2).sum(axis=1), 9))


def images_to_detect(shares: ArrayLike, target: ArrayLike, level: float = 0.05, power: float = 0.8) -> int | None:
    """Return the number of images from which on these true shares are told from the target; None above ``LARGEST``.

    The power of a test of counts rises in a saw-tooth: single smaller numbers may do as well.

    Raises:
        ValueError: If the shares or the target are no distributions, or equal.
    """
    truth, goal = _distribution(shares), _distribution(target)
    if np.array_equal(truth, goal):
        raise ValueError(
            "expected shares that differ from the target, found the target itself, which nothing tells apart"
        )
    return _settled(lambda n: ParityTest(n, tuple(goal.tolist()), level).power(truth) >= power)


def approximate_images(share: float, target: float = 0.5, level: float = 0.05, power: float = 0.8) -> int:
    """Return the images that tell a share from its target, by the normal approximation of the two-sided test.

    With z the quantiles of the standard normal, n = ((z_α √(r(1 − r)) + z_power √(p(1 − p))) / (p − r))², rounded up
    (Fleiss, Levin and Paik 2003, section 2.5).

    Raises:
        ValueError: If the share equals the target, or one of them does not lie in (0, 1).
    """
    _check_shares(share, target)
    spread = ndtri(1 - level / 2) * math.sqrt(target * (1 - target)) + ndtri(power) * math.sqrt(share * (1 - share))
    return math.ceil((spread / (share - target)) ** 2)


# ---- before and after ----------------------------------------------------------------------------------------------


def approximate_images_per_arm(before: float, after: float, level: float = 0.05, power: float = 0.8) -> int:
    """Return the images per arm that tell two shares apart where arms are *not* paired, by the normal approximation.

    Fleiss, Levin and Paik 2003, equation 4.14, without continuity correction.

    Raises:
        ValueError: If the shares are equal, or one does not lie in (0, 1).
    """
    _check_shares(before, after)
    middle = (before + after) / 2
    pooled, apart = 2 * middle * (1 - middle), before * (1 - before) + after * (1 - after)
    spread = ndtri(1 - level / 2) * math.sqrt(pooled) + ndtri(power) * math.sqrt(apart)
    return math.ceil((spread / (before - after)) ** 2)


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
    """Return the smallest fall of a group's share between paired arms that is detected, None where none is.

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

    return _smallest(detected, 1.0 if before is None else before)


# ---- gates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedGate:
    """A gate on a figure of the counts, before there are any.

    Attributes:
        limit: The gate's limit.
        side: Whether it is the largest or the smallest value allowed.
        interval: The interval that the gate will be judged by, for example ``share_interval(0)``, or that of the
            fairness discrepancy with its target filled in.
        confidence: Its confidence: ``1 - planned_level(0.05, gates)`` where a run has several gates.
        samples: Outcomes to draw where there are too many to go through; each costs an interval.
    """

    limit: float
    side: Literal["max", "min"]
    interval: CountsInterval
    confidence: float = 0.95
    samples: int = 2_000


def gate_power(gate: PlannedGate, n: int, shares: ArrayLike) -> GatePower:
    """Return how a gate will be decided with n classified images, given the true shares of shape (K,).

    Raises:
        ValueError: If there is no image or the shares are no distribution.
    """
    truth = _distribution(shares)
    if n < 1:
        raise ValueError(f"expected at least 1 image, found {n}")
    passes = fails = total = 0.0
    for counts, weight in _likely(n, truth, gate.samples):
        low, high = gate.interval(counts, gate.confidence)
        inside, outside = (high, low) if gate.side == "max" else (-low, -high)
        bound = gate.limit if gate.side == "max" else -gate.limit
        passes, fails, total = passes + (inside <= bound) * weight, fails + (outside > bound) * weight, total + weight
    passes, fails = passes / total, fails / total
    return GatePower(passes=passes, fails=fails, inconclusive=max(0.0, 1 - passes - fails))


def images_for_gate(gate: PlannedGate, shares: ArrayLike, power: float = 0.8, largest: int = 10_000) -> int | None:
    """Return the images from which on a gate is decided with probability ``power``; None above ``largest``.

    Decided means: the likelier of pass and fail, which is the right one as soon as anything is decided often.

    Args:
        gate: The gate.
        shares: The assumed truth, shape (K,).
        power: Chance of that verdict, above a half.
        largest: Where the search ends.

    Raises:
        ValueError: If the shares are no distribution.
    """
    truth = _distribution(shares)

    def decided(n: int) -> bool:
        found = gate_power(gate, n, truth)
        return max(found.passes, found.fails) >= power

    return _settled(decided, largest)


def share_interval(group: int) -> CountsInterval:
    """Return the interval of one group's share as a function of the counts."""

    def interval(counts: NDArray[np.int64], confidence: float) -> tuple[float, float]:
        found = share_estimate(int(counts[group]), int(counts.sum()), confidence)
        return found.low, found.high

    return interval


# ---- the machinery -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _outcomes(n: int, groups: int) -> tuple[Floats, Floats]:
    """Return every outcome of n images, shape (m, K), and the log of its number of orders, shape (m,)."""
    counts = _compositions(n, groups)
    return counts, gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)


def _likely(n: int, truth: Floats, samples: int) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Yield outcomes of n images with their probabilities: for two groups the likely ones of all, else samples."""
    if truth.size == 2:
        counts, orders = _outcomes(n, truth.size)
        weights = np.exp(orders + xlogy(counts, truth).sum(axis=1))
        kept = weights > NEGLIGIBLE / weights.size
        counts, weights = counts[kept], weights[kept]
    else:
        drawn = np.random.default_rng(1).multinomial(n, truth, size=samples)
        counts, times = np.unique(drawn, axis=0, return_counts=True)
        weights = times / samples
    yield from zip(counts.astype(np.int64), weights.tolist(), strict=True)


def _directions(target: tuple[float, ...]) -> Iterator[Direction]:
    """Yield the directions in which some groups gain, those that differ in names only once."""
    seen = set()
    for size in range(1, len(target)):
        for raised in combinations(range(len(target)), size):
            kind = tuple(sorted((index in raised, target[index]) for index in range(len(target))))
            if kind not in seen:
                seen.add(kind)
                yield Direction.towards(raised, len(target))


def _smallest(detected: Callable[[float], bool], largest: float) -> float | None:
    """Return the smallest departure that is detected, to a ten-thousandth and rounded up; None where none is."""
    if not detected(largest):
        return None
    low, high = 0.0, largest
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if detected(middle) else (middle, high)
    return high


def _settled(enough: Callable[[int], bool], largest: int = LARGEST) -> int | None:
    """Return the n from which on there are enough images, although power rises in a saw-tooth; None above ``largest``.

    The teeth of a test of counts are about √n wide at most where power is neither near 0 nor near 1: an n counts where
    it and the next so many are enough.
    """
    high = 1
    while not enough(high):
        high *= 2
        if high > largest:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    n = ahead = high
    while ahead <= n + math.isqrt(n) + 3:
        ahead += 1
        if not enough(ahead):
            n = ahead + 1
    return n if n <= largest else None


@lru_cache(maxsize=64)
def _sign_test_tail(n: int, level: float) -> NDArray[np.int64]:
    """Return per number of discordant pairs, 0 to n, the largest smaller count that rejects; −1 where none does."""
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
    """Return the correlation, or the largest that pairs with these shares can have where that is smaller."""
    spread = math.sqrt(before * (1 - before) * after * (1 - after))
    if not spread or correlation <= 0:
        return correlation if spread else 0.0
    return min(correlation, (min(before, after) - before * after) / spread)


def _check_shares(first: float, second: float) -> None:
    if not (0 < first < 1 and 0 < second < 1) or first == second:
        raise ValueError(f"expected two different shares in (0, 1), found {first} and {second}")
