"""Estimates of the fairness discrepancy: an unbiased square, an interval of the distance, and a p-value of parity.

The distance ‖π − r‖₂ of the group distribution π from the target r (Shi et al. 2025, section 5.1) is estimated from a
sample of n images. The plug-in ‖p̄ − r‖ is biased upwards for any π. Its percentile bootstrap almost never covers
parity, because no resample is as even as the true distribution. Here the square is debiased, and the interval inverts
tests.

Every distribution π has its own test, with a statistic in its direction (``audit.measure.discrepancy.distance_test``).
The interval extends from the nearest to the farthest distribution that is not rejected. An end is therefore wrong only
if the true distribution is rejected, which has a probability of at most α/2 for any distribution and target. The
distribution of the statistic is computed in one of three ways: for few images by enumerating all outcomes; for more
images, if few of them are outside one group, by weighted samples; otherwise by a curve with its first three moments.

A sample that is nearer to the target than the mean of samples from the target never counts as too near. Close to the
target no sample is then too near, and the other side gets all of α. At distance 0 the test is therefore that of
``parity_p_value``, and the interval starts at 0 exactly if this test does not reject. Two groups need no such tests:
the distance is √2·|π₁ − r₁|, and its interval is the folded interval of the share.

Legend: n images, K groups, m outcomes, G candidate distributions, p shares of the sample, T = ‖p − r‖², M the
statistic, Σ = diag(π) − ππᵀ the covariance of one image's label. Probabilities are in [0, 1] and rows sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, gammaln, xlogy
from scipy.stats import binomtest

from audit.measure.discrepancy.distance_rays import Rays
from audit.measure.discrepancy.distance_test import Inversion, Law, Observed, moment_law
from audit.measure.discrepancy.fairness import _checked, _compositions, _distribution
from audit.measure.discrepancy.samples import Samples

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TESTED_OUTCOMES = 50_000
"""``parity_p_value`` is exact up to this number of outcomes: n ≤ 314 at K = 3, n ≤ 64 at K = 4, n ≤ 14 at K = 7."""

TESTED_SAMPLES = 40_000
"""Number of simulated samples for more outcomes; the standard error of a p-value of 0.05 is then 0.0011."""

INVERTED_OUTCOMES = 5_000
"""The interval enumerates up to this number of outcomes: n ≤ 98 at K = 3, n ≤ 28 at K = 4, n ≤ 9 at K = 7."""

FEW_OTHERS = 20
"""With fewer labels than this outside the largest group, the distribution of M is too discrete for a smooth curve; the
interval then uses weighted samples of outcomes."""

LIMITS = (0.95, 0.99, 0.997, 0.9995)
"""Confidence levels of exact intervals of single groups; the rays of a small sample include their ends."""

SAMPLED_OUTCOMES = 9_600
"""Total number of sampled outcomes, from the target and from distributions around both ends."""

TIE = 1e-9
"""Squared distances that differ by less than this are equal apart from rounding errors."""

BATCH = 512
"""Samples whose candidates are evaluated together, so that they fit into a processor's cache."""


def debiased_squared(probabilities: ArrayLike, target: ArrayLike, strata: Sequence[str] | None = None) -> float:
    """Return the unbiased estimate of ‖E z − r‖² from n independent rows z: ‖p̄ − r‖² − tr(S)/n.

    With p̄ = E z + e, E‖p̄ − r‖² = ‖E z − r‖² + 2(E z − r)·E e + E‖e‖². The error e has mean 0 and covariance Cov(z)/n,
    so the plug-in is too large by tr(Cov(z))/n, and the sample covariance S (with divisor n − 1) is an unbiased
    estimate of this. The result must be negative about half of the time at parity: average it without clipping, see
    ``display``.

    Images of an edited arm are not a simple random sample: a fixed number is assigned to each group. The mean of such a
    stratified sample varies less (see ``Samples.of``), and subtracting tr(S)/n would make an edit look fairer than it
    is.

    Args:
        probabilities: Group probabilities, or one-hot labels, of the classified images, shape (n, K), n ≥ 2.
        target: The distribution that counts as fair, shape (K,).
        strata: The stratum of each image, shape (n,), if their numbers were fixed in advance.

    Raises:
        ValueError: If there are fewer than two images, or the shapes or sums do not match.
    """
    rows, goal = _checked(probabilities, target)
    return float(debiased_squares(Samples.one(rows, strata), goal)[0])


