"""Group shares corrected for the judge's errors, with intervals at any confidence level.

Legend: P samples, K groups; M (K, K), M_gh = P(perceived h | true g); p perceived and π true shares; A = (Mᵀ)⁻¹.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audit.measure.inference.simplex import Floats, nearest_distribution
from audit.measure.shares.classifier_error import ConfusionMatrix, checked_counts, inverse_of
from audit.measure.shares.linear import reach
from audit.records.estimates import Estimate

HALVINGS = 45
"""Steps of a bisection; the precision of an end is then far below the reported digits."""

LEAST_P = 1e-30
"""Smallest p-value in the search."""


@dataclass(frozen=True)
class CorrectedShares:
    """Corrected shares of P samples with their intervals, each of shape (P, K)."""

    value: Floats
    low: Floats
    high: Floats


def corrected_interval(counts: ArrayLike, matrix: ConfusionMatrix, confidence: float = 0.95) -> tuple[Estimate, ...]:
    """Return each group's corrected share with an interval that includes the errors of the sample and of the matrix.

    See :func:`corrected_shares`.

    Args:
        counts: Audited images by perceived group, whole numbers of shape (K,).
        matrix: The judge's confusion matrix.
        confidence: Confidence level of each interval, in (0, 1).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
        ValueError: If there are no images, or the groups do not match.
    """
    perceived = checked_counts(counts, matrix)
    found, n = corrected_shares(perceived[None], matrix, confidence), int(perceived.sum())
    ends = (found.value[0].tolist(), found.low[0].tolist(), found.high[0].tolist())
    return tuple(Estimate(value, low, high, n) for value, low, high in zip(*ends, strict=True))


def corrected_shares(
    counts: ArrayLike,
    matrix: ConfusionMatrix,
    confidence: float = 0.95,
    unknown: ArrayLike | None = None,
) -> CorrectedShares:
    """Return each group's corrected share of every sample, with an interval at any confidence level.

    For a group's row a of A and true shares π, a·p − Σ_h π_h a·M_h is 0 in expectation, and its estimate is the
    corrected share minus π_g. An end of the interval is the π_g at which this difference reaches its limit. The limits
    of a·p and of every a·M_h (:func:`audit.measure.shares.linear.reach`) are combined by square-and-add with the
    weights 1 and π_h² (method of variance estimates recovery; Zou and Donner 2008, Statistics in Medicine 27:1693).
    With two groups this is Fieller's (1954) construction with exact limits instead of normal ones, which matters most
    for few labels, rare groups and high confidence. The ratios of the other groups' shares are those of the sample.

    Unclassified images can be of any group. They count as a separate label with weight 0 for the lower end and 1 for
    the upper end, so that the ends are those of the group's share of *all* images.

    Args:
        counts: Audited images by perceived group, shape (P, K), at least one image of any kind in every row.
        matrix: The judge's confusion matrix.
        confidence: Confidence level of each interval, in (0, 1).
        unknown: Images without a perceived group, shape (P,); None if there are none.

    Returns:
        The corrected shares of the classified images, and intervals that contain them.

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
    """
    perceived = np.asarray(counts, dtype=np.float64)
    missing = np.zeros(len(perceived)) if unknown is None else np.asarray(unknown, dtype=np.float64)
    groups = range(perceived.shape[1])
    ends = [corrected_share_ends(group, perceived, missing, matrix, confidence) for group in groups]
    value = true_shares(perceived, matrix)
    low, high = (np.stack(side, axis=1) for side in zip(*ends, strict=True))
    return CorrectedShares(value, np.minimum(low, value), np.maximum(high, value))


def true_shares(counts: Floats, matrix: ConfusionMatrix) -> Floats:
    """Return the corrected shares of the classified images, projected to the simplex, shape (P, K).

    The shares of a sample without classified images have no meaning.
    """
    return nearest_distribution(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) @ inverse_of(matrix).T)


def corrected_share_ends(
    group: int, counts: Floats, unknown: Floats, matrix: ConfusionMatrix, confidence: float
) -> tuple[Floats, Floats]:
    """Return the ends of ``corrected_shares`` for one group's share of all images, both of shape (P,)."""
    below, above = (_ShareTest.of(group, counts, unknown, matrix, up=up) for up in (False, True))
    tail = (1 - confidence) / 2
    return below.end(tail), above.end(tail)


def corrected_p_values(counts: ArrayLike, targets: ArrayLike, matrix: ConfusionMatrix, unknown: ArrayLike) -> Floats:
    """Return the p-value of the hypothesis that two groups are on target in all images, shape (P,).

    It is the level at which the interval of the first group's share starts to exclude the target. With unclassified
    images it is the largest over all their possible groups.

    Args:
        counts: Audited images by perceived group, shape (P, 2), at least one image of any kind in every row.
        targets: The distributions that count as fair, shape (P, 2).
        matrix: The judge's confusion matrix.
        unknown: Images without a perceived group, shape (P,).

    Raises:
        IllConditioned: If M's condition number is above ``CONDITION_LIMIT``.
    """
    perceived, missing = np.asarray(counts, dtype=np.float64), np.asarray(unknown, dtype=np.float64)
    goals = np.asarray(targets, dtype=np.float64)[:, 0]
    sides = [_ShareTest.of(0, perceived, missing, matrix, up=up).p_values(goals) for up in (False, True)]
    return np.asarray(np.minimum(1.0, 2 * np.minimum(*sides)))


