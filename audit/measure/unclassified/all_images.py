"""Intervals of figures over all images of a sample, including those without a perceived group.

The groups of unclassified images are not known, so a figure of all images is only known within bounds (Manski 1989):
the best and the worst case over their possible groups. Both cases are estimated from the same images, so they have a
sampling error like any other figure (Imbens and Manski 2004, Econometrica 72). An interval here extends from the lower
end of the best case's interval to the upper end of the worst case's interval. For any groups of the unclassified
images, each end has an error rate of at most (1 − confidence)/2. Without unclassified images and known errors of the
judge, every interval is the reported interval of the figure, except for the lower end of a discrepancy close to its
target (``each_tail`` of :func:`audit.measure.discrepancy.estimate.discrepancy_intervals`).

If the judge's confusion matrix is given, the classified images are corrected for its errors. Unclassified images can
still be of any true group.

Legend: P samples, K groups; N images of a sample, of which c are counted by group and u are unknown; r the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.changes import squared_errors
from audit.measure.discrepancy.corrected import corrected_distances, nearest_completions, parity_tails, rates_bias
from audit.measure.discrepancy.estimate import debiased_squares, discrepancy_intervals, largest_squares, parity_p_values
from audit.measure.discrepancy.group_measures import Measure, ShareRegion, share_region
from audit.measure.discrepancy.samples import Samples
from audit.measure.prompts.over_prompts import mean_of_these_prompts
from audit.measure.prompts.stratified import stratified_share
from audit.measure.shares.classifier_error import ConfusionMatrix, inverse_of
from audit.measure.shares.corrected import corrected_p_values, corrected_share_ends, corrected_shares, true_shares
from audit.measure.unclassified.bounds import nearest_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class AllImages:
    """The images of P samples, with or without a perceived group.

    Attributes:
        codes: Index of each image's group, −1 if it has none, shape (n,).
        owners: The sample of each image, in [0, P), shape (n,); every sample has at least one image.
        targets: The distributions that count as fair, shape (P, K).
        strata: Code of each image's stratum if their numbers were fixed, as in ``Samples.of``.
        matrix: The judge's confusion matrix for a correction of its errors; None for figures as perceived.
        prompts: Index of each image's prompt if a single sample pools several prompts, shape (n,).
    """

    codes: Ints
    owners: Ints
    targets: Floats
    strata: Ints | None = None
    matrix: ConfusionMatrix | None = None
    prompts: Ints | None = None

    @property
    def size(self) -> int:
        """Number of samples P."""
        return len(self.targets)

    @property
    def groups(self) -> int:
        """Number of groups K."""
        return int(self.targets.shape[1])

    @cached_property
    def counts(self) -> Ints:
        """Images by perceived group, c of shape (P, K)."""
        return self._table[:, :-1]

    @cached_property
    def unknown(self) -> Ints:
        """Images without a perceived group, u of shape (P,)."""
        return self._table[:, -1]

    @cached_property
    def _table(self) -> Ints:
        side = self.groups + 1
        cells = self.owners * side + self.codes % side  # code −1 is the last column
        return np.bincount(cells, minlength=self.size * side).reshape(self.size, side)

    def _by_prompt(self) -> tuple[Ints, Ints]:
        """Return ``counts`` and ``unknown`` for each prompt of a pool, or for the single sample."""
        if self.prompts is None:
            return self.counts, self.unknown
        size = int(self.prompts.max()) + 1
        each = replace(self, owners=self.prompts, targets=np.repeat(self.targets, size, axis=0), prompts=None)
        return each.counts, each.unknown

    def classified(self, least: int = 1) -> AllImages:
        """Return only the classified images, of the samples with at least ``least`` of them."""
        samples = np.flatnonzero(self.counts.sum(axis=1) >= least)
        kept = (self.codes >= 0) & np.isin(self.owners, samples)
        return replace(
            self,
            codes=self.codes[kept],
            owners=np.searchsorted(samples, self.owners[kept]),
            targets=self.targets[samples],
            strata=None if self.strata is None else self.strata[kept],
            prompts=None if self.prompts is None else self.prompts[kept],
        )

    def shares(self) -> Floats:
        """Return each group's share of the classified images, shape (P, K); every sample must have at least one."""
        if self.matrix is not None:
            return true_shares(self.counts.astype(np.float64), self.matrix)
        return np.asarray(self.counts / self.counts.sum(axis=1, keepdims=True))

    def share_interval(self, group: int, confidence: float) -> Interval:
        """Return the interval of a group's share of all images, for a single sample.

        One extreme case counts every unknown image in the group, the other none: both are shares of N images.
        """
        if self.matrix is not None:
            return _corrected_share(tuple(self._table[0].tolist()), group, self.matrix, confidence)
        counts, unknown = self._by_prompt()
        images = counts.sum(axis=1) + unknown
        best, worst = counts[:, group], counts[:, group] + unknown
        return stratified_share(best, images, confidence).low, stratified_share(worst, images, confidence).high

    def discrepancy_interval(self, confidence: float) -> Interval:
        """Return the interval of the fairness discrepancy of all images, for a single sample."""
        table, target = tuple(self._table[0].tolist()), tuple(self.targets[0].tolist())
        return _discrepancy_interval(table, target, self.matrix, confidence)

    def measure_interval(self, measure: Measure, confidence: float) -> Interval:
        """Return the interval of a measure of all images, for a single sample: its range over a region of shares."""
        target = self.targets[0]
        values = measure.function(self._region(confidence).extremes(target), target)
        return float(values.min()), float(values.max())

    def discrepancy_intervals(self, confidence: float) -> Floats:
        """Return the interval of the fairness discrepancy of all images of each sample, shape (P, 2).

        The discrepancy is convex, so in the worst case all unknown images are in one group: the upper end is the
        largest over these K completions, and never below that of the worst one. The lower end is that of the completion
        nearest to the target. Each end has an error rate of at most (1 − confidence)/2, also close to the target
        (``each_tail``).

        Args:
            confidence: Confidence level of each interval, in (0, 1).
        """
        return _discrepancy_intervals((self.counts, self.unknown), self.targets, self.matrix, confidence)

    def squares(self) -> Floats:
        """Return the debiased squared discrepancy of each sample, if all its images are classified, shape (P,)."""
        return self._squares(self._completed(np.zeros(self.counts.shape)))

    def mean_square_interval(self, confidence: float) -> Interval:
        """Return the interval of the mean over these samples of the squared discrepancy of all their images.

        Images of different samples have independent errors, so the intervals of the samples are combined by
        square-and-add (:func:`audit.measure.prompts.over_prompts.mean_of_these_prompts`). All samples have the same
        confusion matrix, so the contributions of its error to their intervals are averaged, as for fully correlated
        errors.

        Args:
            confidence: Confidence level of the interval, in (0, 1).
        """
        every = self.discrepancy_intervals(confidence) ** 2
        exact = every
        if self.matrix is not None:
            exact = replace(self, matrix=self.matrix.exact).discrepancy_intervals(confidence) ** 2
        (nearest, best), (farthest, worst) = self._nearest(), self._farthest()
        of_best = mean_of_these_prompts(nearest, exact, confidence, squared_errors(best, self.targets), best.n - 1)
        of_worst = mean_of_these_prompts(farthest, exact, confidence, squared_errors(worst, self.targets), worst.n - 1)
        below = _by_matrix(nearest - every[:, 0], nearest - exact[:, 0])
        above = _by_matrix(every[:, 1] - farthest, exact[:, 1] - farthest)
        low = of_best.value - float(np.hypot(of_best.value - of_best.low, below))
        high = of_worst.value + float(np.hypot(of_worst.high - of_worst.value, above))
        return low, min(high, float(largest_squares(self.targets).mean()))

    def _region(self, confidence: float) -> ShareRegion:
        """Return simultaneous bounds of the shares of all groups among all images, for a single sample."""
        if self.matrix is None:
            counts, unknown = self._by_prompt()
            return share_region(counts, confidence, unknown)
        each = 1 - (1 - confidence) / (self.groups if self.groups > 2 else 1)
        found = corrected_shares(self.counts, self.matrix, each, self.unknown)
        return ShareRegion(low=found.low[0], high=found.high[0])

    def _nearest(self) -> tuple[Floats, Samples]:
        """Return the debiased squares of the completions nearest to the target, and their images."""
        counts, unknown = self.counts.astype(np.float64), self.unknown.astype(np.float64)
        samples = self._completed(nearest_completions(counts, self.targets, self.matrix, unknown))
        return self._squares(samples), samples

    def _farthest(self) -> tuple[Floats, Samples]:
        """Return the debiased squares of the completions farthest from the target, and their images."""
        corners = np.eye(self.groups)
        if not self.unknown.any():
            corners = corners[:1]
        completions = [self._completed(np.broadcast_to(corner, self.counts.shape)) for corner in corners]
        squares = np.stack([self._squares(samples) for samples in completions])
        farthest = squares.argmax(axis=0)
        given = corners[farthest]
        return squares.max(axis=0), self._completed(given)

    def _completed(self, given: Floats) -> Samples:
        """Return the samples with their unknown images assigned to groups in these shares (P, K).

        With a correction for the judge's errors, an image's row is the point A·(one-hot), whose mean is the corrected
        shares.
        """
        points = np.eye(self.groups) if self.matrix is None else inverse_of(self.matrix).T
        rows = np.where((self.codes >= 0)[:, None], points[self.codes], given[self.owners])
        return Samples.of(rows, self.owners, self.size, self.strata)

    def _squares(self, samples: Samples) -> Floats:
        """Return the debiased squares of completed samples, shape (P,)."""
        squares = debiased_squares(samples, self.targets)
        if self.matrix is None:
            return squares
        counts = self.counts.astype(np.float64)
        masses = counts.sum(axis=1, keepdims=True) / samples.n[:, None] * true_shares(counts, self.matrix)
        return np.asarray(squares - masses**2 @ rates_bias(self.matrix))