def debiased_squares(samples: Samples, targets: ArrayLike) -> Floats:
    """Return ``debiased_squared`` of each sample, shape (P,).

    Args:
        samples: Group probabilities of at least two images in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).

    Raises:
        ValueError: If a sample has fewer than two images.
    """
    _at_least_two(int(samples.n.min(initial=2)))
    plug_in = ((samples.mean - np.asarray(targets)) ** 2).sum(axis=1)
    return np.asarray(plug_in - np.trace(samples.covariance, axis1=1, axis2=2))


def debiased_squared_of_counts(counts: ArrayLike, target: ArrayLike) -> float:
    """Return ``debiased_squared`` of hard labels from their counts (K,): ‖p̂ − r‖² − Σ p̂(1 − p̂)/(n − 1).

    Raises:
        ValueError: If fewer than two images are counted, or the counts do not match the target.
    """
    numbers, goal = _checked_counts(counts, target)
    n = int(numbers.sum())
    _at_least_two(n)
    p = numbers / n
    return float(((p - goal) ** 2).sum() - (p * (1 - p)).sum() / (n - 1))


def display(squared: float) -> float:
    """Return √max(0, squared), only for display; clipping before averaging would reintroduce the bias."""
    return math.sqrt(max(0.0, squared))


def largest_squares(targets: ArrayLike) -> Floats:
    """Return the largest possible squared distance from targets (…, K), shape (…).

    It is reached if all images are in the group with the smallest target, ‖e_k − r‖² = 1 − 2 r_k + ‖r‖².
    """
    goals = np.asarray(targets, dtype=np.float64)
    return np.asarray(1 - 2 * goals.min(axis=-1) + (goals**2).sum(axis=-1))


def parity_p_value(counts: ArrayLike, target: ArrayLike) -> float:
    """Return the p-value of the hypothesis that the labels were drawn from the target.

    Two groups: the exact two-sided binomial test (``scipy.stats.binomtest``). More groups: the probability, under the
    target, of a squared distance ‖p̂ − r‖² at least as large as the observed one. It is exact up to ``TESTED_OUTCOMES``,
    otherwise computed from ``TESTED_SAMPLES`` samples with a fixed seed; it then counts the observed sample, so it is
    never 0.

    Args:
        counts: Images per group, shape (K,).
        target: The distribution that counts as fair, shape (K,).

    Raises:
        ValueError: If nothing is counted, or the counts do not match the target.
    """
    numbers, goal = _checked_counts(counts, target)
    return float(parity_p_values(numbers[None], goal)[0])


def parity_p_values(counts: ArrayLike, targets: ArrayLike) -> Floats:
    """Return ``parity_p_value`` of each row of counts (P, K), for targets of shape (K,) or (P, K)."""
    numbers = np.asarray(counts, dtype=np.float64)
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), numbers.shape)
    p_values = np.empty(len(numbers))
    kinds, kind = np.unique(np.column_stack([numbers.sum(axis=1), goals]), axis=0, return_inverse=True)
    for place, (n, *goal) in enumerate(kinds.tolist()):
        rows = np.flatnonzero(kind.ravel() == place) if len(kinds) > 1 else np.arange(len(numbers))
        p_values[rows] = _parity_p_values(numbers[rows], int(n), tuple(goal))
    return p_values


def _parity_p_values(counts: Floats, n: int, goal: tuple[float, ...]) -> Floats:
    if len(goal) == 2:
        found, place = np.unique(counts[:, 0].astype(np.int64), return_inverse=True)
        return np.array([_binomial_p_value(count, n, goal[0]) for count in found.tolist()])[place.ravel()]
    values, at_least = _parity_distribution(n, goal)
    return at_least[np.searchsorted(values, _squared(counts / n, np.asarray(goal)) - TIE)]


@lru_cache(maxsize=65_536)
def _binomial_p_value(count: int, n: int, share: float) -> float:
    return float(binomtest(count, n, share).pvalue)


