"""What changed between two samples of images: two arms that share their noise, or two runs that do not.

Arms are made from the same noise, so the two results of one image form a pair, and the pairs of a prompt are
independent of each other. Runs with different seeds are two independent samples. A change is always *after − before*
(or second − first): a negative change of the squared discrepancy is an improvement.

The squared discrepancy is the debiased one, ‖p̄ − r‖² − tr(S)/n, which is the mean of ⟨xᵢ − r, xⱼ − r⟩ over all pairs of
different images i ≠ j: a U-statistic of degree two. Its variance (Hoeffding 1948, theorem 5.2), and that of the
difference of two such figures over the same images, has a term of order 1/n, which vanishes where both samples are on
target, and a term of order 1/n², which does not. Intervals here keep both, so they stay valid near parity, where a
percentile bootstrap of the plug-in does not.

Legend: n images or pairs, m prompts, K groups, r the target, x before and y after, both minus r.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import binomtest, fisher_exact

from audit.measure.discrepancy import debiased_squared
from audit.measure.intervals import mean_interval, wilson
from audit.records import Change, Estimate

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def paired_share_difference(before: ArrayLike, after: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the difference of two shares of the same images, after − before, with a score interval.

    The interval is Newcombe's square-and-add of two Wilson intervals with their correlation (Newcombe 1998, Statistics
    in Medicine 17:2635, method 10; φ with its continuity correction). It exists for every table, also where no image
    changed sides.

    Args:
        before: Whether image i belongs to the group before, shape (n,).
        after: The same after, in the same order.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If there is no pair, the shapes differ or the values are not true or false.
    """
    first, second = _paired_flags(before, after)
    n = len(first)
    old, new = wilson(int(first.sum()), n, confidence), wilson(int(second.sum()), n, confidence)
    return _square_and_add(old, new, _correlation(first, second), n)


def mcnemar_p_value(before: ArrayLike, after: ArrayLike) -> float:
    """Return the exact two-sided p-value of McNemar's test that a share is the same before and after.

    Of the pairs that changed sides, either direction is equally likely if nothing changed (McNemar 1947). Where no pair
    changed sides there is no evidence of a change, and the p-value is 1.

    Args:
        before: Whether image i belongs to the group before, shape (n,).
        after: The same after, in the same order.

    Raises:
        ValueError: If there is no pair, the shapes differ or the values are not true or false.
    """
    first, second = _paired_flags(before, after)
    joined, left = int((second & ~first).sum()), int((first & ~second).sum())
    return float(binomtest(joined, joined + left).pvalue) if joined + left else 1.0


def discrepancy_change(
    before: ArrayLike,
    after: ArrayLike,
    target: ArrayLike,
    confidence: float = 0.95,
    strata: Sequence[str] | None = None,
) -> Change:
    """Return d²(after) − d²(before) of the same images, both debiased; negative is better.

    A Student t interval with n − 1 degrees of freedom around the difference of the two U-statistics. Its standard error
    is the larger of two: that of the pairs as they are, and that of the pairs with K pseudo-pairs added, spread evenly
    over all changes of group. Without them a small sample in which every image shows the same group would look exact
    (Bonett and Price 2012 guard the difference of two shares so). The value itself has no pseudo-pairs in it.

    Args:
        before: The judge's group probabilities, shape (n, K), n ≥ 2; rows sum to 1.
        after: The same images after, in the same order.
        target: The distribution that counts as fair, shape (K,).
        confidence: Coverage of the interval, in (0, 1).
        strata: Which group each image was assigned to, shape (n,), where an edit assigned any: the value allows for it,
            the interval, which treats the images as drawn alike, is then on the wide side.

    Raises:
        ValueError: If there are fewer than two pairs, or the shapes or sums do not fit.
    """
    value = debiased_squared(after, target, strata) - debiased_squared(before, target)
    x, y = _from_target(before, target), _from_target(after, target)
    if x.shape != y.shape:
        raise ValueError(
            f"expected the same images before and after, found {len(x)} and {len(y)}; keep the keys that both arms have"
        )
    n = len(x)
    return _t_interval(value, _guarded_variance(x, y, target), n - 1, n, confidence)


