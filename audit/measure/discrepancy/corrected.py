"""The fairness discrepancy corrected for the judge's errors, with intervals at any confidence level.

Legend: P samples, K groups; M (K, K), M_gh = P(perceived h | true g); p perceived and π true shares; r the target; n
audited images, n_g labelled images whose truth is g; A = (Mᵀ)⁻¹.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.discrepancy.distance_rays import Rays
from audit.measure.discrepancy.distance_test import PART_IMAGE, Inversion, Observed, below, moment_law
from audit.measure.discrepancy.fairness import _distribution
from audit.measure.discrepancy.samples import Samples
from audit.measure.inference.simplex import Floats, nearest_distribution
from audit.measure.shares.classifier_error import (
    ConfusionMatrix,
    checked_counts,
    inverse_of,
    label_covariance,
    smoothed,
)
from audit.measure.shares.corrected import corrected_share_ends
from audit.records.estimates import Estimate

Ints = NDArray[np.int64]

BATCH = 512
"""Samples whose candidates are evaluated together, so that they fit into a processor's cache."""


def corrected_squared(counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix) -> float:
    """Return the corrected squared fairness discrepancy, debiased: ‖Ap̂ − r‖² − tr(AVAᵀ).

    V is the covariance of p̂ − M̂ᵀπ̂, from the sample and from the labels. The value is nearly unbiased, so it is negative
    about half of the time for a fair model. It is not clipped at 0, so that means of it are unbiased.

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        target: The distribution that counts as fair, r of shape (K,).
        matrix: The judge's confusion matrix.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are fewer than 2 images, or groups or target do not match.
    """
    samples, goal = _one_sample(counts, target, matrix)
    return float(corrected_squares(samples, goal, matrix)[0])


def corrected_squares(samples: Samples, targets: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    """Return ``corrected_squared`` of each sample, shape (P,).

    The covariance of p̂ is that of the samples. For fixed numbers of images assigned to groups it is the smaller
    covariance of a stratified mean; subtracting more would make an edit look fairer than it is.

    Args:
        samples: Labels of at least two audited images in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        matrix: The judge's confusion matrix.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
    """
    inverse = inverse_of(matrix)
    found = samples.mean @ inverse.T
    from_matrix = nearest_distribution(found) ** 2 @ rates_bias(matrix)
    from_sample = np.einsum("ij,pjk,ik->p", inverse, samples.covariance, inverse)
    return np.asarray(((found - np.asarray(targets)) ** 2).sum(axis=1) - from_sample - from_matrix)


def rates_bias(matrix: ConfusionMatrix) -> Floats:
    """Return tr(A Σ(M_h) Aᵀ)/(n_h − 1) of each row of M, shape (K,); π_h² times this is the bias due to the labels."""
    inverse = inverse_of(matrix)
    of_labels = np.array([np.trace(inverse @ label_covariance(row) @ inverse.T) for row in matrix.rates])
    return np.asarray(of_labels / np.maximum(matrix.labelled - 1, 1))


def corrected_discrepancy(
    counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95
) -> Estimate:
    """Return the corrected squared fairness discrepancy ‖π − r‖², debiased, with an interval that is valid at parity.

    The value is that of :func:`corrected_squared`, not clipped at 0. The interval is that of
    :func:`corrected_discrepancies`.

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        target: The distribution that counts as fair, r of shape (K,).
        matrix: The judge's confusion matrix.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are fewer than 2 images, or groups or target do not match, or the confidence is not in (0,
            1).
    """
    samples, goal = _one_sample(counts, target, matrix)
    return corrected_discrepancies(samples, goal, matrix, confidence)[0]


def corrected_discrepancies(
    samples: Samples, targets: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95
) -> tuple[Estimate, ...]:
    """Return the corrected squared discrepancy of each sample with an interval that is valid at parity.

    The interval is that of :func:`corrected_distances`. The value uses strata; the interval assumes a simple random
    sample and is then conservative.

    Args:
        samples: Labels of at least two audited images in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        matrix: The judge's confusion matrix.
        confidence: Confidence level of each interval, in (0, 1).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If the confidence is not in (0, 1).
    """
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), samples.mean.shape)
    values = corrected_squares(samples, goals, matrix)
    ends = corrected_distances(samples.counts, goals, matrix, confidence)
    rows = zip(values.tolist(), (ends**2).tolist(), samples.n.tolist(), strict=True)
    return tuple(Estimate(value=value, low=low, high=high, n=int(n)) for value, (low, high), n in rows)


