"""Compares the figures of one place in two runs: shares and the debiased squared discrepancy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.changes import discrepancy_change, two_sample_discrepancy_change
from audit.measure.discrepancy.estimate import debiased_squared
from audit.measure.prompts.over_prompts import change_of_these_prompts
from audit.measure.shares.changes import (
    fisher_p_value,
    mcnemar_p_value,
    paired_share_difference,
    two_sample_share_difference,
)
from audit.records.attributes import Attribute
from audit.records.estimates import Change, Estimate
from audit.results.comparison.records import Cell, Place

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Target = tuple[float, ...]


@dataclass(frozen=True)
class Samples:
    """The classified images of one place in both runs.

    Attributes:
        first: The most probable group of each image in the first run, one-hot, shape (n₁, K).
        second: The same in the second run, shape (n₂, K).
        paired: Whether row i of both is the same image key with the same noise.
        target: The distribution that counts as fair, K shares.
        strata: The group that each image of each run was steered to, None if the run does not steer. A stratified
            sample varies less than a simple random sample; without the strata an edit would look fairer than it is.
    """

    first: Floats
    second: Floats
    paired: bool
    target: Target
    strata: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None)

    @property
    def n(self) -> tuple[int, int]:
        """Images in each run."""
        return len(self.first), len(self.second)

    @property
    def squared_discrepancies(self) -> tuple[float, float]:
        """The debiased squared discrepancy of each run."""
        old, new = self.strata
        return debiased_squared(self.first, self.target, old), debiased_squared(self.second, self.target, new)

    def discrepancy_change(self) -> Change:
        """Return the change of the debiased squared discrepancy."""
        change = discrepancy_change if self.paired else two_sample_discrepancy_change
        return change(self.first, self.second, self.target, strata=self.strata)


def share_change(first: Bools, second: Bools, paired: bool) -> tuple[Estimate, float]:
    """Return the change of a share and the exact p-value of no change."""
    if paired:
        return paired_share_difference(first, second), mcnemar_p_value(first, second)
    counts = (int(first.sum()), len(first), int(second.sum()), len(second))
    return two_sample_share_difference(*counts), fisher_p_value(*counts)


def attribute_cells(place: Place, samples: Samples, attribute: Attribute) -> Iterator[Cell]:
    """Compare the share of every group, then the squared discrepancy."""
    old, new = samples.first.argmax(axis=1), samples.second.argmax(axis=1)
    p_values = []
    for group, name in enumerate(attribute.groups):
        first, second = old == group, new == group
        change, p_value = share_change(first, second, samples.paired)
        p_values.append(p_value)
        values = (float(first.mean()), float(second.mean()))
        yield Cell(place, "share", name, *values, change, samples.n, samples.paired, p_value)
    moved = samples.discrepancy_change()
    # The t test is approximate. A discrepancy can change only if a share changes, which has an exact test. Requiring
    # both keeps the error rate. Two groups have only one independent share.
    tests = 1 if len(p_values) == 2 else len(p_values)
    p_value = max(moved.p_value, min(1.0, tests * min(p_values)))
    values = samples.squared_discrepancies
    yield Cell(place, "squared_discrepancy", None, *values, moved, samples.n, samples.paired, p_value)


def mean_cell(place: Place, samples: Sequence[Samples]) -> Cell:
    """Compare the mean over the prompts of both runs; the test uses only the variation between their images."""
    old, new = zip(*(sample.squared_discrepancies for sample in samples), strict=True)
    change = change_of_these_prompts([sample.discrepancy_change() for sample in samples])
    return Cell(
        place=place,
        figure="squared_discrepancy",
        group=None,
        first=float(np.mean(old)),
        second=float(np.mean(new)),
        change=change,
        n=(len(samples), len(samples)),
        paired=all(sample.paired for sample in samples),
        p_value=change.p_value,
    )