def discrepancy_interval_of_counts(
    counts: ArrayLike, target: ArrayLike, confidence: float = 0.95, *, each_tail: bool = False
) -> tuple[float, float]:
    """Return the confidence interval of the distance ‖π − r‖ from hard labels.

    Two groups: the folded Clopper–Pearson interval of a share (Clopper and Pearson 1934); its coverage is never below
    ``confidence``. More groups: inversion of the tests in the module's docstring. The interval starts at 0 exactly if
    ``parity_p_value`` is above 1 − confidence (for two groups: if the share's interval contains the target).

    Args:
        counts: Images per group, shape (K,), at least one image.
        target: The distribution that counts as fair, shape (K,).
        confidence: Confidence level of the interval, in (0, 1).
        each_tail: See ``discrepancy_intervals``.

    Raises:
        ValueError: If nothing is counted, the counts do not match the target, or the confidence is not in (0, 1).
    """
    numbers, goal = _checked_counts(counts, target)
    _check_confidence(confidence)
    samples = Samples.of_counts(numbers[None])
    low, high = discrepancy_intervals(samples, goal, confidence, each_tail=each_tail)[0].tolist()
    return low, high


def discrepancy_intervals(
    samples: Samples, targets: ArrayLike, confidence: float = 0.95, *, each_tail: bool = False
) -> Floats:
    """Return ``discrepancy_interval_of_counts`` of each sample, shape (P, 2).

    Close to the target only the lower end can be wrong. It therefore gets the full error rate 1 − confidence if the
    upper end cannot use its half. A single bound, as for a gate, has only half of the error rate (``each_tail``): the
    interval then starts at 0 if the p-value of parity is above (1 − confidence)/2.

    Args:
        samples: Images with one group each.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        confidence: Confidence level of each interval, in (0, 1).
        each_tail: Whether each end has an error rate of at most (1 − confidence)/2.

    Raises:
        ValueError: If the confidence is not in (0, 1), or a sample has rows that are not one-hot.
    """
    _check_confidence(confidence)
    if not samples.labels.all():
        raise ValueError("intervals are of counted images, found rows of probabilities; pass one-hot rows or counts")
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), samples.mean.shape)
    images, shares = samples.n, samples.counts / samples.n[:, None]
    if goals.shape[1] == 2:
        ends = _folded(*_clopper_pearson(shares[:, 0] * images, images, confidence), goals[:, 0])
        if each_tail:
            ends[:, 0] = _nearest_of_two(shares[:, 0] * images, images, goals[:, 0], confidence)
        return ends
    few = samples.n - samples.counts.max(axis=1) < FEW_OTHERS
    exact = few | _enumerable(samples.n, goals.shape[1])
    found = np.empty((len(goals), 2))
    for place in np.flatnonzero(exact):
        found[place] = _interval_of_labels(samples.counts[place], goals[place], confidence, each_tail)
    for start in range(0, len(goals), BATCH):
        rows = np.flatnonzero(~exact[start : start + BATCH]) + start
        parity = parity_p_values(samples.counts[rows], goals[rows])
        ways = Rays.both(shares[rows], goals[rows], images[rows])
        law = _curve(shares[rows], goals[rows], images[rows])
        test = Inversion.of(shares[rows], images[rows], ways, law)
        found[rows] = test.intervals(1 - confidence, parity, each_tail=each_tail)
    return found


def _enumerable(n: Floats, groups: int) -> NDArray[np.bool_]:
    """Return the numbers of images for which there are at most ``INVERTED_OUTCOMES`` outcomes, as a mask."""
    most = 0
    while math.comb(most + groups, groups - 1) <= INVERTED_OUTCOMES:
        most += 1
    return n <= most


def _interval_of_labels(counts: Ints, goal: Floats, confidence: float, each_tail: bool) -> tuple[float, float]:
    # The order of groups does not matter, so prompts that differ only in the order need one computation.
    order = np.lexsort((-counts, goal))
    return _interval_of_sorted(tuple(counts[order].tolist()), tuple(goal[order].tolist()), confidence, each_tail)


@lru_cache(maxsize=65_536)
def _interval_of_sorted(
    counts: tuple[int, ...], target: tuple[float, ...], confidence: float, each_tail: bool
) -> tuple[float, float]:
    test, parity = _test_of_sorted(counts, target)
    ((low, high),) = test.intervals(1 - confidence, parity, each_tail=each_tail).tolist()
    return low, high