# Many prompts of an audit have equal counts, and gates use the same few confidence levels repeatedly.
@lru_cache(maxsize=65_536)
def _corrected_share(table: tuple[int, ...], group: int, matrix: ConfusionMatrix, confidence: float) -> Interval:
    rows = np.array([table], dtype=np.float64)
    low, high = corrected_share_ends(group, rows[:, :-1], rows[:, -1], matrix, confidence)
    return float(low[0]), float(high[0])


@lru_cache(maxsize=65_536)
def _discrepancy_interval(
    table: tuple[int, ...], target: tuple[float, ...], matrix: ConfusionMatrix | None, confidence: float
) -> Interval:
    row, goal = np.array([table]), np.array([target])
    found = _discrepancy_intervals((row[:, :-1], row[:, -1]), goal, matrix, confidence)
    return float(found[0, 0]), float(found[0, 1])


def _discrepancy_intervals(
    images: tuple[Ints, Ints], targets: Floats, matrix: ConfusionMatrix | None, confidence: float
) -> Floats:
    counts, unknown = images
    if matrix is not None:
        return corrected_distances(counts, targets, matrix, confidence, unknown, each_tail=True)
    nearest = nearest_counts(counts, unknown, targets)
    ends = discrepancy_intervals(Samples.of_counts(nearest), targets, confidence, each_tail=True)
    open_rows = np.flatnonzero(unknown)
    for corner in np.eye(counts.shape[1], dtype=np.int64):
        if open_rows.size:
            farthest = Samples.of_counts((counts + unknown[:, None] * corner)[open_rows])
            found = discrepancy_intervals(farthest, targets[open_rows], confidence, each_tail=True)[:, 1]
            ends[open_rows, 1] = np.maximum(ends[open_rows, 1], found)
    return ends


def departure_p_values(counts: Ints, unknown: Ints, targets: Floats, matrix: ConfusionMatrix | None) -> Floats:
    """Return the p-value of the hypothesis that all images are drawn from the target, shape (P,).

    It is the largest over all possible groups of the unknown images: that of the completion nearest to the target.

    Args:
        counts: Images by perceived group, shape (P, K).
        unknown: Images without a perceived group, shape (P,); every sample has at least one image.
        targets: The distributions that count as fair, shape (P, K).
        matrix: The judge's confusion matrix for a correction of its errors, or None.

    Raises:
        IllConditioned: If the judge's errors are too large to correct.
    """
    if matrix is None:
        return parity_p_values(nearest_counts(counts, unknown, targets), targets)
    test = corrected_p_values if targets.shape[1] == 2 else parity_tails
    return test(counts, targets, matrix, unknown)


def _by_matrix(every: Floats, exact: Floats) -> float:
    """Return the mean over samples of the contribution of the matrix's error to the length of an interval.

    Args:
        every: Lengths with the matrix's error, shape (P,).
        exact: Lengths without it.
    """
    return float(np.sqrt(np.maximum(np.maximum(every, 0.0) ** 2 - np.maximum(exact, 0.0) ** 2, 0.0)).mean())
