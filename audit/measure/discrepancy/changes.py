"""Change of the squared discrepancy between two arms with the same noise, and between two independent runs.

Arms use the same noise, so the two results for one image form a pair, and the pairs of a prompt are independent of each
other. Runs with different seeds are two independent samples. A change is always *after − before* (or second − first),
so a negative change is an improvement.

The squared discrepancy is the debiased one, ‖p̄ − r‖² − tr(S)/n, which is the mean of ⟨xᵢ − r, xⱼ − r⟩ over all pairs of
different images i ≠ j: a U-statistic of degree two. Its variance (Hoeffding 1948, theorem 5.2), and that of the
difference of two such figures over the same images, has a term of order 1/n, which is 0 if both samples are on target,
and a term of order 1/n², which is not. The intervals here use both terms, so they are valid near parity, unlike a
percentile bootstrap of the plug-in.

Legend: n images or pairs, P samples, K groups, r the target, x before and y after, both minus r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from audit.measure.discrepancy.estimate import debiased_squares, discrepancy_intervals, largest_squares
from audit.measure.discrepancy.fairness import _checked
from audit.measure.discrepancy.samples import Samples
from audit.measure.inference.span import Span
from audit.measure.shares.changes import hypotenuse
from audit.records.estimates import Change

Floats = NDArray[np.float64]
Strata = Sequence[str]


@dataclass(frozen=True)
class PairedSamples:
    """P samples of pairs: the same images before and after.

    Attributes:
        before: The perceived groups before, K of them.
        after: The same after.
        joint: Both together, 2K columns.
    """

    before: Samples
    after: Samples
    joint: Samples

    @classmethod
    def of(
        cls,
        before: ArrayLike,
        after: ArrayLike,
        owners: ArrayLike,
        size: int,
        strata: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    ) -> PairedSamples:
        """Create samples of pairs from their rows.

        Args:
            before: One-hot rows, shape (N, K).
            after: The same images after, in the same order.
            owners: The sample of each pair, shape (N,).
            size: P.
            strata: Code of each image's stratum, shape (N,), before and after, see ``Samples.of``.

        Raises:
            ValueError: If a sample has no pairs, or the shapes do not match.
        """
        x, y = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
        if x.shape != y.shape:
            raise ValueError(
                f"expected the same images before and after, found {len(x)} and {len(y)}; keep the keys that both have"
            )
        return cls(
            Samples.of(x, owners, size, strata[0]),
            Samples.of(y, owners, size, strata[1]),
            Samples.of(np.hstack([x, y]), owners, size),
        )


def discrepancy_change(
    before: ArrayLike,
    after: ArrayLike,
    target: ArrayLike,
    confidence: float = 0.95,
    strata: tuple[Strata | None, Strata | None] = (None, None),
) -> Change:
    """Return d²(after) − d²(before) of the same images, both debiased; negative is better.

    The interval is Student's t with n − 1 degrees of freedom around the difference of the two U-statistics. Its
    standard error is the larger of two: that of the pairs, and that of the pairs with K additional pseudo-pairs, spread
    evenly over all changes of group. Without pseudo-pairs, a small sample in which every image has the same group would
    have error 0 (Bonett and Price 2012 do the same for the difference of two shares). The value uses no pseudo-pairs.

    The t interval assumes a symmetric difference, which is wrong if a group is rare or an edit is one-sided: with eight
    images and seven groups it would miss one of eight changes. It is therefore widened to include the square-and-add
    interval (Zou and Donner 2008, Statistics in Medicine 27:1693) of the asymmetric intervals of both arms, with the
    correlation of the two figures.

    Args:
        before: The perceived groups, one-hot rows of shape (n, K), n ≥ 2.
        after: The same images after, in the same order.
        target: The distribution that counts as fair, shape (K,).
        confidence: Confidence level of the interval, in (0, 1).
        strata: The group assigned to each image, shape (n,), before and after, if an edit assigned groups. The value
            uses the strata; the interval assumes a simple random sample and is then conservative.

    Raises:
        ValueError: If there are fewer than two pairs, or the shapes or sums do not match.
    """
    (x, goal), (y, _) = _checked(before, target), _checked(after, target)
    codes = (_codes(strata[0]), _codes(strata[1]))
    samples = PairedSamples.of(x, y, np.zeros(len(x), dtype=np.int64), 1, codes)
    return discrepancy_changes(samples, goal, confidence)[0]


def discrepancy_changes(samples: PairedSamples, targets: ArrayLike, confidence: float = 0.95) -> tuple[Change, ...]:
    """Return ``discrepancy_change`` of each sample.

    Args:
        samples: At least two pairs in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        confidence: Confidence level of each interval, in (0, 1).

    Raises:
        ValueError: If a sample has fewer than two pairs.
    """
    old, new = debiased_squares(samples.before, targets), debiased_squares(samples.after, targets)
    n, groups = samples.joint.n, samples.before.mean.shape[1]
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), samples.before.mean.shape)
    moved = (1 - np.eye(groups)) / (groups - 1)
    pseudo = np.block([[np.eye(groups), moved], [moved, np.eye(groups)]])
    variances = _guarded_variances(samples.joint, np.hstack([goals, goals]), pseudo, groups)
    ends = [discrepancy_intervals(one, goals, confidence) ** 2 for one in (samples.before, samples.after)]
    sides = _sides(old, new, ends[0], ends[1], _squares_correlation(samples.joint, goals))
    return _possible(_intervals(new - old, variances, n - 1, sides, n, confidence), goals)


def two_sample_discrepancy_change(
    first: ArrayLike,
    second: ArrayLike,
    target: ArrayLike,
    confidence: float = 0.95,
    strata: tuple[Strata | None, Strata | None] = (None, None),
) -> Change:
    """Return d²(second) − d²(first) of two independent samples, both debiased; negative is better.

    The variances are added; the degrees of freedom are Welch's. Each variance uses one pseudo-image of each group, as
    in ``discrepancy_change``, and the interval is widened in the same way, without correlation.

    Args:
        first: The perceived groups of one run, one-hot rows of shape (n₁, K), n₁ ≥ 2.
        second: The same of the other run, shape (n₂, K), n₂ ≥ 2.
        target: The distribution that counts as fair, shape (K,).
        confidence: Confidence level of the interval, in (0, 1).
        strata: The group assigned to each image of each run, if an edit assigned groups, see ``discrepancy_change``.

    Returns:
        The change; its n counts the images of both samples.

    Raises:
        ValueError: If a sample has fewer than two images, or the shapes or sums do not match.
    """
    checked = [_checked(rows, target) for rows in (first, second)]
    old, new = (Samples.one(rows, names) for (rows, _), names in zip(checked, strata, strict=True))
    return two_sample_discrepancy_changes(old, new, checked[0][1], confidence)[0]


def two_sample_discrepancy_changes(
    old: Samples, new: Samples, targets: ArrayLike, confidence: float = 0.95
) -> tuple[Change, ...]:
    """Return ``two_sample_discrepancy_change`` for each sample of ``old`` and the one with the same index in ``new``.

    Args:
        old: At least two images in every sample.
        new: The same number of samples, with at least two images each.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        confidence: Confidence level of each interval, in (0, 1).

    Raises:
        ValueError: If a sample has fewer than two images.
    """
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), old.mean.shape)
    squares = [debiased_squares(one, goals) for one in (old, new)]
    of_old, of_new = (_guarded_variances(one, goals, np.eye(goals.shape[1]), 0) for one in (old, new))
    freedom = (of_old + of_new) ** 2 / (of_old**2 / (old.n - 1) + of_new**2 / (new.n - 1))
    ends = [discrepancy_intervals(one, goals, confidence) ** 2 for one in (old, new)]
    sides = _sides(squares[0], squares[1], ends[0], ends[1], np.zeros(len(goals)))
    moved = squares[1] - squares[0]
    return _possible(_intervals(moved, of_old + of_new, freedom, sides, old.n + new.n, confidence), goals)


def squared_errors(samples: Samples, targets: ArrayLike) -> Floats:
    """Return the standard error of the debiased squared discrepancy of each sample, shape (P,), never 0.

    It uses one pseudo-image of each group, as in ``two_sample_discrepancy_change``.

    Args:
        samples: At least two images in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).
    """
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), samples.mean.shape)
    return np.sqrt(np.maximum(_guarded_variances(samples, goals, np.eye(goals.shape[1]), 0), 0.0))


def span_of_changes(targets: ArrayLike) -> Span:
    """Return the possible range of the mean change of squared discrepancies from targets (P, K)."""
    most = float(largest_squares(targets).mean())
    return Span(-most, most)


def _possible(changes: Sequence[Change], goals: Floats) -> tuple[Change, ...]:
    return tuple(span_of_changes(goal[None]).held(change) for change, goal in zip(changes, goals, strict=True))


def _codes(names: Strata | None) -> ArrayLike | None:
    return None if names is None else np.unique(np.asarray(names), return_inverse=True)[1]


def _guarded_variances(joint: Samples, goals: Floats, pseudo: Floats, before: int) -> Floats:
    """Return the variance of d²(y) − d²(x), or that with pseudo-images if it is larger, shape (P,).

    Pseudo-images increase the variance of one image; they have no information about the mean, so n excludes them.

    Args:
        joint: Rows with ``before`` columns of x (0 if there is no x), and K of y.
        goals: The target in every column, shape (P, before + K).
        pseudo: Sum of the outer products of K pseudo-images that show every group once, of both columns' shape.
        before: Columns of x.
    """
    n, added = joint.n[:, None], float(np.trace(pseudo[before:, before:]))
    every = n + added
    mean = (n * joint.mean + 1) / every
    products = (n[..., None] * joint.products + pseudo) / every[..., None]
    guarded = _variances(mean - goals, _covariance(products, mean, joint.n + added), joint.n, before)
    own = _covariance(joint.products, joint.mean, joint.n)
    return np.maximum(guarded, _variances(joint.mean - goals, own, joint.n, before))


def _covariance(products: Floats, mean: Floats, n: Floats) -> Floats:
    """Return the sample covariance of one image's row, from the means of zzᵀ and z over n images, (P, D, D)."""
    return np.asarray((products - _outer(mean)) * (n / (n - 1))[:, None, None])


