"""Results of one attribute in one arm: shares, discrepancy and bounds for every prompt and for the whole arm.

An arm can have ten thousand prompts, so the computations are vectorised over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy import fairness
from audit.measure.discrepancy.changes import squared_errors
from audit.measure.discrepancy.corrected import corrected_discrepancies
from audit.measure.discrepancy.estimate import (
    debiased_squares,
    discrepancy_intervals,
    display,
    largest_squares,
    parity_p_values,
)
from audit.measure.discrepancy.group_measures import MOST_GROUPS, group_measures
from audit.measure.discrepancy.samples import Samples
from audit.measure.discrepancy.worst import worst
from audit.measure.inference.intervals import share_estimate
from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.measure.inference.span import Span
from audit.measure.prompts.over_prompts import like_these, mean_of_these_prompts
from audit.measure.prompts.stratified import pooled_share
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.shares.corrected import corrected_shares
from audit.measure.unclassified.all_images import departure_p_values
from audit.measure.unclassified.bounds import discrepancy_ends, share_ends
from audit.planning.targets import Targets, pooled_target, target_of
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate, LikeThese, Range
from audit.records.groups import Corrected, FairnessDiscrepancy, GroupResult, PromptMean, WorstPrompt
from audit.records.work import Status
from audit.results.arm_rows import ArmRows, Floats

Ints = NDArray[np.int64]
Target = tuple[float, ...]
_T = TypeVar("_T")

LEAST_IMAGES = 2
"""Smallest number of images; with fewer, the variance is unknown and a discrepancy cannot be debiased."""


def prompt_results(
    rows: ArmRows, attribute: Attribute, targets: Targets, matrix: ConfusionMatrix | None = None
) -> tuple[GroupResult, ...]:
    """Count one attribute of every prompt; a prompt without a classified image has no share.

    Args:
        rows: Rows of the arm.
        attribute: The attribute.
        targets: The distribution that counts as fair, by prompt and attribute.
        matrix: The judge's confusion matrix, None if it is not known.
    """
    return tuple(_Counted.prompts(rows, attribute, targets).results(matrix))


def overall_result(
    rows: ArmRows, attribute: Attribute, targets: Targets, matrix: ConfusionMatrix | None = None
) -> GroupResult:
    """Count one attribute of all images of an arm together, and average over its prompts; see ``prompt_results``."""
    prompts = _Counted.prompts(rows, attribute, targets)
    images = dict(zip(rows.prompts, prompts.counts.sum(axis=1).tolist(), strict=True))
    everything = np.zeros(len(rows.statuses), dtype=np.int64)
    pool = _Counted.of(rows, attribute, [pooled_target(targets, images, attribute)], (None,), everything)
    (result,) = pool.results(matrix)
    return replace(prompts.pooled(result), mean_over_prompts=prompts.mean(), worst_prompt=prompts.worst())


@dataclass(frozen=True)
class PromptSquares:
    """Squared discrepancies of the m prompts that have enough images for one.

    Attributes:
        labels: Most probable groups of each prompt's images.
        targets: The distributions that count as fair, shape (m, K).
    """

    labels: Samples
    targets: Floats

    @cached_property
    def values(self) -> Floats:
        """Debiased squares, shape (m,)."""
        return debiased_squares(self.labels, self.targets)

    @property
    def span(self) -> Span:
        """Possible range of their mean: from all prompts on target to all images in the group with the least target."""
        return Span(0.0, float(largest_squares(self.targets).mean()))

    def of_these_prompts(self, confidence: float = 0.95) -> Estimate:
        """Return the mean over these prompts, of which there must be at least two."""
        mean = mean_of_these_prompts(
            self.values,
            discrepancy_intervals(self.labels, self.targets, confidence) ** 2,
            confidence,
            squared_errors(self.labels, self.targets),
            self.labels.n - 1,
        )
        return self.span.held(mean)


@dataclass(frozen=True)
class _Counted:
    """Counts of the images of P places, where a place is a prompt or the whole arm.

    Attributes:
        arm: The arm.
        attribute: The attribute.
        targets: The distributions that count as fair, shape (P, K).
        names: The prompts, None for the whole arm.
        statuses: Images by their status for the attribute, in the order of ``Status``, shape (P, statuses).
        counts: Classified images by most probable group, shape (P, K).
        measured: Indices of the places with at least ``LEAST_IMAGES`` classified images.
        labels: The most probable groups of these images.
        soft: Distance of the images' mean probabilities from the target, shape (m,).
    """

    arm: str
    attribute: Attribute
    targets: Floats
    names: tuple[str | None, ...]
    statuses: Ints
    counts: Ints
    measured: Ints
    labels: Samples
    soft: Floats

    @classmethod
    def prompts(cls, rows: ArmRows, attribute: Attribute, targets: Targets) -> _Counted:
        """Count the images of every prompt."""
        names = tuple(rows.prompts)
        return cls.of(rows, attribute, [target_of(targets, n, attribute) for n in names], names, rows.prompt_numbers())

    @classmethod
    def of(
        cls,
        rows: ArmRows,
        attribute: Attribute,
        targets: Sequence[Target],
        names: tuple[str | None, ...],
        places: Ints,
    ) -> _Counted:
        """Count the images of an arm by the place of each image, ``places`` (n,)."""
        known, codes, size = rows.known(attribute.name), rows.codes(attribute.name), len(names)
        statuses = rows.statuses_of(attribute.name)
        groups = len(attribute.groups)
        cells = places[known] * groups + codes[known]
        counts = np.bincount(cells, minlength=size * groups).reshape(size, groups)
        measured = np.flatnonzero(counts.sum(axis=1) >= LEAST_IMAGES)
        kept = known & np.isin(places, measured)
        owners, goals = np.searchsorted(measured, places[kept]), np.asarray(targets, dtype=np.float64)
        strata = _strata(rows, kept, pooled=names == (None,))
        labels = Samples.of(np.eye(groups)[codes[kept]], owners, len(measured), strata)
        return cls(
            arm=rows.arm,
            attribute=attribute,
            targets=goals,
            names=names,
            statuses=np.stack([np.bincount(places[statuses == s], minlength=size) for s in Status], axis=1),
            counts=counts,
            measured=measured,
            labels=labels,
            soft=soft_distances(rows.probabilities[attribute.name][kept], owners, goals[measured]),
        )

    def results(self, matrix: ConfusionMatrix | None) -> Iterator[GroupResult]:
        """Return a result for every place."""
        discrepancies = dict(zip(self.measured.tolist(), self._discrepancies(), strict=True))
        corrected = dict(zip(self.measured.tolist(), self._corrected(matrix), strict=True))
        departures = dict(zip(self.measured.tolist(), self._departures(matrix), strict=True))
        bounds = self._bounds()
        columns = (self.names, self.statuses.tolist(), self.counts.tolist(), self.targets.tolist())
        for place, (name, statuses, counts, target) in enumerate(zip(*columns, strict=True)):
            n = sum(counts)
            shares, distance = bounds[place] if sum(statuses) else ({}, None)
            yield GroupResult(
                prompt_id=name,
                arm=self.arm,
                attribute=self.attribute.name,
                n=n,
                statuses=dict(zip((status.value for status in Status), statuses, strict=True)),
                shares=self._by_group(share_estimate(count, n) for count in counts) if n else {},
                fairness_discrepancy=discrepancies.get(place),
                bounds=shares,
                discrepancy_bounds=distance,
                corrected=corrected.get(place),
                target=self._by_group(target),
                measures=group_measures(counts, target) if n and len(counts) <= MOST_GROUPS else {},
                p_departure=departures.get(place),
                uncorrectable=matrix is not None and not matrix.correctable,
            )

    def pooled(self, result: GroupResult) -> GroupResult:
        """Return a pooled result with intervals of its shares and measures that are for exactly these prompts."""
        if not result.n:
            return result
        images = self.counts.sum(axis=1)
        target = [result.target[group] for group in self.attribute.groups]
        return replace(
            result,
            shares=self._by_group(pooled_share(group, images) for group in self.counts.T),
            measures=group_measures(self.counts, target) if result.measures else {},
        )

    def mean(self) -> PromptMean | None:
        """Average over the measured prompts; None if there are none."""
        if not self.measured.size:
            return None
        return prompt_mean(self.squares(), self.soft)

    def worst(self) -> WorstPrompt | None:
        """Return the measured prompt with the largest discrepancy; None if no prompt is measured."""
        if not self.measured.size:
            return None
        found = worst(self.labels, self.targets[self.measured])
        prompt = self.names[int(self.measured[found.place])]
        return WorstPrompt(str(prompt), found.value, found.low, found.high, found.n, self.measured.size)

    def squares(self) -> PromptSquares:
        """Return the squared discrepancies of the measured places."""
        return PromptSquares(self.labels, self.targets[self.measured])

    def _discrepancies(self) -> Iterator[FairnessDiscrepancy]:
        return discrepancies(self.labels, self.soft, self.targets[self.measured])

    def _corrected(self, matrix: ConfusionMatrix | None) -> Sequence[Corrected | None]:
        """Correct for the judge's errors; None if they are not known, or too large to correct."""
        if matrix is None or not matrix.correctable or not self.measured.size:
            return [None] * self.measured.size
        shares = corrected_shares(self.labels.counts, matrix)
        squared = corrected_discrepancies(self.labels, self.targets[self.measured], matrix)
        ends = zip(shares.value.tolist(), shares.low.tolist(), shares.high.tolist(), strict=True)
        accuracy = matrix.accuracy
        return [
            Corrected(self._by_group(Estimate(*row, one.n) for row in zip(*own, strict=True)), one, accuracy)
            for own, one in zip(ends, squared, strict=True)
        ]

    def _departures(self, matrix: ConfusionMatrix | None) -> list[float]:
        """Return a p-value for each measured place, of the hypothesis that all its images are drawn from the target.

        If the judge's errors are too large to correct, the p-value is 1, because there is no evidence of a departure.
        """
        if not self.measured.size or (matrix is not None and not matrix.correctable):
            return [1.0] * self.measured.size
        counts = self.counts[self.measured]
        unknown = self.statuses[self.measured].sum(axis=1) - counts.sum(axis=1)
        found: list[float] = departure_p_values(counts, unknown, self.targets[self.measured], matrix).tolist()
        return found

    def _bounds(self) -> list[tuple[dict[str, Range], Range]]:
        """Bound the shares and the discrepancy of every place; for a place without images the bounds are arbitrary."""
        images = self.statuses.sum(axis=1)
        unknown = np.maximum(images, 1) - self.counts.sum(axis=1)
        low, high = share_ends(self.counts, unknown)
        nearest, farthest = discrepancy_ends(self.counts, unknown, self.targets)
        return [
            (self._by_group(map(Range, lows, highs)), Range(near, far))
            for lows, highs, near, far in zip(*(x.tolist() for x in (low, high, nearest, farthest)), strict=True)
        ]

    def _by_group(self, values: Iterable[_T]) -> dict[str, _T]:
        return dict(zip(self.attribute.groups, values, strict=True))


