"""The judge's own errors, carried into the shares: what a biased model looks like through an imperfect classifier.

A judge that errs mixes the groups, p = Mᵀπ, and so understates bias: at accuracy 0.9 a true split of 80/20 reads 74/26.
The matrix M comes from images with known groups (hand labels, or drawings). With two groups the correction is the
estimator of Rogan & Gladen 1978, which CLEAM (Teo et al. 2023) brought to generative models. CLEAM takes M for exact;
here the error of M is in every interval, as in the formula with unknown standard errors of the R package serosurvey.

The correction holds where the judge errs on the audit's images as it did on the labelled ones, and M must be of the
same answers: one of most probable groups corrects hard counts, not mean probabilities.

Legend: K groups; M (K, K), M_gh = P(perceived h | true g), rows sum to 1; p (K,) perceived and π (K,) true shares; n
audited images, n_g labelled images whose truth is g; A = (Mᵀ)⁻¹.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from audit.measure.distance_test import Path, Tails, inverted, moment_tails
from audit.measure.fairness import _distribution
from audit.measure.intervals import share_estimate
from audit.measure.samples import Samples
from audit.measure.simplex import Floats, nearest_distribution
from audit.records import Estimate

Ints = NDArray[np.int64]

CONDITION_LIMIT = 10.0
"""Largest ratio of M's singular values that is corrected: at most ten times the perceived shares' error, as if there
were a hundredth of the images. With two groups of equal accuracy that is an accuracy of 0.55."""

PSEUDO_LABELS = 2.0
"""Labelled images added to each row of M, spread evenly, wherever its error is needed: a judge without a mistake in 200
labels is not one without mistakes. Two are those of Agresti & Coull (1998), as Lang & Reiczigel (2014) use them."""

BATCH = 512
"""Samples whose candidates are weighed at once, so that they fit into a processor's cache."""


class IllConditioned(ValueError):
    """The judge tells the groups apart too badly for its answers to be corrected."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often a judge took one group for another, on images whose group is known.

    Attributes:
        groups: Group names.
        counts: Images by true group (rows) and perceived group (columns), K rows of K whole numbers.
    """

    groups: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what is no confusion matrix."""
        size = len(self.groups)
        if size < 2 or len(set(self.groups)) != size:
            raise ValueError(f"a confusion matrix needs at least 2 different groups, found {list(self.groups)}")
        if len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise ValueError(f"expected {size} rows of {size} counts, one for each of {list(self.groups)}")
        if any(count < 0 or count != int(count) for row in self.counts for count in row):
            raise ValueError(f"expected whole counts of images, none negative; found {self.counts}")
        empty = [group for group, row in zip(self.groups, self.counts, strict=True) if not sum(row)]
        if empty:
            raise ValueError(f"expected labelled images of every group, found none whose truth is {', '.join(empty)}")

    @classmethod
    def of(cls, groups: Sequence[str], counts: ArrayLike) -> ConfusionMatrix:
        """Build a matrix from counts of shape (K, K), rows are the truth."""
        rows = np.asarray(counts).tolist()
        return cls(tuple(groups), tuple(tuple(row) for row in rows))

    @property
    def rates(self) -> Floats:
        """M, shape (K, K): P(perceived | true), rows sum to 1."""
        counts = np.asarray(self.counts, dtype=np.float64)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    @property
    def labelled(self) -> Ints:
        """Labelled images by true group, n_g of shape (K,)."""
        return np.asarray(np.asarray(self.counts, dtype=np.int64).sum(axis=1))

    @property
    def accuracy(self) -> Estimate:
        """Share of labelled images whose group was perceived, over all groups together, with its interval."""
        counts = np.asarray(self.counts, dtype=np.int64)
        return share_estimate(int(counts.trace()), int(counts.sum()))

    @property
    def recall(self) -> dict[str, Estimate]:
        """For each true group, the share of its images that was perceived as it, with its interval."""
        labelled = self.labelled.tolist()
        return {group: share_estimate(self.counts[i][i], labelled[i]) for i, group in enumerate(self.groups)}

    @property
    def condition_number(self) -> float:
        """Ratio of M's largest and smallest singular value; 1 is a perfect judge, infinity one that cannot tell."""
        values = np.linalg.svd(self.rates, compute_uv=False)
        return float(values[0] / values[-1]) if values[-1] > 1e-12 else float("inf")

    @property
    def correctable(self) -> bool:
        """Whether the condition number is within ``CONDITION_LIMIT``."""
        return self.condition_number <= CONDITION_LIMIT

    def reordered(self, groups: Sequence[str]) -> ConfusionMatrix:
        """Return the matrix with its groups in another order.

        Raises:
            ValueError: If ``groups`` are not the same groups.
        """
        if sorted(groups) != sorted(self.groups):
            raise ValueError(f"expected the groups {', '.join(groups)}, the matrix has {', '.join(self.groups)}")
        order = [self.groups.index(group) for group in groups]
        return ConfusionMatrix(tuple(groups), tuple(tuple(self.counts[i][j] for j in order) for i in order))


