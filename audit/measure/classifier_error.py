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

from audit.measure.fairness import _distribution
from audit.measure.intervals import wilson
from audit.measure.simplex import Floats, nearest_distribution
from audit.records import Estimate

Ints = NDArray[np.int64]

CONDITION_LIMIT = 10.0
"""Largest ratio of M's singular values that is corrected: at most ten times the perceived shares' error, as if there
were a hundredth of the images. With two groups of equal accuracy that is an accuracy of 0.55."""

PSEUDO_LABELS = 2.0
"""Labelled images added to each row of M, spread evenly, wherever its error is needed: a judge without a mistake in 200
labels is not one without mistakes. Two are those of Agresti & Coull (1998), as Lang & Reiczigel (2014) use them."""

DRAWS = 4_000
"""Simulated audits at each distance of an interval of the discrepancy: with another seed its ends move by about 1 % of
its width."""

DISTANCES = 13
"""Distances at which the interval of the discrepancy is tried; between them it is interpolated."""

LEAST_TAIL = 0.0025
"""Smallest tail that so many simulated audits tell: ten of them."""


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
        """Share of labelled images whose group was perceived, over all groups together, Wilson's interval."""
        counts = np.asarray(self.counts, dtype=np.int64)
        return wilson(int(counts.trace()), int(counts.sum()))

    @property
    def recall(self) -> dict[str, Estimate]:
        """For each true group, the share of its images that was perceived as it, Wilson's interval."""
        labelled = self.labelled.tolist()
        return {group: wilson(self.counts[i][i], labelled[i]) for i, group in enumerate(self.groups)}

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
    n, size = int(perceived.sum()), perceived.size
    corrected = correct(perceived, matrix)
    z = float(ndtri((1 + confidence) / 2))
    rates, labelled = _smoothed(matrix)
    inverse = np.linalg.inv(rates.T)
    estimates = []
    for group, share in enumerate(corrected.tolist()):
        pseudo = np.full(size, z**2 / 2 / (size - 1))
        pseudo[group] = z**2 / 2
        seen = (perceived + pseudo) / (n + z**2)
        centre = inverse @ seen
        covariance = _covariance(seen, np.maximum(centre, 0.0), rates, n + z**2, labelled)
        half_width = z * float(np.sqrt(inverse[group] @ covariance @ inverse[group]))
        # Counts that no truth explains put the middle outside: there the half-width counts from the border.
        middle = min(1.0, max(0.0, float(centre[group])))
        low, high = max(0.0, middle - half_width), min(1.0, middle + half_width)
        estimates.append(Estimate(value=share, low=min(low, share), high=max(high, share), n=n))
    return tuple(estimates)


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
    perceived, goal = _counted(counts, matrix), _distribution(target)
    n = int(perceived.sum())
    if goal.size != perceived.size:
        raise ValueError(f"expected a target over {perceived.size} groups, found {goal.size}")
    if n < 2:
        raise ValueError(f"a debiased discrepancy needs at least 2 images, got {n}")
    inverse, seen = _inverse(matrix), perceived / n
    found = inverse @ seen
    labels = np.maximum(matrix.labelled - 1, 1)
    covariance = _covariance(seen, nearest_distribution(found), matrix.rates, n - 1, labels)
    return float(((found - goal) ** 2).sum() - np.trace(inverse @ covariance @ inverse.T))


