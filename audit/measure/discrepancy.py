"""Fairness discrepancy without its bias: an unbiased square, an interval of the distance, a p-value of parity.

The distance ‖π − r‖₂ of the group distribution π from the target r (Shi et al. 2025, section 5.1) is read off a sample
of n images. The plug-in ‖p̄ − r‖ lies above it whatever π is, and its percentile bootstrap covers parity almost never,
because no resample is as even as the truth. Here the square is debiased, and the interval is a test of the distance
turned round: it holds every δ that the sample does not contradict.

The test of ‖π − r‖ = δ compares the squared plug-in T with its distribution under a plausible π at that distance
(hybrid resampling; Chuang and Lai 2000, Statistica Sinica 10; Kabaila 1993, Australian Journal of Statistics 35). It
has two sides of α/2, with one exception: a sample no farther from the target than samples from the target itself are
on average never counts as too close. Where δ is so small that nothing can then be too close, all of α goes to the
other side. At δ = 0 the test is therefore that of ``parity_p_value``, and the interval begins at 0 exactly where that
one does not reject. Two groups need no such test: the distance is √2·|π₁ − r₁|, and an interval of the share folds into
one of the distance.

Legend: n images, K groups, m outcomes, G candidate distributions, p shares of the sample, T = ‖p − r‖², Σ = diag(π)
− ππᵀ the covariance of one image's label. Probabilities are in [0, 1] and rows sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, gammainc, gammaln, ndtri, stdtrit, xlogy
from scipy.stats import binomtest

from audit.measure.fairness import _checked, _compositions, _distribution, hard_counts, maximum

Floats = NDArray[np.float64]
Tails = Callable[[Floats], "_Tails"]

TESTED_OUTCOMES = 50_000
"""Up to so many outcomes ``parity_p_value`` is exact: n ≤ 314 at K = 3, n ≤ 64 at K = 4, n ≤ 14 at K = 7."""

TESTED_SAMPLES = 40_000
"""Samples from the target beyond that; the standard error of a p-value of 0.05 is then 0.0011."""

INVERTED_OUTCOMES = 5_000
"""Up to so many outcomes the interval weighs every one of them: n ≤ 98 at K = 3, n ≤ 28 at K = 4, n ≤ 9 at K = 7."""

ANCHORS = 13
SAMPLES_PER_ANCHOR = 300
"""Beyond that it weighs samples from distributions at thirteen distances, 3,900 in all."""

TIE = 1e-9
"""Two squared distances closer than this are the same outcome, computed in another order."""

COARSE, FINE = 41, 13
"""Candidate distances on the first grid, and between two of its neighbours on the second."""

UNSEEN = 3.0
"""Images that a soft sample is mixed with before its variance is read: n images without a group leave room for 3/n of
it at 95 % (the rule of three; Hanley and Lippman-Hand 1983). With fewer, rare groups are covered too seldom."""

PART_IMAGE = 0.25
"""Part of one image's standard error by which the continuous curve of T is shifted to the safe side: rows of a sure
judge are nearly labels, so T moves in steps. Without it small samples are covered too seldom; a half is too wide."""


def debiased_squared(probabilities: ArrayLike, target: ArrayLike, strata: Sequence[str] | None = None) -> float:
    """Return the unbiased estimate of ‖E z − r‖² from n independent rows z: ‖p̄ − r‖² − tr(S)/n.

    With p̄ = E z + e, E‖p̄ − r‖² = ‖E z − r‖² + 2(E z − r)·E e + E‖e‖². The error e has mean 0 and covariance Cov(z)/n,
    so the plug-in is too large by tr(Cov(z))/n, and the sample covariance S (divided by n − 1) estimates that without
    bias. The result is negative about half the time at parity, and must be: average it as it is, see ``display``.

    Images of an edited arm are not drawn alike: fixed numbers of them are assigned to each group. The mean of such a
    stratified sample varies less, Σ (n_h/n)² tr(S_h)/n_h over the strata h (Cochran 1977, section 5.3), and taking off
    tr(S)/n would make an edit look fairer than it is.

    Args:
        probabilities: Group probabilities, or one-hot labels, of the classified images, shape (n, K), n ≥ 2.
        target: The distribution that counts as fair, shape (K,).
        strata: The stratum of each image, shape (n,), where their numbers were fixed beforehand.

    Raises:
        ValueError: If there are fewer than two images, or the shapes or sums do not fit.
    """
    rows, goal = _checked(probabilities, target)
    _at_least_two(len(rows))
    plug_in = ((rows.mean(axis=0) - goal) ** 2).sum()
    return float(plug_in - _variance_of_mean(rows, strata))


def _variance_of_mean(rows: Floats, strata: Sequence[str] | None) -> float:
    """Return the trace of the covariance of the mean; a stratum of one image is taken to vary as all images do."""
    n, alike = len(rows), float(rows.var(axis=0, ddof=1).sum())
    if strata is None:
        return alike / n
    names = np.asarray(strata)
    if names.shape != (n,):
        raise ValueError(f"expected one stratum for each of {n} images, found {names.shape}")
    parts = [rows[names == name] for name in np.unique(names)]
    within = (float(part.var(axis=0, ddof=1).sum()) if len(part) > 1 else alike for part in parts)
    return sum(len(part) * variance for part, variance in zip(parts, within, strict=True)) / n**2


def debiased_squared_of_counts(counts: ArrayLike, target: ArrayLike) -> float:
    """Return ``debiased_squared`` of hard labels from their counts (K,): ‖p̂ − r‖² − Σ p̂(1 − p̂)/(n − 1).

    Raises:
        ValueError: If fewer than two images are counted, or the counts do not fit the target.
    """
    numbers, goal = _checked_counts(counts, target)
    n = int(numbers.sum())
    _at_least_two(n)
    p = numbers / n
    return float(((p - goal) ** 2).sum() - (p * (1 - p)).sum() / (n - 1))


def display(squared: float) -> float:
    """Return √max(0, squared), for a reader's eye only: clipping before an average brings the bias back."""
    return math.sqrt(max(0.0, squared))