def _strata(rows: ArmRows, kept: NDArray[np.bool_], *, pooled: bool) -> Ints | None:
    """Return the stratum of each kept image, None for a simple random sample.

    A pool has a fixed number of images of each prompt. An arm that steers images has a fixed number of images of each
    assigned group in every prompt.
    """
    groups, prompts = rows.stratum_codes(), rows.prompt_numbers()
    if groups is None:
        return np.asarray(prompts[kept]) if pooled else None
    return np.asarray((prompts * (groups.max() + 1) + groups)[kept])


def adjusted(results: Sequence[GroupResult]) -> tuple[GroupResult, ...]:
    """Return the results of one arm with Benjamini-Hochberg adjusted p-values of a departure.

    Rows of prompts are one family of tests. Overall rows are another family, because they pool the same images; one
    family with both would count the images twice.
    """
    tested = [row for row in results if row.fairness_discrepancy is not None]
    if not tested:
        return tuple(results)
    p_values = benjamini_hochberg([1.0 if row.p_departure is None else row.p_departure for row in tested])
    found = {id(row): float(p) for row, p in zip(tested, p_values, strict=True)}
    return tuple(_with_adjusted(row, found.get(id(row))) for row in results)


def _with_adjusted(row: GroupResult, p_value: float | None) -> GroupResult:
    if row.fairness_discrepancy is None or p_value is None:
        return row
    return replace(row, fairness_discrepancy=replace(row.fairness_discrepancy, p_adjusted=p_value))