def corrected_distances(
    counts: ArrayLike,
    targets: ArrayLike,
    matrix: ConfusionMatrix,
    confidence: float = 0.95,
    unknown: ArrayLike | None = None,
    *,
    each_tail: bool = False,
) -> Floats:
    """Return intervals of the distance ‖π − r‖ of the true shares of all images from the target, shape (P, 2).

    For two groups the distance is √2·|π₁ − r₁|, and its interval is the folded interval of the share. For more groups
    the tests of ``audit.measure.discrepancy.distance_test`` are inverted. The distribution of M includes the
    uncertainty of the judge's rates, which are known only from labels (:func:`corrected_moments`).

    Unclassified images can be of any group. The distance is largest if all of them are of one group, so the upper end
    is the largest over these completions; the lower end is that of the completion nearest to the target.

    Args:
        counts: Audited images by perceived group, shape (P, K), at least one image of any kind in every row.
        targets: The distributions that count as fair, shape (P, K).
        matrix: The judge's confusion matrix.
        confidence: Confidence level of each interval, in (0, 1).
        unknown: Images without a perceived group, shape (P,); None if there are none.
        each_tail: See :func:`audit.measure.discrepancy.estimate.discrepancy_intervals`; for two groups, each end always
            has an error rate of (1 − confidence)/2.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If the confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}; 0.95 is usual")
    perceived, goals = np.asarray(counts, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    missing = np.zeros(len(perceived)) if unknown is None else np.asarray(unknown, dtype=np.float64)
    if goals.shape[1] == 2:
        ends = corrected_share_ends(0, perceived, missing, matrix, confidence)
        low, high = (end - goals[:, 0] for end in ends)
        nearest = np.maximum(0.0, np.maximum(low, -high))
        return np.asarray(np.stack([nearest, np.maximum(high, -low)], axis=1) * np.sqrt(2))
    completions = [nearest_completions(perceived, goals, matrix, missing)]
    if missing.any():
        completions += [np.broadcast_to(corner, perceived.shape) for corner in np.eye(goals.shape[1])]
    images = (_Completed(perceived, missing, given) for given in completions)
    found = np.stack([_distances(one, goals, matrix, confidence, each_tail) for one in images])
    return np.stack([found[0, :, 0], found[:, :, 1].max(axis=0)], axis=1)


def nearest_completions(counts: Floats, targets: Floats, matrix: ConfusionMatrix | None, unknown: Floats) -> Floats:
    """Return the shares of groups among unclassified images for which all images are nearest to the target, (P, K).

    Args:
        counts: Images by perceived group, shape (P, K).
        targets: The distributions that count as fair, shape (P, K).
        matrix: The judge's confusion matrix; None for figures as perceived.
        unknown: Images without a perceived group, shape (P,).
    """
    true = counts if matrix is None else counts @ inverse_of(matrix).T
    total, missing = true.sum(axis=1) + unknown, np.maximum(unknown, 1)
    return nearest_distribution((total[:, None] * targets - true) / missing[:, None])


def parity_tails(counts: ArrayLike, targets: ArrayLike, matrix: ConfusionMatrix, unknown: ArrayLike) -> Floats:
    """Return the p-value of the hypothesis that more than two groups are on target in all images, shape (P,).

    It is the probability, if the true shares are the target, of a T at least as large as that of the completion nearest
    to the target.

    Args:
        counts: Audited images by perceived group, shape (P, K), at least one image of any kind in every row.
        targets: The distributions that count as fair, shape (P, K).
        matrix: The judge's confusion matrix.
        unknown: Images without a perceived group, shape (P,).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
    """
    perceived, missing = np.asarray(counts, dtype=np.float64), np.asarray(unknown, dtype=np.float64)
    goals = np.asarray(targets, dtype=np.float64)
    images = _Completed(perceived, missing, nearest_completions(perceived, goals, matrix, missing))
    observed = ((images.shares(matrix) - goals) ** 2).sum(axis=1)[:, None]
    moments = corrected_moments(goals[:, None], goals[:, None], images.n[:, None], matrix, images.sure[:, None])
    return np.asarray(1 - below(observed, moments, images.n[:, None], -PART_IMAGE)[:, 0])


@dataclass(frozen=True)
class _Completed:
    """Images of P samples with the unclassified ones assigned to groups.

    Attributes:
        counts: Images by perceived group, shape (P, K).
        unknown: Images without a perceived group, shape (P,).
        given: Assumed shares of the groups among the unknown images, shape (P, K).
    """

    counts: Floats
    unknown: Floats
    given: Floats

    @property
    def n(self) -> Floats:
        """All images, shape (P,)."""
        return np.asarray(self.counts.sum(axis=1) + self.unknown)

    @property
    def sure(self) -> Floats:
        """Share of all images that are unknown and assigned to each group, shape (P, K)."""
        return np.asarray((self.unknown / self.n)[:, None] * self.given)

    def shares(self, matrix: ConfusionMatrix) -> Floats:
        """Return the corrected shares of all images, which can be outside the simplex, shape (P, K)."""
        return np.asarray(self.counts @ inverse_of(matrix).T / self.n[:, None] + self.sure)

    def at(self, places: Ints) -> _Completed:
        """Return some of the samples."""
        return _Completed(self.counts[places], self.unknown[places], self.given[places])


def corrected_moments(
    distributions: Floats,
    targets: Floats,
    n: Floats | float,
    matrix: ConfusionMatrix,
    sure: Floats | float = 0.0,
    weight: Floats | float = 1.0,
) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard deviation and skewness of M for n images of true shares (…, K).

    A label is the point x = A·(one-hot), and Ap̂ the mean of n points, with mean distance v = π − r from the target; z =
    x − π. With e = Ap̂ − π, M = ‖v‖² + 2v·e + w‖e‖², for w = 1 the squared distance T = ‖Ap̂ − r‖². The covariance of the
    mean is C = (S − D)/n + D. S is the covariance of one x. D = Σ_h π_h² A Σ(M̃_h)Aᵀ/(ñ_h + 1) is the uncertainty of the
    rates, whose rows are Dirichlet given their labels:
    E M = ‖v‖² + w tr(C), Var M = 4vᵀCv + 4wE[(v·z)‖z‖²]/n² + w²[(Var(‖z‖²) − 2tr(S²))/n³ + 2tr(C²)],
    and the third cumulant is 8κ₃(v·x̄) + 24wvᵀC²v + 8w³tr(C³), κ₃ that of the images and of the Dirichlet rows. For a
    matrix without errors these are ``squared_distance_moments``. The ``PSEUDO_LABELS`` are used in D but not in the
    mean, because they would shift it towards equal rates.

    Unclassified images that are assigned to groups have a separate label. Its point is the assigned distribution; the
    judge's rates do not apply to them.

    Args:
        distributions: True shares π, shape (…, K).
        targets: The distributions that count as fair; they broadcast against ``distributions``.
        n: Audited images, of the shape of ``distributions`` without its last axis, or broadcasting against it.
        matrix: The judge's confusion matrix.
        sure: Share of the images that are assigned to each group without being classified; it broadcasts in the same
            way.
        weight: w, which broadcasts like n.
    """
    points, (rates, labelled) = inverse_of(matrix).T, smoothed(matrix)  # row j is the point of label j
    given = np.minimum(np.broadcast_to(np.asarray(sure, dtype=np.float64), distributions.shape), distributions)
    classified, unknown = distributions - given, given.sum(axis=-1)
    v = distributions - targets
    middle = given / np.maximum(unknown, 1e-300)[..., None]
    q = np.concatenate([classified @ matrix.rates, unknown[..., None]], axis=-1)
    along = np.concatenate([v @ points.T, (v * middle).sum(axis=-1, keepdims=True)], axis=-1)  # v·x of each label
    along = along - (v * distributions).sum(axis=-1, keepdims=True)
    shape = (*distributions.shape[:-1], *points.shape)
    offsets = np.concatenate([np.broadcast_to(points, shape), middle[..., None, :]], axis=-2)
    offsets = offsets - distributions[..., None, :]
    length = (offsets**2).sum(axis=-1)
    spread = np.swapaxes(offsets, -1, -2) @ (q[..., None] * offsets)
    of_rates = np.stack([points.T @ label_covariance(row) @ points for row in rates]) / (labelled + 1)[:, None, None]
    drift = np.einsum("...h,hij->...ij", classified**2, of_rates)
    size = np.asarray(n, dtype=np.float64)
    total = (spread - drift) / size[..., None, None] + drift
    squared = total @ total
    leaned = (total @ v[..., None])[..., 0]
    mean = (v**2).sum(axis=-1) + weight * np.trace(total, axis1=-2, axis2=-1)
    of_length = (q * length**2).sum(axis=-1) - (q * length).sum(axis=-1) ** 2 - 2 * (spread**2).sum(axis=(-1, -2))
    variance = (
        4 * (v * leaned).sum(axis=-1)
        + 4 * weight * (q * along * length).sum(axis=-1) / size**2
        + weight**2 * (of_length / size**3 + 2 * np.trace(squared, axis1=-2, axis2=-1))
    )
    of_matrix = _rates_skew(classified, v @ points.T, rates, labelled)
    third = (
        8 * ((q * along**3).sum(axis=-1) / size**2 + of_matrix)
        + 24 * weight * (leaned**2).sum(axis=-1)
        + 8 * weight**3 * (squared * total).sum(axis=(-1, -2))
    )
    deviation = np.sqrt(np.maximum(variance, 1e-24))
    return mean, deviation, third / deviation**3