def correct(perceived: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    """Return the corrected shares: π̂ = (Mᵀ)⁻¹p̄, projected to the simplex; shape (K,) to (K,).

    Args:
        perceived: Counts or shares of the perceived groups, in the matrix's order.
        matrix: The judge's confusions.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If nothing was perceived, or the groups do not fit.
    """
    values = _perceived(perceived, matrix)
    return nearest_distribution(_inverse(matrix) @ (values / values.sum()))


@dataclass(frozen=True)
class CorrectedShares:
    """Corrected shares of P samples with their intervals, each of shape (P, K)."""

    value: Floats
    low: Floats
    high: Floats


def corrected_interval(counts: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95) -> tuple[Estimate, ...]:
    """Return each group's corrected share with an interval for the error of the sample and of the matrix.

    Delta method at smoothed counts: for group g the interval is e ± z√V_gg with e = Ap̃ and, as p and M are independent,
    V = A[Σ(p̃)/ñ + Σ_h e_h² Σ(M̃_h)/ñ_h]Aᵀ, where Σ(q) = diag(q) − qqᵀ. The sample gets z² pseudo-images, half of them
    in g (Agresti & Coull 1998), each row of M ``PSEUDO_LABELS``: for two groups the interval of Lang & Reiczigel 2014
    without its small shift. It is cut to [0, 1] and widened to hold the corrected share where need be.

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        matrix: The judge's confusions.
        confidence: Coverage of each interval, in (0, 1).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there is no image, or the groups do not fit.
    """
    perceived = _counted(counts, matrix)
    found, n = corrected_shares(perceived[None], matrix, confidence), int(perceived.sum())
    ends = (found.value[0].tolist(), found.low[0].tolist(), found.high[0].tolist())
    return tuple(Estimate(value, low, high, n) for value, low, high in zip(*ends, strict=True))


def corrected_shares(counts: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95) -> CorrectedShares:
    """Return ``corrected_interval`` of each row of counts (P, K), every row of at least one image.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
    """
    perceived = np.asarray(counts, dtype=np.float64)
    n, size = perceived.sum(axis=1, keepdims=True), perceived.shape[1]
    corrected = nearest_distribution(perceived / n @ _inverse(matrix).T)
    z = float(ndtri((1 + confidence) / 2))
    rates, labelled = _smoothed(matrix)
    inverse = np.linalg.inv(rates.T)
    low, high = np.empty_like(corrected), np.empty_like(corrected)
    for group in range(size):
        pseudo = np.full(size, z**2 / 2 / (size - 1))
        pseudo[group] = z**2 / 2
        seen = (perceived + pseudo) / (n + z**2)
        centre = seen @ inverse.T
        from_sample = _spread_along(inverse[group], seen) / (n[:, 0] + z**2)
        from_matrix = np.maximum(centre, 0.0) ** 2 @ (_spread_along(inverse[group], rates) / labelled)
        half_width = z * np.sqrt(from_sample + from_matrix)
        # Counts that no truth explains put the middle outside: there the half-width counts from the border.
        middle = np.clip(centre[:, group], 0.0, 1.0)
        low[:, group] = np.minimum(np.maximum(0.0, middle - half_width), corrected[:, group])
        high[:, group] = np.maximum(np.minimum(1.0, middle + half_width), corrected[:, group])
    return CorrectedShares(corrected, low, high)


def corrected_squared(counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix) -> float:
    """Return the corrected squared fairness discrepancy, debiased: ‖Ap̂ − r‖² − tr(AVAᵀ).

    V is the covariance of p̂ − M̂ᵀπ̂, from the sample and from the labels. The value is nearly unbiased, and therefore
    negative about half of the time where the model is fair; it is not cut at 0, so that means of it stay unbiased.

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        target: The distribution that counts as fair, r of shape (K,).
        matrix: The judge's confusions.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are fewer than 2 images, or groups or target do not fit.
    """
    samples, goal = _one_sample(counts, target, matrix)
    return float(corrected_squares(samples, goal, matrix)[0])


def corrected_squares(samples: Samples, targets: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    """Return ``corrected_squared`` of each sample, shape (P,).

    The covariance of p̂ is the samples' own. Where fixed numbers of images were assigned to groups it is that of a
    stratified mean, which is smaller: taking off more would make an edit look fairer than it is.

    Args:
        samples: Labels of two audited images at least in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        matrix: The judge's confusions.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
    """
    inverse = _inverse(matrix)
    found = samples.mean @ inverse.T
    of_labels = np.array([np.trace(inverse @ _multinomial(row) @ inverse.T) for row in matrix.rates])
    from_matrix = nearest_distribution(found) ** 2 @ (of_labels / np.maximum(matrix.labelled - 1, 1))
    from_sample = np.einsum("ij,pjk,ik->p", inverse, samples.covariance, inverse)
    return np.asarray(((found - np.asarray(targets)) ** 2).sum(axis=1) - from_sample - from_matrix)


def corrected_discrepancy(
    counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95
) -> Estimate:
    """Return the corrected squared fairness discrepancy ‖π − r‖², debiased, with an interval that is valid at parity.

    The value is that of :func:`corrected_squared`, and not cut at 0 either. The interval is that of
    :func:`corrected_discrepancies`.

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        target: The distribution that counts as fair, r of shape (K,).
        matrix: The judge's confusions.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are fewer than 2 images, or groups or target do not fit, or the confidence is no share.
    """
    samples, goal = _one_sample(counts, target, matrix)
    return corrected_discrepancies(samples, goal, matrix, confidence)[0]


def corrected_discrepancies(
    samples: Samples, targets: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95
) -> tuple[Estimate, ...]:
    """Return the corrected squared discrepancy of each sample with an interval that is valid at parity.

    Two groups: the distance is √2·|π₁ − r₁|, and the interval of the share folds into one of the distance. More groups:
    the test of ``audit.measure.discrepancy`` turned round, with T = ‖Ap̂ − r‖² distributed as audits are in which the
    judge's rates are unknown but for their labels (:func:`corrected_moments`). Strata enter the value; the interval
    takes the images as drawn alike, and is then on the wide side.

    Args:
        samples: Labels of two audited images at least in every sample.
        targets: The distributions that count as fair, shape (K,) or (P, K).
        matrix: The judge's confusions.
        confidence: Coverage of each interval, in (0, 1).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If the confidence is no share.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}; 0.95 is usual")
    goals = np.broadcast_to(np.asarray(targets, dtype=np.float64), samples.mean.shape)
    values = corrected_squares(samples, goals, matrix)
    if goals.shape[1] == 2:
        shares = corrected_shares(samples.counts, matrix, confidence)
        low, high = shares.low[:, 0] - goals[:, 0], shares.high[:, 0] - goals[:, 0]
        nearest = np.maximum(0.0, np.maximum(low, -high))
        ends = np.stack([nearest, np.maximum(high, -low)], axis=1) * np.sqrt(2)
    else:
        starts = range(0, len(goals), BATCH)
        batches = (np.arange(start, min(start + BATCH, len(goals))) for start in starts)
        ends = np.concatenate([_intervals(samples.at(b), goals[b], matrix, confidence) for b in batches])
    rows = zip(values.tolist(), (ends**2).tolist(), samples.n.tolist(), strict=True)
    return tuple(Estimate(value=value, low=low, high=high, n=int(n)) for value, (low, high), n in rows)


def corrected_moments(
    distributions: Floats, targets: Floats, n: Floats | float, matrix: ConfusionMatrix
) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard deviation and skewness of T = ‖Ap̂ − r‖² for n images of true shares (…, K).

    A label is the point x = A·(one-hot), so that T is the squared distance of a mean of n points; v = π − r is its mean
    distance, and z = x − π. The mean varies by C = (S − D)/n + D, of which S is the covariance of one x and D =
    Σ_h π_h² A Σ(M̃_h)Aᵀ/(ñ_h + 1) comes from the rates, whose rows are Dirichlet given their labels:
    E T = ‖v‖² + tr(C), Var T = 4vᵀCv + 4E[(v·z)‖z‖²]/n² + (Var(‖z‖²) − 2tr(S²))/n³ + 2tr(C²),
    and the third cumulant is 8κ₃(v·x̄) + 24vᵀC²v + 8tr(C³), κ₃ that of the images and of the Dirichlet rows. With a
    matrix without errors these are ``squared_distance_moments``. The ``PSEUDO_LABELS`` enter D but not the mean, lest
    their pull towards even rates shift it.

    Args:
        distributions: True shares π, shape (…, K).
        targets: The distributions that count as fair; they broadcast against ``distributions``.
        n: Audited images, of the shape of ``distributions`` without its last axis, or broadcasting against it.
        matrix: The judge's confusions.
    """
    points, (rates, labelled) = _inverse(matrix).T, _smoothed(matrix)  # row j is the point of label j
    q, v = distributions @ matrix.rates, distributions - targets
    along = v @ points.T - (v * distributions).sum(axis=-1, keepdims=True)  # v·z of each label
    offsets = points - distributions[..., None, :]
    length = (offsets**2).sum(axis=-1)
    spread = np.swapaxes(offsets, -1, -2) @ (q[..., None] * offsets)
    of_rates = np.stack([points.T @ _multinomial(row) @ points for row in rates]) / (labelled + 1)[:, None, None]
    drift = np.einsum("...h,hij->...ij", distributions**2, of_rates)
    size = np.asarray(n, dtype=np.float64)
    total = (spread - drift) / size[..., None, None] + drift
    squared = total @ total
    leaned = (total @ v[..., None])[..., 0]
    mean = (v**2).sum(axis=-1) + np.trace(total, axis1=-2, axis2=-1)
    variance = (
        4 * (v * leaned).sum(axis=-1)
        + 4 * (q * along * length).sum(axis=-1) / size**2
        + ((q * length**2).sum(axis=-1) - (q * length).sum(axis=-1) ** 2 - 2 * (spread**2).sum(axis=(-1, -2))) / size**3
        + 2 * np.trace(squared, axis1=-2, axis2=-1)
    )
    third = (
        8 * ((q * along**3).sum(axis=-1) / size**2 + _rates_skew(distributions, v @ points.T, rates, labelled))
        + 24 * (leaned**2).sum(axis=-1)
        + 8 * (squared * total).sum(axis=(-1, -2))
    )
    deviation = np.sqrt(np.maximum(variance, 1e-24))
    return mean, deviation, third / deviation**3


def _rates_skew(distributions: Floats, heights: Floats, rates: Floats, labelled: Floats) -> Floats:
    """Return the third cumulant that Dirichlet rows bring into the mean of ``heights`` (…, K), one for each label."""
    centred = heights[..., None, :] - (heights @ rates.T)[..., None]
    thirds = 2 * (rates * centred**3).sum(axis=-1) / ((labelled + 1) * (labelled + 2))
    return np.asarray((distributions**3 * thirds).sum(axis=-1))


def _intervals(samples: Samples, goals: Floats, matrix: ConfusionMatrix, confidence: float) -> Floats:
    """Return the intervals of the distance ‖π − r‖, shape (P, 2)."""
    found = samples.mean @ _inverse(matrix).T
    shares = nearest_distribution(found)
    observed, n = ((found - goals) ** 2).sum(axis=1), samples.n
    floors, _, _ = corrected_moments(goals, goals, n, matrix)
    spread, _, _ = corrected_moments(shares, shares, n, matrix)
    as_labels = np.maximum(1 - (shares**2).sum(axis=1), 1 / n) / spread
    path = Path.through(shares, goals, np.minimum(n, as_labels))

    def weigh(distributions: Floats, rows: Ints) -> Tails:
        images = n[rows, None]
        moments = corrected_moments(distributions, goals[rows, None], images, matrix)
        return moment_tails(moments, observed[rows, None], floors[rows, None], images)

    return inverted(path, weigh, 1 - confidence, np.full(len(goals), np.nan))


def _perceived(values: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (len(matrix.groups),):
        raise ValueError(f"expected one value for each of {', '.join(matrix.groups)}, found shape {found.shape}")
    if not (np.isfinite(found) & (found >= 0)).all() or not found.sum():
        raise ValueError(f"expected counts or shares of at least 1 image, none negative; found {found.tolist()}")
    return found


def _counted(values: ArrayLike, matrix: ConfusionMatrix) -> Floats:
    found = _perceived(values, matrix)
    if (found != np.floor(found)).any():
        raise ValueError(f"an interval needs whole counts of images, found {found.tolist()}; give counts, not shares")
    return found


def _one_sample(counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix) -> tuple[Samples, Floats]:
    perceived, goal = _counted(counts, matrix), _distribution(target)
    if goal.size != perceived.size:
        raise ValueError(f"expected a target over {perceived.size} groups, found {goal.size}")
    if perceived.sum() < 2:
        raise ValueError(f"a debiased discrepancy needs at least 2 images, got {perceived.sum():g}")
    return Samples.of_counts(perceived[None]), goal


def _inverse(matrix: ConfusionMatrix) -> Floats:
    """Return A = (Mᵀ)⁻¹, if it can be trusted."""
    if not matrix.correctable:
        condition = matrix.condition_number
        raise IllConditioned(
            f"expected a confusion matrix with a condition number up to {CONDITION_LIMIT:g}, found {condition:.3g}; "
            f"the judge cannot tell {', '.join(matrix.groups)} apart well enough: merge groups, or use another judge"
        )
    return np.asarray(np.linalg.inv(matrix.rates.T), dtype=np.float64)


def _smoothed(matrix: ConfusionMatrix) -> tuple[Floats, Floats]:
    """Return M̃ (K, K) and ñ (K,): the rates and labels with ``PSEUDO_LABELS`` added to each row."""
    counts = np.asarray(matrix.counts, dtype=np.float64) + PSEUDO_LABELS / len(matrix.groups)
    labelled = counts.sum(axis=1)
    return counts / labelled[:, None], labelled


def _multinomial(q: Floats) -> Floats:
    """Return diag(q) − qqᵀ, the covariance of a single draw."""
    return np.diag(q) - np.outer(q, q)


def _spread_along(direction: Floats, q: Floats) -> Floats:
    """Return aᵀΣ(q)a of a direction a (K,) for distributions q (…, K)."""
    return np.asarray(q @ direction**2 - (q @ direction) ** 2)