def corrected_discrepancy(
    counts: ArrayLike, target: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the corrected squared fairness discrepancy ‖π − r‖², debiased, with an interval that is valid at parity.

    The value is that of :func:`corrected_squared`, and not cut at 0 either.

    The interval inverts a test. At distances δ along the way from r through π̂ (and on along the simplex's border),
    audits are simulated: a matrix is drawn given its labels, n images perceived through it, corrected by M̂. It holds
    every δ² at which the distance found lies in neither tail of (1 − confidence)/2, and its ends in [0, max ‖π − r‖²].

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        target: The distribution that counts as fair, r of shape (K,).
        matrix: The judge's confusions.
        confidence: Coverage of the interval, in (0, 0.995]; the simulation is too small for more.
        seed: Of the simulated audits.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are fewer than 2 images, or groups or target do not fit.
    """
    tail = (1 - confidence) / 2
    if not LEAST_TAIL - 1e-12 <= tail < 0.5:
        raise ValueError(f"expected a confidence in (0, {1 - 2 * LEAST_TAIL:g}], found {confidence:g}")
    value = corrected_squared(counts, target, matrix)
    perceived, goal, inverse = _counted(counts, matrix), _distribution(target), _inverse(matrix)
    n = int(perceived.sum())
    found = inverse @ (perceived / n)
    shares = nearest_distribution(found)
    distance = float(np.linalg.norm(found - goal))
    rates, labelled = _smoothed(matrix)
    spread = float(np.sqrt(np.trace(inverse @ _covariance(rates.T @ shares, shares, rates, n, labelled) @ inverse.T)))
    truths = _truths(goal, shares, max(0.0, distance - 4 * spread), distance + 4 * spread)
    simulated = np.linalg.norm(_simulated(truths, matrix, n, np.random.default_rng(seed)) @ inverse.T - goal, axis=-1)
    low, high = _accepted(np.linalg.norm(truths - goal, axis=1), simulated, distance, tail)
    return Estimate(value=value, low=low**2, high=high**2, n=n)


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


def _covariance(seen: Floats, shares: Floats, rates: Floats, n: float, labelled: Floats | Ints) -> Floats:
    """Return the covariance (K, K) of p̂ − M̂ᵀπ: of the sample at p, and of each row of M weighted by its share."""
    of_rows = np.stack([_multinomial(row) for row in rates])
    weights = shares**2 / labelled
    return np.asarray(_multinomial(seen) / n + np.tensordot(weights, of_rows, axes=1))


def _multinomial(q: Floats) -> Floats:
    """Return diag(q) − qqᵀ, the covariance of a single draw."""
    return np.diag(q) - np.outer(q, q)


def _truths(goal: Floats, shares: Floats, nearest: float, farthest: float) -> Floats:
    """Return distributions from ``goal`` through ``shares`` and on, shape (DISTANCES, K)."""
    direction = shares - goal
    if np.linalg.norm(direction) < 1e-9:  # nothing was found, so that no direction is better than another
        direction = np.eye(goal.size)[goal.argmin()] - goal
    steps = np.linspace(nearest, farthest, DISTANCES)
    return nearest_distribution(goal + steps[:, None] * direction / np.linalg.norm(direction))


def _simulated(truths: Floats, matrix: ConfusionMatrix, n: int, rng: np.random.Generator) -> Floats:
    """Return the perceived shares of simulated audits, shape (DRAWS, DISTANCES, K)."""
    posterior = np.asarray(matrix.counts, dtype=np.float64) + PSEUDO_LABELS / len(matrix.groups)
    weights = rng.standard_gamma(posterior, size=(DRAWS, *posterior.shape))
    rates = weights / weights.sum(axis=-1, keepdims=True)
    expected = truths @ rates  # row t of batch b is Mᵀπ_t
    return rng.multinomial(n, expected / expected.sum(axis=-1, keepdims=True)) / n


def _accepted(distances: Floats, simulated: Floats, found: float, tail: float) -> tuple[float, float]:
    """Return the least and the greatest of ``distances`` (T,) at which ``found`` is in no tail of ``simulated`` (…, T).

    Nothing is nearer than parity, so a result that is rarely so near even there was luck: for the upper end it counts
    no less than the median of a fair model's. Otherwise luck would end in an interval without width.
    """
    at_least = (simulated >= found - 1e-12).mean(axis=0)
    at_most = (simulated <= max(found, float(np.median(simulated[:, 0]))) + 1e-12).mean(axis=0)
    low = _crossing(distances, at_least, tail)
    high = _crossing(distances[::-1], at_most[::-1], tail)
    return min(low, high), max(low, high)


def _crossing(distances: Floats, probabilities: Floats, tail: float) -> float:
    """Return where ``probabilities``, which rise along ``distances``, first reach ``tail``; the last one if never."""
    reached = np.flatnonzero(probabilities >= tail)
    if not reached.size:
        return float(distances[-1])
    after = int(reached[0])
    if after == 0:
        return float(distances[0])
    # Probabilities are nearly those of a normal distribution around the distance, hence straight in its quantiles.
    ends = ndtri(np.clip(probabilities[after - 1 : after + 1], 0.5 / DRAWS, 1 - 0.5 / DRAWS))
    return float(np.interp(ndtri(tail), ends, distances[after - 1 : after + 1]))