def _variances(away: Floats, covariance: Floats, n: Floats, before: int) -> Floats:
    """Return the plug-in variance of the U-statistic with kernel ⟨yᵢ, yⱼ⟩ − ⟨xᵢ, xⱼ⟩ (Hoeffding 1948, theorem 5.2).

    4/n Var(⟨y, ȳ⟩ − ⟨x, x̄⟩) is its linear part, 2/(n(n − 1)) (‖S_yy‖² + ‖S_xx‖² − 2‖S_xy‖²) the quadratic one. The
    plug-in of the first is too large by about twice the second, so the sum is conservative at parity, where the figure
    is far from normal.

    Args:
        away: Mean of (x, y), each minus r, shape (P, D).
        covariance: S of one image's (x, y), shape (P, D, D).
        n: Images, shape (P,).
        before: Columns of x.
    """
    signed = away * np.where(np.arange(away.shape[1]) < before, -1.0, 1.0)
    linear = np.einsum("pi,pij,pj->p", signed, covariance, signed)
    squares = covariance**2
    own = squares[:, :before, :before].sum(axis=(1, 2)) + squares[:, before:, before:].sum(axis=(1, 2))
    quadratic = own - 2 * squares[:, :before, before:].sum(axis=(1, 2))
    return np.asarray(4 / n * linear + 2 / (n * (n - 1)) * np.maximum(0.0, quadratic))


