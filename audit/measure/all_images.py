"""Figures of all images of a sample, also of those without a perceived group, and how far they can be.

What an unclassified image shows is not known, so a figure of all images is known within bounds only (Manski 1989): its
best and its worst case over everything that they could be. Either is estimated from the same images, so it has an error
of sampling like any other figure (Imbens and Manski 2004, Econometrica 72). An interval here runs from the lower end of
the best case's interval to the upper end of the worst case's: whatever the unclassified images are, and whichever
groups they come from, either end is passed with half of the missing confidence at most. Without unclassified images,
and where the judge's errors are not known, every interval is the one that is printed of the figure.

Where the judge's confusion matrix is given, its errors are taken out of the classified images. Unclassified ones may
still be of any true group.

Legend: P samples, K groups; N images of a sample, of which c are counted by group and u are unknown; r the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit.measure.bounds import nearest_counts
from audit.measure.classifier_error import ConfusionMatrix, inverse_of
from audit.measure.corrected_discrepancy import corrected_distances, nearest_completions, parity_tails, rates_bias
from audit.measure.corrected_shares import corrected_p_values, corrected_shares
from audit.measure.discrepancy import debiased_squares, discrepancy_intervals, parity_p_values
from audit.measure.discrepancy_changes import squared_errors
from audit.measure.group_measures import Measure, ShareRegion, share_region
from audit.measure.intervals import share_estimate
from audit.measure.over_prompts import mean_of_these_prompts
from audit.measure.samples import Samples
from audit.measure.simplex import nearest_distribution

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class AllImages:
    """The images of P samples, each with its perceived group or none.

    Attributes:
        codes: Place of each image's group, −1 where it has none, shape (n,).
        owners: The sample of each image, in [0, P), shape (n,); every sample has one image at least.
        targets: The distributions that count as fair, shape (P, K).
        strata: Code of each image's stratum where their numbers were fixed, as in ``Samples.of``.
        matrix: The judge's confusions where its errors are to be taken out; None to take its answers as they are.
    """

    codes: Ints
    owners: Ints
    targets: Floats
    strata: Ints | None = None
    matrix: ConfusionMatrix | None = None

    @property
    def size(self) -> int:
        """P."""
        return len(self.targets)

    @property
    def groups(self) -> int:
        """K."""
        return int(self.targets.shape[1])

    @cached_property
    def counts(self) -> Ints:
        """Images by perceived group, c of shape (P, K)."""
        return self._table[:, :-1]

    @cached_property
    def unknown(self) -> Ints:
        """Images without one, u of shape (P,)."""
        return self._table[:, -1]

    @cached_property
    def _table(self) -> Ints:
        side = self.groups + 1
        cells = self.owners * side + self.codes % side  # code −1 is the last column
        return np.bincount(cells, minlength=self.size * side).reshape(self.size, side)

    def classified(self, least: int = 1) -> AllImages:
        """Return the classified images alone, of the samples with so many of them."""
        samples = np.flatnonzero(self.counts.sum(axis=1) >= least)
        kept = (self.codes >= 0) & np.isin(self.owners, samples)
        return replace(
            self,
            codes=self.codes[kept],
            owners=np.searchsorted(samples, self.owners[kept]),
            targets=self.targets[samples],
            strata=None if self.strata is None else self.strata[kept],
        )

    def shares(self) -> Floats:
        """Return each group's share of the classified images, shape (P, K), each of which has at least one."""
        if self.matrix is not None:
            return corrected_shares(self.counts, self.matrix).value
        return np.asarray(self.counts / self.counts.sum(axis=1, keepdims=True))

    def share_interval(self, group: int, confidence: float) -> Interval:
        """Return the interval of a group's share of all images, of a single sample.

        The worst case counts every unknown image in the group, the best none: both are shares of N images.
        """
        if self.matrix is not None:
            found = corrected_shares(self.counts, self.matrix, confidence, self.unknown)
            return float(found.low[0, group]), float(found.high[0, group])
        count, unknown = int(self.counts[0, group]), int(self.unknown[0])
        total = int(self._table[0].sum())
        return share_estimate(count, total, confidence).low, share_estimate(count + unknown, total, confidence).high

    def measure_interval(self, measure: Measure, confidence: float) -> Interval:
        """Return the interval of a measure of all images, of a single sample: its range over a region of shares."""
        target = self.targets[0]
        values = measure.function(self._region(confidence).extremes(target), target)
        return float(values.min()), float(values.max())

    def discrepancy_intervals(self, confidence: float, *, matrix_errs: bool = True) -> Floats:
        """Return the interval of the fairness discrepancy of all images of each sample, shape (P, 2).

        The discrepancy is convex, so its worst case has every unknown image in one group: the upper end is the largest
        over these K completions, and so never below that of the worst one. The lower end is that of the completion
        nearest to the target.

        Args:
            confidence: Coverage of each interval, in (0, 1).
            matrix_errs: Whether the interval holds the error of a confusion matrix, or takes it for exact.
        """
        if self.matrix is not None:
            return corrected_distances(
                self.counts, self.targets, self.matrix, confidence, self.unknown, matrix_errs=matrix_errs
            )
        nearest = nearest_counts(self.counts, self.unknown, self.targets)
        ends = discrepancy_intervals(Samples.of_counts(nearest), self.targets, confidence)
        open_rows = np.flatnonzero(self.unknown)
        for corner in np.eye(self.groups, dtype=np.int64):
            if open_rows.size:
                farthest = Samples.of_counts((self.counts + self.unknown[:, None] * corner)[open_rows])
                found = discrepancy_intervals(farthest, self.targets[open_rows], confidence)[:, 1]
                ends[open_rows, 1] = np.maximum(ends[open_rows, 1], found)
        return ends

    def squares(self) -> Floats:
        """Return the debiased squared discrepancy of each sample, all of whose images are classified, shape (P,)."""
        return self._squares(self._completed(np.zeros(self.counts.shape)))

    def mean_square_interval(self, confidence: float) -> Interval:
        """Return the interval of the mean over these samples of the squared discrepancy of all their images.

        Images of different samples have independent errors, so the samples' own intervals are squared and added
        (:func:`audit.measure.over_prompts.mean_of_these_prompts`). The confusion matrix is one for all of them: what
        its error adds to their intervals is averaged, as if it led all of them astray together.

        Args:
            confidence: Coverage of the interval, in (0, 1).
        """
        every = self.discrepancy_intervals(confidence) ** 2
        exact = every
        if self.matrix is not None:
            exact = self.discrepancy_intervals(confidence, matrix_errs=False) ** 2
        (nearest, best), (farthest, worst) = self._nearest(), self._farthest()
        of_best = mean_of_these_prompts(nearest, exact, confidence, squared_errors(best, self.targets), best.n - 1)
        of_worst = mean_of_these_prompts(farthest, exact, confidence, squared_errors(worst, self.targets), worst.n - 1)
        below = _by_matrix(nearest - every[:, 0], nearest - exact[:, 0])
        above = _by_matrix(every[:, 1] - farthest, exact[:, 1] - farthest)
        low = of_best.value - float(np.hypot(of_best.value - of_best.low, below))
        return low, of_worst.value + float(np.hypot(of_worst.high - of_worst.value, above))

    def departure_p_values(self) -> Floats:
        """Return the p-value of all images being drawn from the target, shape (P,), whatever the unknown ones are.

        It is the largest over everything that they could be: that of the completion nearest to the target.
        """
        if self.matrix is None:
            return parity_p_values(nearest_counts(self.counts, self.unknown, self.targets), self.targets)
        test = corrected_p_values if self.groups == 2 else parity_tails
        return test(self.counts, self.targets, self.matrix, self.unknown)

    def _region(self, confidence: float) -> ShareRegion:
        """Return bounds of the shares of all images that hold for all groups at once, of a single sample."""
        if self.matrix is None:
            return share_region(self.counts[0], confidence, int(self.unknown[0]))
        each = 1 - (1 - confidence) / (self.groups if self.groups > 2 else 1)
        found = corrected_shares(self.counts, self.matrix, each, self.unknown)
        return ShareRegion(low=found.low[0], high=found.high[0])

    def _nearest(self) -> tuple[Floats, Samples]:
        """Return debiased squares of the completions nearest to the target, and their images."""
        counts, unknown = self.counts.astype(np.float64), self.unknown.astype(np.float64)
        samples = self._completed(nearest_completions(counts, self.targets, self.matrix, unknown))
        return self._squares(samples), samples

    def _farthest(self) -> tuple[Floats, Samples]:
        """Return debiased squares of the completions farthest from the target, and their images."""
        corners = np.eye(self.groups)
        if not self.unknown.any():
            corners = corners[:1]
        completions = [self._completed(np.broadcast_to(corner, self.counts.shape)) for corner in corners]
        squares = np.stack([self._squares(samples) for samples in completions])
        farthest = squares.argmax(axis=0)
        given = corners[farthest]
        return squares.max(axis=0), self._completed(given)

    def _completed(self, given: Floats) -> Samples:
        """Return the samples with their unknown images given to groups in these shares (P, K).

        Where the judge's errors are taken out, an image's row is the point A·(one-hot), whose mean is the corrected
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
        known = self.counts.sum(axis=1, keepdims=True)
        shares = nearest_distribution(self.counts / np.maximum(known, 1) @ inverse_of(self.matrix).T)
        masses = known / samples.n[:, None] * shares
        return np.asarray(squares - masses**2 @ rates_bias(self.matrix))


def _by_matrix(every: Floats, exact: Floats) -> float:
    """Return the mean over samples of what the matrix's error adds to how far an end is from its estimate.

    Args:
        every: How far the ends are that hold the matrix's error, shape (P,).
        exact: How far those are that do not.
    """
    return float(np.sqrt(np.maximum(np.maximum(every, 0.0) ** 2 - np.maximum(exact, 0.0) ** 2, 0.0)).mean())