def discrepancies(labels: Samples, soft: Floats, targets: Floats) -> Iterator[FairnessDiscrepancy]:
    """Return the fairness discrepancy of each sample, with an unadjusted p-value.

    Args:
        labels: Most probable groups of at least two images in every sample.
        soft: Distance of the images' mean probabilities from the target, shape (P,).
        targets: The distributions that count as fair, shape (P, K).
    """
    if not labels.n.size:
        return
    columns = (
        debiased_squares(labels, targets),
        *discrepancy_intervals(labels, targets).T,
        np.linalg.norm(labels.mean - targets, axis=1),
        soft,
        parity_p_values(labels.counts, targets),
        labels.n.astype(np.int64),
        targets,
    )
    for squared, low, high, plug_in, own_soft, p_value, n, goal in zip(*(c.tolist() for c in columns), strict=True):
        yield FairnessDiscrepancy(
            value=(value := display(squared)),
            # With very few images, the unbiased estimate can be outside the confidence set from test inversion.
            low=min(low, value),
            high=max(high, value),
            squared=squared,
            plug_in=plug_in,
            expected_at_parity=fairness.expected_at_parity(n, tuple(goal)),
            soft=own_soft,
            p_parity=p_value,
            p_adjusted=p_value,
            n=n,
        )


def soft_distances(probabilities: Floats, owners: Ints, targets: Floats) -> Floats:
    """Return ``fairness.soft_plug_in`` of many samples, shape (P,).

    Args:
        probabilities: The judge's group probabilities, shape (N, K).
        owners: The sample of each image, in [0, P), shape (N,); every sample has at least one image.
        targets: The distributions that count as fair, shape (P, K).
    """
    size = len(targets)
    sums = np.stack([np.bincount(owners, column, size) for column in probabilities.T], axis=1)
    return np.asarray(np.linalg.norm(sums / np.bincount(owners, minlength=size)[:, None] - targets, axis=1))


def prompt_mean(squares: PromptSquares, soft: Floats) -> PromptMean:
    """Average the discrepancies of at least one prompt.

    Args:
        squares: Their squares.
        soft: Distance of each prompt's mean probabilities from the target, shape (m,).
    """
    labels, targets, squared = squares.labels, squares.targets, squares.values
    these = squares.of_these_prompts() if len(squared) > 1 else None
    others = like_these(these, squared, squares.span).like_these if these else None
    floors = map(fairness.expected_at_parity, labels.n.astype(np.int64).tolist(), map(tuple, targets.tolist()))
    return PromptMean(
        value=display(math.fsum(squared) / len(squared)),
        low=display(these.low) if these else None,
        high=display(these.high) if these else None,
        plug_in=float(np.linalg.norm(labels.mean - targets, axis=1).mean()),
        expected_at_parity=fmean(floors),
        soft=float(soft.mean()),
        n=len(squared),
        like_these=LikeThese(display(others.low), display(others.high)) if others else None,
    )