@dataclass(frozen=True)
class _ShareTest:
    """One-sided tests of a group's share of all images, for P samples.

    Attributes:
        sign: 1 if shares above the estimate are tested (and every unknown image is of the group), −1 for below.
        found: Estimated share, clipped to [0, 1], shape (P,). If it is outside, because no true shares explain the
            counts, distances are measured from the limit.
        labels: Images by label, the unknown ones last, shape (P, K + 1).
        weights: Weight of each label in the share, shape (K + 1,).
        matrix: Labelled images by true and perceived group, shape (K, K).
        group: Index of the group.
        offset: Share of the unknown images that are counted in the group, shape (P,).
        known: Share of the classified images, shape (P,).
        others: Relative shares of the other groups, shape (P, K), 0 for the group itself.
    """

    sign: int
    found: Floats
    labels: Floats
    weights: Floats
    matrix: Floats
    group: int
    offset: Floats
    known: Floats
    others: Floats

    @classmethod
    def of(cls, group: int, counts: Floats, unknown: Floats, matrix: ConfusionMatrix, *, up: bool) -> _ShareTest:
        """Create the tests for the share of one group."""
        inverse, labels = inverse_of(matrix), np.column_stack([counts, unknown])
        n = labels.sum(axis=1)
        weights = np.append(inverse[group], float(up))
        known = counts.sum(axis=1)
        # One pseudo-image is spread over the other groups, because an unobserved group is not impossible.
        masses = known[:, None] * true_shares(counts, matrix)
        others = (masses + 1 / (masses.shape[1] - 1)) * (np.arange(masses.shape[1]) != group)
        return cls(
            sign=1 if up else -1,
            found=np.clip(labels @ weights / n, 0.0, 1.0),
            labels=labels,
            weights=weights,
            matrix=np.asarray(matrix.counts, dtype=np.float64),
            group=group,
            offset=unknown / n * float(up),
            known=known / n,
            others=others / others.sum(axis=1, keepdims=True),
        )

    def end(self, tail: float) -> Floats:
        """Return the share farthest from the estimate that is not rejected at level ``tail``, shape (P,)."""
        border = np.full(len(self.found), float(self.sign > 0))
        reaches = self._reaches(np.full(len(self.found), tail))
        inside, outside = self.found.copy(), border.copy()
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            rejected = self._excess(middle, reaches) > 0
            inside, outside = np.where(rejected, inside, middle), np.where(rejected, middle, outside)
        # The excess is concave in the share: if the limit itself is not rejected, the interval extends to it (Fieller's
        # unbounded case).
        return np.where(self._excess(border, reaches) > 0, outside, border)

    def p_values(self, shares: Floats) -> Floats:
        """Return the level from which each of these shares (P,) is rejected, shape (P,); 1 on the other side."""
        border = np.full(len(self.found), float(self.sign > 0))
        never, always = np.full(len(shares), math.log(LEAST_P)), np.zeros(len(shares))
        for _ in range(HALVINGS):
            middle = (never + always) / 2
            reaches = self._reaches(np.exp(middle))
            rejected = (self._excess(shares, reaches) > 0) & (self._excess(border, reaches) > 0)
            never, always = np.where(rejected, never, middle), np.where(rejected, middle, always)
        return np.where(self.sign * (shares - self.found) > 0, np.exp(always), 1.0)

    def _reaches(self, tails: Floats) -> tuple[Floats, Floats]:
        """Return the largest errors of the sample (P,) and of every row of the matrix (P, K) at these levels (P,)."""
        up = self.sign > 0
        of_sample = reach(self.labels, self.weights, tails, up=up)
        distinct, place = np.unique(tails, return_inverse=True)  # usually the same level for all samples
        rows = np.broadcast_to(self.matrix, (len(distinct), *self.matrix.shape))
        return of_sample, reach(rows, self.weights[:-1], distinct[:, None], up=not up)[place]

    def _excess(self, shares: Floats, reaches: tuple[Floats, Floats]) -> Floats:
        """Return the difference of the estimate from these shares (P,) minus the largest difference by chance, (P,)."""
        of_sample, of_rates = reaches
        own = np.clip(shares - self.offset, 0.0, self.known)
        masses = (self.known - own)[:, None] * self.others
        masses[:, self.group] = own
        strayed = np.sqrt(of_sample**2 + ((masses * of_rates) ** 2).sum(axis=1))
        return np.asarray(self.sign * (shares - self.found) - strayed)