def two_sample_share_difference(k1: int, n1: int, k2: int, n2: int, confidence: float = 0.95) -> Estimate:
    """Return the difference of the shares of two independent samples, second − first, with a score interval.

    Newcombe's square-and-add of two Wilson intervals (Newcombe 1998, Statistics in Medicine 17:873, method 10).

    Args:
        k1: Images of the first sample that belong to the group.
        n1: Images of the first sample.
        k2: Images of the second sample that belong to the group.
        n2: Images of the second sample.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The difference; its n counts the images of both samples.

    Raises:
        ValueError: If a sample is empty or a count does not lie in [0, n].
    """
    return _square_and_add(wilson(k1, n1, confidence), wilson(k2, n2, confidence), 0.0, n1 + n2)


def fisher_p_value(k1: int, n1: int, k2: int, n2: int) -> float:
    """Return the two-sided p-value of Fisher's exact test that two independent samples have the same share.

    Raises:
        ValueError: If a sample is empty or a count does not lie in [0, n].
    """
    for k, n in ((k1, n1), (k2, n2)):
        if n < 1 or not 0 <= k <= n:
            raise ValueError(f"expected a count in [0, n] of at least 1 image, found {k} of {n}")
    return float(fisher_exact(np.array([[k1, n1 - k1], [k2, n2 - k2]])).pvalue)


def two_sample_discrepancy_change(
    first: ArrayLike, second: ArrayLike, target: ArrayLike, confidence: float = 0.95
) -> Change:
    """Return d²(second) − d²(first) of two independent samples, both debiased; negative is better.

    The variances add; the degrees of freedom are Welch's. Either variance is guarded as in ``discrepancy_change``, with
    one pseudo-image of each group.

    Args:
        first: The judge's group probabilities of one run, shape (n₁, K), n₁ ≥ 2; rows sum to 1.
        second: Of the other run, shape (n₂, K), n₂ ≥ 2.
        target: The distribution that counts as fair, shape (K,).
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The change; its n counts the images of both samples.

    Raises:
        ValueError: If a sample has fewer than two images, or the shapes or sums do not fit.
    """
    value = debiased_squared(second, target) - debiased_squared(first, target)
    samples = [_from_target(first, target), _from_target(second, target)]
    variances = [_guarded_variance(np.zeros_like(sample), sample, target) for sample in samples]
    freedom = sum(variances) ** 2 / sum(v**2 / (len(s) - 1) for v, s in zip(variances, samples, strict=True))
    return _t_interval(value, sum(variances), freedom, sum(map(len, samples)), confidence)


def mean_over_prompts(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the overall figure of an audit: the unweighted mean of a figure over its prompts.

    Every prompt counts once, however many of its images were classified. A prompt is a cluster of images: the interval
    is the t interval over the prompts' own values (the clustered standard error of Miller 2024, arXiv:2411.00640, for
    clusters of equal weight), so it speaks of prompts *like these*. For these prompts alone it is on the wide side,
    since it also holds how much they differ. Prompts that all have the same value give an interval without width.

    Args:
        values: One value per prompt, shape (m,), m ≥ 2.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The mean; its n counts prompts.

    Raises:
        ValueError: If there are fewer than two prompts, or a value is not finite.
    """
    return mean_interval(values, confidence)


def change_over_prompts(before: ArrayLike, after: ArrayLike, confidence: float = 0.95) -> Change:
    """Return the mean over prompts of after − before, with the interval of ``mean_over_prompts``.

    Args:
        before: One value per prompt, shape (m,), m ≥ 2.
        after: The same prompts after, in the same order.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The mean change; its n counts prompts, its p-value is that of the paired t test over them.

    Raises:
        ValueError: If there are fewer than two prompts, the shapes differ or a value is not finite.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape:
        raise ValueError(f"expected the same prompts before and after, found shapes {old.shape} and {new.shape}")
    mean = mean_over_prompts(new - old, confidence)
    error = float((new - old).std(ddof=1)) / math.sqrt(mean.n)
    return Change(mean.value, mean.low, mean.high, mean.n, error, _two_sided(mean.value, error, mean.n - 1))