@lru_cache(maxsize=64)  # gates ask for several confidences of the same counts, one after the other
def _test_of_sorted(counts: tuple[int, ...], target: tuple[float, ...]) -> tuple[Inversion, Floats]:
    """Return the tests of one sample by enumeration, or by simulation for too many outcomes, and its p-value."""
    numbers, goal = np.asarray(counts, dtype=np.float64)[None], np.asarray(target)[None]
    n = numbers.sum(axis=1)
    shares = numbers / n
    limits = _limits(numbers)
    outward, inward = (ways.through(limits) for ways in Rays.both(shares, goal, n))
    if _enumerable(n, goal.size)[0]:
        outcomes = _Outcomes.all_of(int(n[0]), target)
    else:
        anchors = np.concatenate([goal, outward.turns[0], inward.turns[0]])
        outcomes = _Outcomes.sampled(int(n[0]), anchors, goal[0])
    law = outcomes.law(Observed(goal, shares - goal, _parity_mean(goal, n)))
    return Inversion.of(shares, n, (outward, inward), law), parity_p_values(numbers, goal)


def _limits(counts: Floats) -> Floats:
    """Return distributions in which one group is at an end of its exact interval, of one sample (1, K): (1, D, K).

    The other groups share the rest as in the sample. With one or two images of a group, errors are not normal, and the
    directions of ``Rays.both`` may not include the smallest or largest possible share of the group.
    """
    own, apart = np.eye(counts.shape[1]), 1 - np.eye(counts.shape[1])
    others = np.where(counts.sum() > counts.T, counts * apart, apart)
    others = others / others.sum(axis=1, keepdims=True)
    intervals = (_clopper_pearson(counts[0], counts.sum(), confidence) for confidence in LIMITS)
    ends = np.array([end for interval in intervals for end in interval])[..., None]
    return np.asarray((ends * own + (1 - ends) * others).reshape(1, -1, counts.shape[1]))


