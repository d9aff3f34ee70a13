"""One attribute of one arm: shares, discrepancy and bounds of every prompt, and of the arm as a whole.

An arm may have ten thousand prompts, so all of them are measured at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.arm_rows import ArmRows, Floats
from audit.measure import fairness
from audit.measure.bounds import discrepancy_ends, share_ends
from audit.measure.classifier_error import ConfusionMatrix, IllConditioned
from audit.measure.corrected_discrepancy import corrected_discrepancies
from audit.measure.corrected_shares import corrected_shares
from audit.measure.discrepancy import debiased_squares, discrepancy_intervals, display, parity_p_values
from audit.measure.discrepancy_changes import squared_errors
from audit.measure.group_measures import MOST_GROUPS, group_measures
from audit.measure.intervals import share_estimate
from audit.measure.multiplicity import benjamini_hochberg
from audit.measure.over_prompts import mean_of_these_prompts, mean_over_prompts
from audit.measure.samples import Samples
from audit.records import (
    Attribute,
    Corrected,
    Estimate,
    FairnessDiscrepancy,
    GroupResult,
    PromptMean,
    Range,
    Status,
)
from audit.targets import Targets, pooled_target, target_of

Ints = NDArray[np.int64]
Target = tuple[float, ...]
_T = TypeVar("_T")

LEAST_IMAGES = 2
"""Fewer have no spread, and without it a discrepancy cannot be debiased."""


def prompt_results(
    rows: ArmRows, attribute: Attribute, targets: Targets, matrix: ConfusionMatrix | None = None
) -> tuple[GroupResult, ...]:
    """Count one attribute of every prompt; a prompt without a classified image has no share.

    Args:
        rows: Rows of the arm.
        attribute: The attribute.
        targets: The distribution that counts as fair, by prompt and attribute.
        matrix: The judge's confusion matrix, None where it is not known.
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
    return replace(result, mean_over_prompts=prompts.mean())


@dataclass(frozen=True)
class PromptSquares:
    """Squared discrepancies of the m prompts that have one.

    Attributes:
        samples: The judge's group probabilities of each prompt's images.
        targets: The distributions that count as fair, shape (m, K).
    """

    samples: Samples
    targets: Floats

    @cached_property
    def values(self) -> Floats:
        """Debiased squares, shape (m,)."""
        return debiased_squares(self.samples, self.targets)

    def of_these_prompts(self, confidence: float = 0.95) -> Estimate:
        """Return the mean over these prompts, two of them at least."""
        return mean_of_these_prompts(
            self.values,
            discrepancy_intervals(self.samples, self.targets, confidence) ** 2,
            confidence,
            squared_errors(self.samples, self.targets),
            self.samples.n - 1,
        )


def prompt_squares(rows: ArmRows, attribute: Attribute, targets: Targets) -> PromptSquares:
    """Return the squared discrepancies of the prompts that have one."""
    return _Counted.prompts(rows, attribute, targets).squares()