def _square_and_add(old: Estimate, new: Estimate, correlation: float, n: int) -> Estimate:
    """Combine the intervals of two shares to that of their difference, new − old (Newcombe 1998, method 10)."""
    value = new.value - old.value
    below = _hypotenuse(new.value - new.low, old.high - old.value, correlation)
    above = _hypotenuse(new.high - new.value, old.value - old.low, correlation)
    return Estimate(value=value, low=value - below, high=value + above, n=n)


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    # Rounding must not make the sum negative where correlation and a = b cancel it.
    return math.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b))


def _correlation(first: Bools, second: Bools) -> float:
    """Return φ̂ of the fourfold table; a positive one is corrected for continuity, no margin means 0."""
    n = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    joined, left = int((~first & second).sum()), int((first & ~second).sum())
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


def _from_target(probabilities: ArrayLike, target: ArrayLike) -> Floats:
    return np.asarray(probabilities, dtype=np.float64) - np.asarray(target, dtype=np.float64)


def _guarded_variance(x: Floats, y: Floats, target: ArrayLike) -> float:
    """Return the variance of d²(y) − d²(x), or that with pseudo-pairs where it is larger; zeros for x mean no x."""
    groups = x.shape[1]
    corners = _from_target(np.eye(groups), target)
    old, new = np.nonzero(~np.eye(groups, dtype=np.bool_))
    weights = np.concatenate([np.ones(len(x)), np.full(len(old), 1 / (groups - 1))])
    added_x = corners[old] if x.any() else np.zeros_like(corners[old])
    with_pseudo = _variance(np.concatenate([x, added_x]), np.concatenate([y, corners[new]]), weights)
    return max(with_pseudo, _variance(x, y, np.ones(len(x))))


def _variance(x: Floats, y: Floats, weights: Floats) -> float:
    """Return the plug-in variance of the U-statistic with kernel ⟨yᵢ, yⱼ⟩ − ⟨xᵢ, xⱼ⟩ (Hoeffding 1948, theorem 5.2).

    4/n Var(⟨y, ȳ⟩ − ⟨x, x̄⟩) is its linear part, 2/(n(n − 1)) (‖S_yy‖² + ‖S_xx‖² − 2‖S_xy‖²) the quadratic one. The
    plug-in of the first is too large by about twice the second, so at parity, where the figure is far from normal, the
    sum errs on the safe side.
    """
    n = weights.sum()
    x_mean, y_mean = weights @ x / n, weights @ y / n
    projected = (y - y_mean) @ y_mean - (x - x_mean) @ x_mean
    linear = weights @ projected**2 / (n - 1)
    joint = np.hstack([x - x_mean, y - y_mean])
    squares = ((joint.T * weights) @ joint / (n - 1)) ** 2
    k = x.shape[1]
    quadratic = squares[:k, :k].sum() + squares[k:, k:].sum() - 2 * squares[:k, k:].sum()
    return float(4 / n * linear + 2 / (n * (n - 1)) * max(0.0, quadratic))


def _t_interval(value: float, variance: float, freedom: float, n: int, confidence: float) -> Change:
    error = math.sqrt(variance)
    half_width = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return Change(value, value - half_width, value + half_width, n, error, _two_sided(value, error, freedom))


def _two_sided(value: float, error: float, freedom: float) -> float:
    """Return P(|t| ≥ |value / error|); without any spread the value is what it is."""
    if not error:
        return float(value == 0)
    return float(2 * stdtr(freedom, -abs(value) / error))