def _squares_correlation(joint: Samples, goals: Floats) -> Floats:
    """Return the correlation of d²(x) and d²(y) of the same images, by the plug-ins of ``_variances``, shape (P,)."""
    groups = goals.shape[1]
    away = joint.mean - np.hstack([goals, goals])
    covariance = _covariance(joint.products, joint.mean, joint.n)
    x, y = slice(0, groups), slice(groups, None)

    def moment(one: slice, other: slice) -> Floats:
        linear = np.einsum("pi,pij,pj->p", away[:, one], covariance[:, one, other], away[:, other])
        return np.asarray(
            4 / joint.n * linear + 2 / (joint.n * (joint.n - 1)) * (covariance[:, one, other] ** 2).sum(axis=(1, 2))
        )

    scale = np.sqrt(np.maximum(moment(x, x) * moment(y, y), 0.0))
    return np.asarray(np.clip(np.divide(moment(x, y), scale, out=np.zeros_like(scale), where=scale > 0), -1, 1))


def _sides(old: Floats, new: Floats, old_ends: Floats, new_ends: Floats, correlation: Floats) -> tuple[Floats, Floats]:
    """Return the lengths of the square-and-add interval of new − old below and above its estimate, both (P,).

    A debiased square can be below its interval, which starts at 0; its length below is then 0.
    """
    (old_below, old_above), (new_below, new_above) = (
        (np.maximum(0.0, value - ends[:, 0]), np.maximum(0.0, ends[:, 1] - value))
        for value, ends in ((old, old_ends), (new, new_ends))
    )
    return hypotenuse(new_below, old_above, correlation), hypotenuse(new_above, old_below, correlation)


def _intervals(
    values: Floats, variances: Floats, freedom: Floats, sides: tuple[Floats, Floats], n: Floats, confidence: float
) -> tuple[Change, ...]:
    """Return Student's t intervals widened to ``sides``; p-values are below 1 − confidence if 0 is excluded."""
    t = stdtrit(freedom, (1 + confidence) / 2)
    errors = np.sqrt(np.maximum(variances, 0.0))
    below, above = (np.maximum(t * errors, side) for side in sides)
    p_values = _two_sided(values, np.where(values > 0, below, above) / t, freedom)
    columns = (values, values - below, values + above, n.astype(np.int64), errors, p_values)
    return tuple(Change(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def _outer(rows: Floats) -> Floats:
    return rows[:, :, None] * rows[:, None, :]


def _two_sided(values: Floats, errors: Floats, freedom: Floats) -> Floats:
    """Return P(|t| ≥ |value / error|); with an error of 0, the value is exact."""
    known = np.where(errors > 0, errors, 1.0)
    return np.where(errors > 0, 2 * stdtr(freedom, -np.abs(values) / known), (values == 0).astype(np.float64))