@dataclass(frozen=True)
class _Counted:
    """The images of P places, each a prompt or the whole arm.

    Attributes:
        arm: The arm.
        attribute: The attribute.
        targets: The distributions that count as fair, shape (P, K).
        names: The prompts, None for the whole arm.
        statuses: Images by their status for the attribute, in the order of ``Status``, shape (P, statuses).
        counts: Classified images by most probable group, shape (P, K).
        measured: Places with at least ``LEAST_IMAGES`` classified images.
        soft: Group probabilities of these.
        hard: Their most probable groups, as labels.
    """

    arm: str
    attribute: Attribute
    targets: Floats
    names: tuple[str | None, ...]
    statuses: Ints
    counts: Ints
    measured: Ints
    soft: Samples
    hard: Samples

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
        """Count the images of an arm, each of which belongs to one of the ``places`` (n,)."""
        known, codes, size = rows.known(attribute.name), rows.codes(attribute.name), len(names)
        statuses = rows.statuses_of(attribute.name)
        groups = len(attribute.groups)
        cells = places[known] * groups + codes[known]
        counts = np.bincount(cells, minlength=size * groups).reshape(size, groups)
        measured = np.flatnonzero(counts.sum(axis=1) >= LEAST_IMAGES)
        kept = known & np.isin(places, measured)
        owners, strata = np.searchsorted(measured, places[kept]), _strata(rows, kept)
        return cls(
            arm=rows.arm,
            attribute=attribute,
            targets=np.asarray(targets, dtype=np.float64),
            names=names,
            statuses=np.stack([np.bincount(places[statuses == s], minlength=size) for s in Status], axis=1),
            counts=counts,
            measured=measured,
            soft=Samples.of(rows.probabilities[attribute.name][kept], owners, len(measured), strata),
            hard=Samples.of(np.eye(groups)[codes[kept]], owners, len(measured), strata),
        )

    def results(self, matrix: ConfusionMatrix | None) -> Iterator[GroupResult]:
        """Return a result for every place."""
        discrepancies = dict(zip(self.measured.tolist(), self._discrepancies(), strict=True))
        corrected = dict(zip(self.measured.tolist(), self._corrected(matrix), strict=True))
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
            )

    def mean(self) -> PromptMean | None:
        """Average over the prompts that are measured; None where there is none."""
        if not self.measured.size:
            return None
        plug_ins = np.linalg.norm(self.soft.mean - self.targets[self.measured], axis=1)
        squares = self.squares()
        these = squares.of_these_prompts() if self.measured.size > 1 else None
        goals = squares.targets
        most = 1 - 2 * goals.min(axis=1) + (goals**2).sum(axis=1)  # every image in the group that is wanted least
        return prompt_mean(squares.values.tolist(), plug_ins.tolist(), these, most=float(most.mean()))

    def squares(self) -> PromptSquares:
        """Return the squared discrepancies of the places that are measured."""
        return PromptSquares(self.soft, self.targets[self.measured])

    def _discrepancies(self) -> Iterator[FairnessDiscrepancy]:
        if not self.measured.size:
            return
        goals = self.targets[self.measured]
        columns = (
            debiased_squares(self.soft, goals),
            *discrepancy_intervals(self.soft, goals).T,
            np.linalg.norm(self.soft.mean - goals, axis=1),
            np.linalg.norm(self.hard.mean - goals, axis=1),
            parity_p_values(self.hard.counts, goals),
            self.soft.n.astype(np.int64),
            goals,
        )
        for squared, low, high, soft, hard, p_value, n, goal in zip(*(c.tolist() for c in columns), strict=True):
            yield FairnessDiscrepancy(
                value=display(squared),
                low=low,
                high=high,
                squared=squared,
                plug_in_soft=soft,
                plug_in_hard=hard,
                expected_at_parity=fairness.expected_at_parity(n, tuple(goal)),
                p_parity=p_value,
                p_adjusted=p_value,
                n=n,
            )

    def _corrected(self, matrix: ConfusionMatrix | None) -> Sequence[Corrected | None]:
        """Take the judge's errors out; None where they are not known, or it tells the groups apart too badly."""
        nothing = [None] * self.measured.size
        if matrix is None or not self.measured.size:
            return nothing
        try:
            shares = corrected_shares(self.hard.counts, matrix)
            squared = corrected_discrepancies(self.hard, self.targets[self.measured], matrix)
        except IllConditioned:
            return nothing
        ends = zip(shares.value.tolist(), shares.low.tolist(), shares.high.tolist(), strict=True)
        accuracy = matrix.accuracy
        return [
            Corrected(self._by_group(Estimate(*row, one.n) for row in zip(*own, strict=True)), one, accuracy)
            for own, one in zip(ends, squared, strict=True)
        ]

    def _bounds(self) -> list[tuple[dict[str, Range], Range]]:
        """Bound the shares and the discrepancy of every place; of one without images the result means nothing."""
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


def _strata(rows: ArmRows, kept: NDArray[np.bool_]) -> Ints | None:
    """Return the stratum of each image that is kept: a prompt's own group, also where prompts are pooled."""
    groups = rows.stratum_codes()
    return None if groups is None else (rows.prompt_numbers() * (groups.max() + 1) + groups)[kept]


def adjusted(results: Sequence[GroupResult]) -> tuple[GroupResult, ...]:
    """Return the results of one arm with their parity p-values adjusted for being many (Benjamini and Hochberg)."""
    tested = [row for row in results if row.fairness_discrepancy is not None]
    if not tested:
        return tuple(results)
    p_values = benjamini_hochberg([row.fairness_discrepancy.p_parity for row in tested if row.fairness_discrepancy])
    found = {id(row): float(p) for row, p in zip(tested, p_values, strict=True)}
    return tuple(_with_adjusted(row, found.get(id(row))) for row in results)


def _with_adjusted(row: GroupResult, p_value: float | None) -> GroupResult:
    if row.fairness_discrepancy is None or p_value is None:
        return row
    return replace(row, fairness_discrepancy=replace(row.fairness_discrepancy, p_adjusted=p_value))


def prompt_mean(
    squared: Sequence[float], plug_ins: Sequence[float], these: Estimate | None = None, most: float = math.inf
) -> PromptMean:
    """Average the squared discrepancies of at least one prompt, and beside them its plug-ins.

    Args:
        squared: Debiased squares, shape (m,).
        plug_ins: Their soft plug-ins, shape (m,).
        these: The mean of the squares over these prompts alone, where their own intervals are known.
        most: The largest that their mean can be, where the interval ends at the latest.
    """
    interval = mean_over_prompts(squared, these=these) if len(squared) > 1 else None
    return PromptMean(
        value=display(math.fsum(squared) / len(squared)),
        low=display(min(interval.low, most)) if interval else None,
        high=display(min(interval.high, most)) if interval else None,
        plug_in_soft=math.fsum(plug_ins) / len(plug_ins),
        n=len(squared),
    )