def parity_p_value(counts: ArrayLike, target: ArrayLike) -> float:
    """Return the p-value of the test that the labels were drawn from the target itself.

    Two groups: the exact binomial test of two sides (``scipy.stats.binomtest``). More groups: the probability, under
    the target, of a squared distance ‖p̂ − r‖² at least as large as the one found; exact up to ``TESTED_OUTCOMES``, from
    ``TESTED_SAMPLES`` samples with a fixed seed beyond, where it counts the sample itself and so is never 0.

    Args:
        counts: Images per group, shape (K,).
        target: The distribution that counts as fair, shape (K,).

    Raises:
        ValueError: If nothing is counted, or the counts do not fit the target.
    """
    numbers, goal = _checked_counts(counts, target)
    n = int(numbers.sum())
    if goal.size == 2:
        return float(binomtest(int(numbers[0]), n, float(goal[0])).pvalue)
    values, at_least = _parity_distribution(n, tuple(goal.tolist()))
    return float(at_least[np.searchsorted(values, _squared_distance(numbers / n, goal) - TIE)])


def discrepancy_interval_of_counts(
    counts: ArrayLike, target: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the distance ‖π − r‖ that hard labels leave possible.

    Two groups: the Clopper–Pearson interval of a share (Clopper and Pearson 1934), folded; its coverage is never below
    ``confidence``. More groups: the test of the module's docstring turned round, exact at parity and approximate
    elsewhere. The interval begins at 0 exactly where ``parity_p_value`` is above 1 − confidence (for two groups: where
    the share's interval holds the target).

    Args:
        counts: Images per group, shape (K,), at least one image.
        target: The distribution that counts as fair, shape (K,).
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If nothing is counted, the counts do not fit the target, or the confidence is no share.
    """
    numbers, goal = _checked_counts(counts, target)
    _check_confidence(confidence)
    # The name of a group does not matter, so prompts that differ in names only share one computation.
    order = np.lexsort((-numbers, goal))
    return _interval_of_sorted(
        tuple(numbers[order].astype(int).tolist()), tuple(goal[order].tolist()), float(confidence)
    )


def discrepancy_interval(probabilities: ArrayLike, target: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the distance ‖E z − r‖ of the judge's mean probabilities from the target.

    Of all rows with mean μ, one-hot rows vary most: E zzᵀ ≤ diag(μ). The mean of n soft rows is therefore as precise as
    the shares of some larger number of hard labels (``effective_images``; Korn and Graubard 1998, Survey Methodology
    24, for two groups), and is treated as such. One-hot rows are labels and get the interval of their counts.

    Args:
        probabilities: The judge's group probabilities of the classified images, shape (n, K).
        target: The distribution that counts as fair, shape (K,).
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If there is no image, the shapes or sums do not fit, or the confidence is no share.
    """
    rows, goal = _checked(probabilities, target)
    _check_confidence(confidence)
    if ((rows == 0) | (rows == 1)).all():
        return discrepancy_interval_of_counts(hard_counts(rows), goal, confidence)
    shares = rows.mean(axis=0)
    shares /= shares.sum()
    images = effective_images(rows, goal, confidence)
    if goal.size == 2:
        return _folded(*_clopper_pearson(float(shares[0] * images), images, confidence), float(goal[0]))
    path = _Path.through(shares, goal, images)
    tails = _moment_tails(_squared_distance(shares, goal), goal, images)
    return _inverted(path, lambda _: tails, 1 - confidence)


def effective_images(probabilities: ArrayLike, target: ArrayLike, confidence: float = 0.95) -> float:
    """Return how many hard labels would leave the mean as uncertain as these n soft rows do; at least n.

    It is n over the ratio of two variances, the rows' own and that of hard labels with the same mean: the larger of the
    ratios in all directions together (traces) and in the direction of the target. ``UNSEEN`` more images, spread over
    the groups' corners as the target is, keep a sample without a rare group from passing for certainty, and the factor
    (t/z)² allows for a variance that was itself estimated (Korn and Graubard 1998).

    Raises:
        ValueError: If there is no image, the shapes or sums do not fit, or the confidence is no share.
    """
    rows, goal = _checked(probabilities, target)
    _check_confidence(confidence)
    n = len(rows)
    if n == 1:
        return 1.0
    mean = (rows.sum(axis=0) + UNSEEN * goal) / (n + UNSEEN)
    own = (rows.T @ rows + UNSEEN * np.diag(goal)) / (n + UNSEEN) - np.outer(mean, mean)
    hard = np.diag(mean) - np.outer(mean, mean)
    direction = mean - goal
    pairs = ((np.trace(own), np.trace(hard)), (direction @ own @ direction, direction @ hard @ direction))
    ratio = max((float(a / b) for a, b in pairs if b > TIE**2), default=1.0)
    allowance = float(stdtrit(n - 1, (1 + confidence) / 2) / ndtri((1 + confidence) / 2)) ** 2
    return n / min(1.0, ratio * allowance)


@lru_cache(maxsize=65_536)
def _interval_of_sorted(counts: tuple[int, ...], target: tuple[float, ...], confidence: float) -> tuple[float, float]:
    numbers, goal = np.asarray(counts, dtype=np.float64), np.asarray(target)
    n = int(numbers.sum())
    if goal.size == 2:
        return _folded(*_clopper_pearson(counts[0], n, confidence), target[0])
    shares = numbers / n
    observed = _squared_distance(shares, goal)
    path = _Path.through(shares, goal, n)

    def law(distances: Floats) -> Tails:
        if math.comb(n + goal.size - 1, goal.size - 1) <= INVERTED_OUTCOMES:
            return _Outcomes.all_of(n, target).tails(observed)
        anchors = path.at(np.linspace(distances[0], distances[-1], ANCHORS))
        return _Outcomes.sampled(n, anchors, goal).tails(observed)

    return _inverted(path, law, 1 - confidence, parity_p_value(numbers, goal))


def _clopper_pearson(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the exact interval of a share; ``successes`` and ``n`` need not be whole."""
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def _folded(low: float, high: float, target: float) -> tuple[float, float]:
    """Return the distances √2·|π₁ − r₁| of the shares π₁ from ``low`` to ``high``."""
    nearest = max(0.0, low - target, target - high)
    return math.sqrt(2) * nearest, math.sqrt(2) * max(high - target, target - low)


@dataclass(frozen=True)
class _Tails:
    """Probabilities under each of G distributions, shape (G,).

    Attributes:
        far: Of a T at least as large as the sample's.
        near: Of a T at most as large as the sample's, or as the mean of T at parity where that is larger.
        floor: Of a T at most as large as the mean of T at parity.
    """

    far: Floats
    near: Floats
    floor: Floats

    def margins(self, alpha: float) -> Floats:
        """Return how far each distribution is from being rejected: negative where it is, on a log scale."""
        far_level = np.where(self.floor >= alpha / 2, alpha, alpha / 2)
        ratio = np.minimum(self.far / far_level, self.near / (alpha / 2))
        return np.asarray(np.log(np.maximum(ratio, 1e-30)))


@dataclass(frozen=True)
class _Path:
    """Distributions of growing distance from the target, one per distance: plausible ones, given the sample.

    Up to the sample's own distance they lie on the line from the target to the sample. Beyond, they go to the corner of
    the group that is most in excess, which stays inside the simplex however far. Two corrections vanish as n grows.
    The sample is mixed with one image's worth of the target, lest a group that was not seen pass for one that cannot
    be. And it leans to that corner by one standard error, since noise hides the direction and T varies most that way.

    Attributes:
        target: r, shape (K,).
        start: The corrected sample, shape (K,).
        corner: One-hot of the group most in excess, shape (K,).
        observed: ‖p − r‖ of the sample.
        spread: Standard error of the shares in all directions together, √(tr(Σ)/n).
    """

    target: Floats
    start: Floats
    corner: Floats
    observed: float
    spread: float

    @classmethod
    def through(cls, shares: Floats, target: Floats, n: float) -> _Path:
        mixed = (n * shares + target) / (n + 1)
        spread = math.sqrt(max(1 - float((mixed**2).sum()), 1 / n) / n)
        corner = np.eye(target.size)[np.argmax(shares - target)]
        lean = min(1.0, spread / math.sqrt(_squared_distance(corner, target)))
        start = mixed + lean * (corner - mixed)
        return cls(target, start, corner, math.sqrt(_squared_distance(shares, target)), spread)

    @property
    def reach(self) -> float:
        """Distance of the corner: the last on the path."""
        return math.sqrt(_squared_distance(self.corner, self.target))

    def at(self, distances: Floats) -> Floats:
        """Return the distributions at these distances from the target, (G,) to (G, K)."""
        inner = _squared_distance(self.start, self.target)
        outward = self.corner - self.start
        slope, length = float(outward @ (self.start - self.target)), float(outward @ outward)
        beyond = np.maximum(distances**2 - inner, 0.0)
        along = beyond / (slope + np.sqrt(slope**2 + length * beyond) + 1e-300)
        inside = np.minimum(distances / math.sqrt(inner), 1.0) if inner > 0 else np.ones_like(distances)
        points = self.target + inside[:, None] * (self.start - self.target) + along[:, None] * outward
        points = np.maximum(points, 0.0)
        return np.asarray(points / points.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class _Outcomes:
    """Counts of n images, each with its weight before the groups' distribution comes in.

    Attributes:
        counts: Shape (m, K).
        log_weights: Log of the number of orders, or minus the log density of what they were sampled from, shape (m,).
        squared: Squared distance of the shares from the target, shape (m,).
        at_parity: Mean of the squared distance at parity.
    """

    counts: Floats
    log_weights: Floats
    squared: Floats
    at_parity: float

    @classmethod
    @lru_cache(maxsize=64)
    def all_of(cls, n: int, target: tuple[float, ...]) -> _Outcomes:
        """Return every outcome of ``n`` images."""
        goal = np.asarray(target)
        counts = _compositions(n, goal.size)
        orders = gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)
        return cls(counts, orders, _squared(counts / n, goal), _parity_mean(goal, n))

    @classmethod
    def sampled(cls, n: int, anchors: Floats, goal: Floats) -> _Outcomes:
        """Return as many outcomes from each of the ``anchors``, to be weighted by importance (defensive mixture)."""
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(n, anchors, size=(SAMPLES_PER_ANCHOR, len(anchors)))
        counts = drawn.reshape(-1, goal.size).astype(np.float64)
        logs = counts @ _log(anchors).T
        largest = logs.max(axis=1)
        mixture = largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1))
        return cls(counts, -mixture, _squared(counts / n, goal), _parity_mean(goal, n))

    def tails(self, observed: float) -> Tails:
        """Return the function that weighs the outcomes under (G, K) distributions, given the sample's T."""
        least = max(observed, self.at_parity)
        kinds = (self.squared >= observed - TIE, self.squared <= least + TIE, self.squared <= self.at_parity + TIE)
        events = np.stack([*kinds, np.ones_like(self.squared)], axis=1).astype(np.float64)

        def weigh(distributions: Floats) -> _Tails:
            weights = np.exp(_log(distributions) @ self.counts.T + self.log_weights)
            far, near, floor, total = (weights @ events).T
            return _Tails(far / total, near / total, floor / total)

        return weigh


def _moment_tails(observed: float, goal: Floats, n: float) -> Tails:
    """Return the function that approximates the tails of T under (G, K) distributions by a Pearson III curve."""
    at_parity = _parity_mean(goal, n)

    def weigh(distributions: Floats) -> _Tails:
        mean, deviation, skewness = squared_distance_moments(distributions, goal, n)

        def below(t: float, images: float = 0.0) -> Floats:
            return _pearson_three((t - mean) / deviation + images / math.sqrt(n), skewness)

        return _Tails(1 - below(observed, -PART_IMAGE), below(max(observed, at_parity), PART_IMAGE), below(at_parity))

    return weigh


def squared_distance_moments(distributions: Floats, target: Floats, n: float) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard deviation and skewness of T = ‖p̂ − r‖² for n labels from each of (G, K) distributions.

    With p̂ = π + e and v = π − r, T = ‖v‖² + 2v·e + ‖e‖², and e is the mean of n independent z = label − π. The mean and
    the variance are exact:
    E T = ‖v‖² + tr(Σ)/n, Var T = 4vᵀΣv/n + 4E[(v·z)‖z‖²]/n² + Var(‖z‖²)/n³ + 2(n − 1)tr(Σ²)/n³.
    The third cumulant holds the normal terms and the skewness of the leading one,
    8E[(v·z)³]/n² + 24vᵀΣ²v/n² + 8tr(Σ³)/n³.
    """
    p = distributions
    v = p - target
    centred = v - (p * v).sum(axis=1, keepdims=True)
    s2, s3, s4 = ((p**power).sum(axis=1) for power in (2, 3, 4))
    length = 1 - 2 * p + s2[:, None]  # ‖z‖² of a label of each group
    length_mean = (p * length).sum(axis=1)
    mean = (v**2).sum(axis=1) + (1 - s2) / n
    variance = (
        4 * (p * centred**2).sum(axis=1) / n
        + 4 * (p * centred * length).sum(axis=1) / n**2
        + ((p * length**2).sum(axis=1) - length_mean**2) / n**3
        + 2 * (n - 1) * (s2 - 2 * s3 + s2**2) / n**3
    )
    third = (
        8 * (p * centred**3).sum(axis=1) / n**2
        + 24 * ((p * centred) ** 2).sum(axis=1) / n**2
        + 8 * (s3 - 3 * s4 + 3 * s2 * s3 - s2**3) / n**3
    )
    deviation = np.sqrt(np.maximum(variance, 1e-24))
    return mean, deviation, third / deviation**3


def _pearson_three(z: Floats, skewness: Floats) -> Floats:
    """Return the distribution function of a standardised, shifted gamma variable with this skewness."""
    sign = np.where(skewness < 0, -1.0, 1.0)
    shape = 4 / np.maximum(np.abs(skewness), 1e-4) ** 2
    lower = gammainc(shape, np.maximum(shape + np.sqrt(shape) * sign * z, 0.0))
    return np.where(sign > 0, lower, 1 - lower)


def _inverted(
    path: _Path, law: Callable[[Floats], Tails], alpha: float, parity: float | None = None
) -> tuple[float, float]:
    """Return the smallest and the largest distance on the path that the test does not reject.

    Args:
        path: The candidates.
        law: Grid of distances → tails of T under distributions near it.
        alpha: Level of the test.
        parity: The p-value at distance 0, where it is known better than from ``law``.
    """
    grid, tails, margins = _bracketed(path, law, alpha, parity)
    kept = np.flatnonzero(margins >= 0)
    first, last = (int(kept[0]), int(kept[-1])) if kept.size else (int(margins.argmax()),) * 2
    low, high = float(grid[first]), float(grid[last])
    if first > 0:
        low = _crossing(path, tails, alpha, (float(grid[first - 1]), low))
    if last < COARSE - 1:
        high = _crossing(path, tails, alpha, (float(grid[last + 1]), high))
    elif high == path.reach:
        high = maximum(path.target)
    return low, high


def _bracketed(
    path: _Path, law: Callable[[Floats], Tails], alpha: float, parity: float | None
) -> tuple[Floats, Tails, Floats]:
    """Return a grid of distances with a rejected one at either end, or the end of the path, and its margins."""
    kept_at_zero = parity is not None and parity > alpha
    for width in (3.0, 9.0, math.inf):
        start = 0.0 if kept_at_zero else max(0.0, path.observed - width * path.spread)
        grid = np.linspace(start, min(path.reach, path.observed + width * path.spread), COARSE)
        tails = law(grid)
        margins = tails(path.at(grid)).margins(alpha)
        if start == 0 and parity is not None:
            margins[0] = math.log(parity / alpha)
        if (start == 0 or margins[0] < 0) and (grid[-1] == path.reach or margins[-1] < 0):
            return grid, tails, margins
    raise AssertionError("the whole path has no end that is neither its own nor rejected")


def _crossing(path: _Path, tails: Tails, alpha: float, ends: tuple[float, float]) -> float:
    """Return where the margin turns positive between a rejected and a kept distance, from a finer grid."""
    grid = np.linspace(*ends, FINE)
    margins = tails(path.at(grid)).margins(alpha)
    margins[0], margins[-1] = min(margins[0], -1e-12), max(margins[-1], 0.0)
    at = int(np.argmax(margins >= 0))
    part = margins[at - 1] / (margins[at - 1] - margins[at])
    return float(grid[at - 1] + part * (grid[at] - grid[at - 1]))


@lru_cache(maxsize=64)
def _parity_distribution(n: int, target: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return the values of T at parity in rising order, and the probability of at least each."""
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
    # Beyond every sampled value there is still the sample that is being tested.
    return np.append(values, math.inf), np.minimum(np.append(at_least, extra), 1.0)


def _parity_mean(goal: Floats, n: float) -> float:
    """Return the mean of T at parity, tr(Σ)/n."""
    return float(1 - (goal**2).sum()) / n


def _squared(rows: Floats, goal: Floats) -> Floats:
    return np.asarray(((rows - goal) ** 2).sum(axis=1))


def _squared_distance(shares: Floats, goal: Floats) -> float:
    return float(_squared(shares[None], goal)[0])


def _log(distributions: Floats) -> Floats:
    """Return logs that are finite, so that none of a group that cannot be weighs nothing and some of it everything."""
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