def _rates_skew(distributions: Floats, heights: Floats, rates: Floats, labelled: Floats) -> Floats:
    """Return the third cumulant that Dirichlet rows add to the mean of ``heights`` (…, K), one for each label."""
    centred = heights[..., None, :] - (heights @ rates.T)[..., None]
    thirds = 2 * (rates * centred**3).sum(axis=-1) / ((labelled + 1) * (labelled + 2))
    return np.asarray((distributions**3 * thirds).sum(axis=-1))


def _distances(
    images: _Completed, goals: Floats, matrix: ConfusionMatrix, confidence: float, each_tail: bool
) -> Floats:
    """Return the intervals of the distance ‖π − r‖ for the assigned groups of unknown images, shape (P, 2)."""
    starts = range(0, len(goals), BATCH)
    batches = (np.arange(start, min(start + BATCH, len(goals))) for start in starts)
    tests = ((_test(images.at(b), goals[b], matrix), np.full(len(b), np.nan)) for b in batches)
    return np.concatenate([test.intervals(1 - confidence, unknown, each_tail=each_tail) for test, unknown in tests])


def _test(images: _Completed, goals: Floats, matrix: ConfusionMatrix) -> Inversion:
    def moments_of(points: Floats, rows: Ints, weight: Floats | float = 1.0) -> tuple[Floats, Floats, Floats]:
        return corrected_moments(points, goals[rows, None], n[rows, None], matrix, images.sure[rows][:, None], weight)

    found, n, every = images.shares(matrix), images.n, np.arange(len(goals))
    shares = nearest_distribution(found)
    floors, spread = (moments_of(points[:, None], every)[0][:, 0] for points in (goals, shares))
    spread = spread - ((shares - goals) ** 2).sum(axis=1)
    as_labels = np.minimum(n, np.maximum(1 - (shares**2).sum(axis=1), 1 / n) / spread)
    law = moment_law(Observed(goals, found - goals, floors), moments_of, n)
    return Inversion.of(shares, as_labels, Rays.both(shares, goals, as_labels), law)


def _one_sample(counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix) -> tuple[Samples, Floats]:
    perceived, goal = checked_counts(counts, matrix), _distribution(target)
    if goal.size != perceived.size:
        raise ValueError(f"expected a target over {perceived.size} groups, found {goal.size}")
    if perceived.sum() < 2:
        raise ValueError(f"a debiased discrepancy needs at least 2 images, got {perceived.sum():g}")
    return Samples.of_counts(perceived[None]), goal