def _clopper_pearson(successes: Floats, n: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return the exact interval of shares."""
    tail = (1 - confidence) / 2
    low = betaincinv(np.maximum(successes, TIE), n - successes + 1, tail)
    high = betaincinv(successes + 1, np.maximum(n - successes, TIE), 1 - tail)
    return np.where(successes > 0, low, 0.0), np.where(successes < n, high, 1.0)


def _nearest_of_two(successes: Floats, n: Floats, target: Floats, confidence: float) -> Floats:
    """Return the smallest distance of a share from its target that a two-sided test does not reject.

    For a share near its target, samples that are too far can be on both sides. The probabilities of both sides are
    added here, as in the test of more groups.

    Args:
        successes: Images of the first group, shape (P,).
        n: Images, shape (P,).
        target: Share of the first group that counts as fair, shape (P,).
        confidence: Confidence level of an interval with both ends; the error rate of this end is (1 − confidence)/2.
    """
    away = np.abs(successes - n * target)
    least, most = n * target + away, n * target - away  # counts at least, or at most, this are as far from the target
    least, most = np.ceil(least - TIE), np.floor(most + TIE)
    ends = []
    for side in (1, -1):
        reach = np.where(side > 0, 1 - target, target)
        inner, outer = np.zeros_like(n), reach  # rejected, accepted
        for _ in range(50):
            middle = (inner + outer) / 2
            kept = _as_far(target + side * middle, n, least, most) > (1 - confidence) / 2
            inner, outer = np.where(kept, inner, middle), np.where(kept, middle, outer)
        at_target = _as_far(target, n, least, most) > (1 - confidence) / 2
        at_reach = _as_far(target + side * reach, n, least, most) > (1 - confidence) / 2
        ends.append(np.where(at_target, 0.0, np.where(at_reach | (outer < reach), outer, np.inf)))
    return np.asarray(math.sqrt(2) * np.minimum(*ends))


def _as_far(share: Floats, n: Floats, least: Floats, most: Floats) -> Floats:
    """Return the probability that at least ``least`` or at most ``most`` of n images show a group with this share."""
    above = betainc(np.maximum(least, TIE), np.maximum(n - least + 1, TIE), share)
    below = 1 - betainc(np.maximum(most + 1, TIE), np.maximum(n - most, TIE), share)
    return np.where(least > 0, np.where(least <= n, above, 0.0), 1.0) + np.where(most >= 0, below, 0.0)


def _folded(low: Floats, high: Floats, target: Floats) -> Floats:
    """Return the distances √2·|π₁ − r₁| of the shares π₁ from ``low`` to ``high``, shape (P, 2)."""
    nearest = np.maximum(0.0, np.maximum(low - target, target - high))
    return math.sqrt(2) * np.stack([nearest, np.maximum(high - target, target - low)], axis=1)


@dataclass(frozen=True)
class _Outcomes:
    """Counts of n images, with weights that do not depend on the distribution of groups.

    Attributes:
        counts: Shape (m, K).
        log_weights: Log of the multinomial coefficient, or minus the log density of the proposal, shape (m,).
        offsets: Shares minus the target, shape (m, K).
        squared: Squared distance of the shares from the target, shape (m,).
    """

    counts: Floats
    log_weights: Floats
    offsets: Floats
    squared: Floats

    @classmethod
    @lru_cache(maxsize=64)
    def all_of(cls, n: int, target: tuple[float, ...]) -> _Outcomes:
        """Return all outcomes of ``n`` images."""
        counts = _compositions(n, len(target))
        offsets = counts / n - np.asarray(target)
        orders = gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)
        return cls(counts, orders, offsets, (offsets**2).sum(axis=1))

    @classmethod
    def sampled(cls, n: int, anchors: Floats, goal: Floats) -> _Outcomes:
        """Sample equally many outcomes from each of the ``anchors``, for importance sampling (defensive mixture)."""
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(n, anchors, size=(SAMPLED_OUTCOMES // len(anchors), len(anchors)))
        counts = drawn.reshape(-1, goal.size).astype(np.float64)
        logs = counts @ _log(anchors).T
        largest = logs.max(axis=1)
        mixture = largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1))
        offsets = counts / n - goal
        return cls(counts, -mixture, offsets, (offsets**2).sum(axis=1))

    def law(self, observed: Observed) -> Law:
        """Return the distribution of M under any distributions of groups, for one sample."""
        at_floor = (self.squared <= observed.floor[0] + TIE).astype(np.float64)

        def weights(points: Floats) -> Floats:
            found = np.exp(_log(points[0]) @ self.counts.T + self.log_weights)
            return np.asarray(found / found.sum(axis=1, keepdims=True))

        def excess(points: Floats, rows: Ints, *, near: bool) -> Floats:
            """Return M of every outcome minus M of the sample, shape (G, m)."""
            weight, value = observed.statistic(points, rows, near=near)
            v = points[0] - observed.target
            along = 2 * v @ self.offsets.T - (v**2).sum(axis=1, keepdims=True)
            return np.asarray((1 - weight[0])[:, None] * along + weight[0][:, None] * self.squared - value[0][:, None])

        def near(points: Floats, rows: Ints) -> Floats:
            return np.asarray((weights(points) * (excess(points, rows, near=True) <= TIE)).sum(axis=1)[None])

        def far(points: Floats, rows: Ints) -> tuple[Floats, Floats]:
            found = weights(points)
            tail = (found * (excess(points, rows, near=False) >= -TIE)).sum(axis=1)
            return tail[None], (found @ at_floor)[None]

        return Law(near, far)


def _curve(shares: Floats, goals: Floats, images: Floats) -> Law:
    """Return the distribution of M by its moments, for samples (P, K) with effective numbers of labels (P,)."""

    def moments(points: Floats, rows: Ints, weight: Floats) -> tuple[Floats, Floats, Floats]:
        return squared_distance_moments(points, goals[rows, None], images[rows, None], weight)

    return moment_law(Observed(goals, shares - goals, _parity_mean(goals, images)), moments, images)


def squared_distance_moments(
    distributions: Floats, targets: Floats, n: Floats | float, weight: Floats | float = 1.0
) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard deviation and skewness of M for n labels from each of distributions (…, K).

    With p̂ = π + e and v = π − r, M = ‖v‖² + 2v·e + w‖e‖², and e is the mean of n independent z = label − π; for weight
    w = 1 it is the squared distance T = ‖p̂ − r‖². The mean and the variance are exact:
    E M = ‖v‖² + w tr(Σ)/n, Var M = 4vᵀΣv/n + 4wE[(v·z)‖z‖²]/n² + w²[Var(‖z‖²)/n³ + 2(n − 1)tr(Σ²)/n³].
    The third cumulant has the normal terms and the skewness of the leading one,
    8E[(v·z)³]/n² + 24wvᵀΣ²v/n² + 8w³tr(Σ³)/n³. Targets, n and w broadcast against the distributions.
    """
    p, v = distributions, distributions - targets
    pp, vv = p * p, v * v
    s2, s3, s4 = _dot(p, p), _dot(pp, p), _dot(pp, pp)
    away, away2, away3, cross, cross2 = _dot(p, v), _dot(p, vv), _dot(p * v, vv), _dot(pp, v), _dot(pp, vv)
    # ‖z‖² of a label of group k is 1 − 2πₖ + Σπ², and v·z is vₖ − π·v.
    of_length = 4 * (s3 - s2**2) + 2 * (n - 1) * (s2 - 2 * s3 + s2**2)
    mean = vv.sum(axis=-1) + weight * (1 - s2) / n
    variance = (
        4 * (away2 - away**2) / n - 8 * weight * (cross - away * s2) / n**2 + weight**2 * np.asarray(of_length) / n**3
    )
    third = (
        8 * (away3 - 3 * away * away2 + 2 * away**3) / n**2
        + 24 * weight * (cross2 - 2 * away * cross + away**2 * s2) / n**2
        + 8 * weight**3 * (s3 - 3 * s4 + 3 * s2 * s3 - s2**3) / n**3
    )
    deviation = np.sqrt(np.maximum(variance, 1e-24))
    return mean, deviation, third / deviation**3


@lru_cache(maxsize=1024)
def _parity_distribution(n: int, target: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return the values of T at parity in ascending order, and the probability of at least each value."""
    goal = np.asarray(target)
    if math.comb(n + goal.size - 1, goal.size - 1) <= TESTED_OUTCOMES:
        counts = _compositions(n, goal.size)
        weights = np.exp(gammaln(n + 1) + (xlogy(counts, goal) - gammaln(counts + 1)).sum(axis=1))
        extra = 0.0
    else:
        counts = np.random.default_rng(0).multinomial(n, goal, size=TESTED_SAMPLES).astype(np.float64)
        weights = np.full(TESTED_SAMPLES, 1 / (TESTED_SAMPLES + 1))
        extra = 1 / (TESTED_SAMPLES + 1)
    values, place = np.unique(np.round(_squared(counts / n, goal), 12), return_inverse=True)
    at_least = np.cumsum(np.bincount(place, weights)[::-1])[::-1] + extra
    # The observed sample is always counted too, even if its value exceeds all sampled ones.
    return np.append(values, math.inf), np.minimum(np.append(at_least, extra), 1.0)


def _parity_mean(goals: Floats, n: Floats | float) -> Floats:
    """Return the mean of T at parity, tr(Σ)/n, for targets (…, K)."""
    return np.asarray((1 - (goals**2).sum(axis=-1)) / n)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("...k,...k->...", a, b))


def _squared(rows: Floats, goals: Floats) -> Floats:
    return np.asarray(((rows - goals) ** 2).sum(axis=1))


def _log(distributions: Floats) -> Floats:
    """Return finite logs, so that 0 · log 0 is 0 and an impossible outcome has a very small weight."""
    return np.log(np.maximum(distributions, 1e-300))


def _at_least_two(n: int) -> None:
    if n < 2:
        raise ValueError(
            f"the debiased discrepancy needs at least 2 images to estimate its own bias, found {n}; make more images"
        )


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}; 0.95 is usual")


def _checked_counts(counts: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    goal = _distribution(target)
    numbers = np.asarray(counts, dtype=np.float64)
    if numbers.shape != goal.shape:
        raise ValueError(f"expected counts of shape ({goal.size},), one per group; found {numbers.shape}")
    if (numbers < 0).any() or not np.array_equal(numbers, np.round(numbers)):
        raise ValueError(f"counts must be whole and non-negative, found {numbers.tolist()}")
    if not numbers.sum():
        raise ValueError("fairness discrepancy of no image is undefined; report the images by their status instead")
    return numbers, goal
