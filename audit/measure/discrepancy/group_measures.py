"""Common measures of group shares: ratios, entropy, divergences from the target.

They are reported in addition to the fairness discrepancy, each with an interval and its ideal, the value of shares that
equal the target. The interval is computed in two steps. Simultaneous binomial intervals bound the shares of all groups.
The interval of a measure extends from its smallest to its largest value over all distributions within these bounds. It
is valid for any n, at parity and for groups without images, but it is wide: with more than two groups its coverage is
above its nominal level.

Legend: K groups, n images; p shares and r target, both of shape (K,), in [0, 1] with sum 1. Information is in nats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

from audit.measure.discrepancy.fairness import _distribution
from audit.measure.inference.span import Span
from audit.measure.prompts.over_prompts import like_these, mean_of_these_prompts
from audit.measure.prompts.stratified import stratified_share
from audit.records.estimates import OverPrompts, Range
from audit.records.groups import GroupMeasure

Floats = NDArray[np.float64]

MOST_GROUPS = 12
"""Limit of groups, because all corners of the region of shares are enumerated: at most K · 2^(K − 1), 24,576 for 12."""

SIMULATED_SAMPLES = 2_000
"""Simulated samples for an expectation at the target; its standard error is their standard deviation divided by 45."""

FOUR_FIFTHS_CAVEAT = "a rule of thumb of US hiring law, not a legal finding here"


@dataclass(frozen=True)
class Measure:
    """A named function of shares.

    Attributes:
        name: Name in ``MEASURES``.
        label: Name for readers.
        formula: Function of shares (…, K) and target (K,) with values (…).
        span_of: Function of the target (K,) that returns the possible range of the measure.
        caveat: Note that must be printed with the figure; usually empty.
        needs_every_group: Whether it is undefined for a target with a share of 0.
    """

    name: str
    label: str
    formula: Callable[[Floats, Floats], Floats]
    span_of: Callable[[Floats], Span]
    caveat: str = ""
    needs_every_group: bool = False

    def of(self, counts: ArrayLike, target: ArrayLike, confidence: float = 0.95) -> GroupMeasure:
        """Measure the shares of ``counts``.

        Args:
            counts: Images by perceived group, shape (K,), non-negative integers; for a pool of prompts (P, K).
            target: The distribution that counts as fair, shape (K,).
            confidence: Confidence level of the interval, in (0, 1).

        Raises:
            ValueError: If there are no images, the shapes differ, there are more than ``MOST_GROUPS`` groups, or the
                measure is undefined for a target with a share of 0.
        """
        seen, goal = _checked(_pooled(counts), target)
        self._check_target(goal)
        return self._at(seen, goal, share_region(counts, confidence).extremes(goal))

    def bounds(self, counts: ArrayLike, unknown: int, target: ArrayLike) -> Range:
        """Bound the measure of all images over all possible groups of the ``unknown`` ones without a perceived group.

        Fractional images are allowed, so the bounds include all assignments of whole images.

        Raises:
            ValueError: As :meth:`of`.
        """
        seen, goal = _checked(counts, target)
        self._check_target(goal)
        total = seen.sum() + unknown
        values = self.function(ShareRegion(low=seen / total, high=(seen + unknown) / total).extremes(goal), goal)
        return Range(low=float(values.min()), high=float(values.max()))

    def function(self, shares: Floats, target: Floats) -> Floats:
        """Return the measure of shares (…, K), shape (…): the formula, clipped to its span against rounding errors."""
        span = self.span_of(target)
        return np.asarray(np.clip(self.formula(shares, target), span.low, span.high))

    def defined_for(self, target: Floats) -> bool:
        """Return whether the measure exists for a target of shape (K,)."""
        return not self.needs_every_group or bool(target.all())

    def _at(self, seen: NDArray[np.int64], goal: Floats, extremes: Floats) -> GroupMeasure:
        n = int(seen.sum())
        value, values = float(self.function(seen / n, goal)), self.function(extremes, goal)
        return GroupMeasure(
            value=value,
            low=min(float(values.min()), value),
            high=max(float(values.max()), value),
            n=n,
            ideal=float(self.function(goal, goal)),
            expected_at_target=expected_at_target(n, tuple(goal.tolist()))[self.name],
        )

    def _check_target(self, target: Floats) -> None:
        if not self.defined_for(target):
            raise ValueError(
                f"{self.name} is undefined for a target with a share of 0, found {target.tolist()}; "
                "read total_variation or jensen_shannon instead"
            )


@dataclass(frozen=True)
class ShareRegion:
    """All distributions whose shares are between bounds.

    Attributes:
        low: Lower bounds, shape (K,).
        high: Upper bounds, shape (K,).
    """

    low: Floats
    high: Floats

    def extremes(self, target: Floats) -> Floats:
        """Return distributions of the region, shape (m, K), at which every measure has its extremes over the region.

        Every measure here is convex, concave or a ratio of the two, so one extreme is at a corner. The other extreme is
        at the distribution within the bounds that is nearest to uniform or to the target, which minimises all such
        measures (Veinott 1971, least majorised flows).
        """
        even = np.full(target.size, 1 / target.size)
        middles = [self.nearest(even)] if np.array_equal(target, even) else [self.nearest(even), self.nearest(target)]
        return np.vstack([self.corners(), *middles])

    def corners(self) -> Floats:
        """Return the corners, shape (m, K): all shares but one at a bound, and that one so that the sum is 1."""
        at_high, free = _corner_patterns(self.low.size)
        fixed = np.where(free, 0.0, np.where(at_high, self.high, self.low))
        rest = 1 - fixed.sum(axis=1, keepdims=True)
        corners = np.where(free, rest, fixed)
        possible = ((corners >= self.low - 1e-12) & (corners <= self.high + 1e-12)).all(axis=1)
        return np.asarray(np.clip(corners[possible], self.low, self.high))

    def nearest(self, target: Floats) -> Floats:
        """Return the distribution within the bounds that is nearest to proportional to ``target``, shape (K,)."""
        # A share of 0 is replaced by a very small one, so it increases only when all other groups are at their bounds.
        scale = np.maximum(target, 1e-12)
        factors = np.sort(np.concatenate([self.low / scale, self.high / scale]))
        sums = np.clip(factors[:, None] * scale, self.low, self.high).sum(axis=1)
        # The sum is piecewise linear in the factor, so interpolation between its breakpoints is exact.
        return np.asarray(np.clip(np.interp(1.0, sums, factors) * scale, self.low, self.high))


def share_region(counts: ArrayLike, confidence: float = 0.95, unknown: ArrayLike = 0) -> ShareRegion:
    """Return simultaneous bounds for the shares of all groups.

    Images without a perceived group can be of any group: lower bounds count none of them in the group, upper bounds
    all.

    The bounds are the reported intervals of shares (:func:`audit.measure.inference.intervals.share_estimate`). With two
    groups one interval bounds both; with K > 2 each has confidence 1 − (1 − confidence) / K (Bonferroni), so that the
    probability that any of them fails is below about 1 − confidence.

    Args:
        counts: Images by group, shape (K,); for a pool of prompts (P, K), whose bounds are those of
            :func:`audit.measure.prompts.stratified.stratified_share`.
        confidence: Joint coverage, in (0, 1).
        unknown: Images without a perceived group; for a pool those of each prompt, shape (P,).

    Raises:
        ValueError: If no image has a group, a count is negative or not an integer, or K is not in [2, ``MOST_GROUPS``].
    """
    seen, by_prompt = _counts(_pooled(counts)), np.atleast_2d(np.asarray(counts)).astype(np.int64)
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence must lie between 0 and 1, got {confidence}")
    each = 1 - (1 - confidence) / (seen.size if seen.size > 2 else 1)
    missing = np.atleast_1d(np.asarray(unknown, dtype=np.int64))
    images = by_prompt.sum(axis=1) + missing
    low = [stratified_share(group, images, each).low for group in by_prompt.T]
    high = [stratified_share(group + missing, images, each).high for group in by_prompt.T]
    return ShareRegion(low=np.array(low), high=np.array(high))


def share_difference(shares: Floats, target: Floats) -> Floats:
    """Return the first share minus the second for two groups, in [−1, 1]; for more, the largest minus the smallest."""
    if target.size == 2:
        return np.asarray(shares[..., 0] - shares[..., 1])
    return np.asarray(shares.max(axis=-1) - shares.min(axis=-1))


def share_ratio(shares: Floats, target: Floats) -> Floats:
    """Return the smallest share divided by the largest, in [0, 1]; the target is not used."""
    return np.asarray(shares.min(axis=-1) / shares.max(axis=-1))


def four_fifths_ratio(shares: Floats, target: Floats) -> Floats:
    """Return the smallest of p / r divided by the largest, in [0, 1]; its usual limit is 0.8 (29 CFR 1607.4 D).

    With the target as the pool of applicants, p / r is proportional to a group's selection rate. Under a uniform target
    it is ``share_ratio``.
    """
    return share_ratio(shares / target, target)


def normalised_entropy(shares: Floats, target: Floats) -> Floats:
    """Return H(p) / log K in [0, 1], 1 for equal shares (D'Incà et al. 2024, OpenBias); the target is not used.

    OpenBias reports 1 − H / log K as its bias severity.
    """
    return np.asarray(entr(shares).sum(axis=-1) / math.log(target.size))


def total_variation(shares: Floats, target: Floats) -> Floats:
    """Return ½ ‖p − r‖₁ in [0, 1]: the smallest part of the images that would have to change their group."""
    return np.asarray(np.abs(shares - target).sum(axis=-1) / 2)


def kullback_leibler(shares: Floats, target: Floats) -> Floats:
    """Return KL(p ‖ r) = Σ p log(p / r) in nats, at least 0."""
    return np.asarray(rel_entr(shares, target).sum(axis=-1))


def jensen_shannon(shares: Floats, target: Floats) -> Floats:
    """Return ½ KL(p ‖ m) + ½ KL(r ‖ m) with m = (p + r) / 2 (Lin 1991), in nats: [0, log 2]."""
    middle = (shares + target) / 2
    return np.asarray((rel_entr(shares, middle) + rel_entr(target, middle)).sum(axis=-1) / 2)


def effective_groups(shares: Floats, target: Floats) -> Floats:
    """Return exp H(p) in [1, K]: the number of equal groups with the same diversity (Hill 1973, order 1)."""
    return np.asarray(np.exp(entr(shares).sum(axis=-1)))


def _differences(target: Floats) -> Span:
    return Span(-1.0 if target.size == 2 else 0.0, 1.0)


def _up_to_one(target: Floats) -> Span:
    return Span(0.0, 1.0)


def _divergences(target: Floats) -> Span:
    """Return the possible range of KL(p ‖ r); the maximum is that of the group with the smallest target."""
    least = float(target.min())
    return Span(0.0, -math.log(least) if least else math.inf)


def _nats(target: Floats) -> Span:
    return Span(0.0, math.log(2))


def _numbers_of_groups(target: Floats) -> Span:
    return Span(1.0, float(target.size))


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("share_difference", "share difference", share_difference, _differences),
        Measure("share_ratio", "smallest share by largest", share_ratio, _up_to_one),
        Measure(
            "four_fifths_ratio",
            "four-fifths ratio",
            four_fifths_ratio,
            _up_to_one,
            FOUR_FIFTHS_CAVEAT,
            needs_every_group=True,
        ),
        Measure("normalised_entropy", "normalised entropy", normalised_entropy, _up_to_one),
        Measure("total_variation", "total variation to the target", total_variation, _up_to_one),
        Measure("kl_divergence", "KL divergence to the target", kullback_leibler, _divergences, needs_every_group=True),
        Measure("jensen_shannon", "Jensen-Shannon divergence to the target", jensen_shannon, _nats),
        Measure("effective_groups", "effective number of groups", effective_groups, _numbers_of_groups),
    )
}
"""The measures by name. Several measures are not independent evidence, because they all describe the same shares."""


def group_measures(counts: ArrayLike, target: ArrayLike, confidence: float = 0.95) -> dict[str, GroupMeasure]:
    """Return every measure that is defined for ``target`` (see :meth:`Measure.of`).

    Raises:
        ValueError: If there are no images, or the shapes do not match.
    """
    seen, goal = _checked(_pooled(counts), target)
    if np.ndim(counts) == 1:
        return dict(_group_measures(tuple(seen.tolist()), tuple(goal.tolist()), confidence))
    extremes = share_region(counts, confidence).extremes(goal)
    return {m.name: m._at(seen, goal, extremes) for m in MEASURES.values() if m.defined_for(goal)}


def mean_measure(name: str, found: Sequence[GroupMeasure], targets: Sequence[ArrayLike]) -> OverPrompts:
    """Return the mean of a measure over prompts, with an interval that includes its bias.

    For few images most measures are biased in one direction, by ``expected_at_target`` minus the ideal if shares are on
    target, and by less otherwise. This bias does not decrease with more prompts, so the interval of the prompts
    (:func:`audit.measure.prompts.over_prompts.mean_of_these_prompts`) is widened by it in the other direction. The
    interval of a prompt is cut at the limit of the measure and then shorter than its variation, so its longer side is
    used for both.

    Args:
        name: Name of the measure.
        found: The measure of each prompt, m of them with their intervals.
        targets: The distributions that count as fair, m of shape (K,).

    Raises:
        ValueError: If there are fewer than two prompts.
    """
    chance = float(np.mean([one.expected_at_target - one.ideal for one in found]))
    spans = [MEASURES[name].span_of(_distribution(target)) for target in targets]
    span = Span(float(np.mean([one.low for one in spans])), float(np.mean([one.high for one in spans])))
    values = [one.value for one in found]
    reach = [max(one.value - one.low, one.high - one.value) for one in found]
    mean = mean_of_these_prompts(values, [(v - far, v + far) for v, far in zip(values, reach, strict=True)])
    these = replace(mean, low=mean.low - max(0.0, chance), high=mean.high - min(0.0, chance))
    return like_these(span.held(these), values, span)


# Thousands of prompts with few images each repeat the same counts.
@lru_cache(maxsize=16_384)
def _group_measures(
    counts: tuple[int, ...], target: tuple[float, ...], confidence: float
) -> tuple[tuple[str, GroupMeasure], ...]:
    seen, goal = np.array(counts), np.array(target)
    extremes = share_region(seen, confidence).extremes(goal)
    return tuple((m.name, m._at(seen, goal, extremes)) for m in MEASURES.values() if m.defined_for(goal))


@lru_cache(maxsize=4096)
def expected_at_target(n: int, target: tuple[float, ...]) -> dict[str, float]:
    """Return the mean of each measure over ``SIMULATED_SAMPLES`` samples of ``n`` images from the target, seed fixed.

    Raises:
        ValueError: If ``n`` is below 1, or the target is not a distribution.
    """
    goal = _distribution(target)
    if n < 1:
        raise ValueError(f"the expectation at the target needs at least 1 image, got {n}")
    shares = np.random.default_rng(0).multinomial(n, goal, size=SIMULATED_SAMPLES) / n
    return {m.name: float(m.function(shares, goal).mean()) for m in MEASURES.values() if m.defined_for(goal)}


@lru_cache(maxsize=MOST_GROUPS)
def _corner_patterns(groups: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the shares of each corner at their upper bound, and the free one, both as masks (K 2^(K−1), K)."""
    ends = np.array(list(itertools.product((False, True), repeat=groups - 1)))
    at_high = np.vstack([np.insert(ends, free, False, axis=1) for free in range(groups)])
    return at_high, np.repeat(np.eye(groups, dtype=np.bool_), len(ends), axis=0)


def _checked(counts: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    seen, goal = _counts(counts), _distribution(target)
    if seen.size != goal.size:
        raise ValueError(f"expected one count per group of the target ({goal.size}), found {seen.size}")
    return seen, goal


def _pooled(counts: ArrayLike) -> ArrayLike:
    """Return the counts of all prompts together, shape (K,)."""
    values = np.asarray(counts)
    return values.sum(axis=0) if values.ndim == 2 else values


def _counts(counts: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(counts)
    if values.ndim != 1 or not 2 <= values.size <= MOST_GROUPS:
        raise ValueError(f"expected counts of 2 to {MOST_GROUPS} groups in one row, found shape {values.shape}")
    seen = values.astype(np.int64)
    if (seen != values).any() or (seen < 0).any():
        raise ValueError(f"counts must be non-negative integers, found {values.tolist()}")
    if not seen.any():
        raise ValueError("shares of no image are undefined; report the images by their status instead")
    return seen
