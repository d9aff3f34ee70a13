"""What an edited arm changed against the baseline, image by image: both arms hold the same keys with the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.arm_rows import ArmRows, Floats
from audit.measure import fairness
from audit.measure.attribute_shift import pair_tables, shift_matrix
from audit.measure.bounds import missing_differs_in_pairs
from audit.measure.discrepancy import debiased_squares
from audit.measure.discrepancy_changes import PairedSamples, discrepancy_changes
from audit.measure.over_prompts import change_over_prompts, mean_over_prompts
from audit.measure.share_changes import paired_share_difference_of_counts, paired_share_errors
from audit.records import Attribute, AttributeShift, Estimate, GroupChange, MissingDifference
from audit.targets import Targets, target_of

LEAST_PAIRS = 2
"""Fewer have no spread, and without it a squared discrepancy cannot be debiased."""

Ints = NDArray[np.int64]


def group_changes(
    baseline: ArmRows, arm: ArmRows, attributes: Sequence[Attribute], targets: Targets
) -> tuple[GroupChange, ...]:
    """Return the change of every attribute by prompt, and after them its mean over prompts.

    Prompts with fewer than two images that both arms could classify are left out.
    """
    return tuple(change for attribute in attributes for change in _attribute_changes(baseline, arm, attribute, targets))


def _attribute_changes(
    baseline: ArmRows, arm: ArmRows, attribute: Attribute, targets: Targets
) -> Iterator[GroupChange]:
    prompts, numbers = list(baseline.prompts), baseline.prompt_numbers()
    both = baseline.known() & arm.known()
    measured = np.flatnonzero(np.bincount(numbers[both], minlength=len(prompts)) >= LEAST_PAIRS)
    if not measured.size:
        return
    kept = both & np.isin(numbers, measured)
    owners = np.searchsorted(measured, numbers[kept])
    first, second = (rows.codes(attribute.name)[kept] for rows in (baseline, arm))
    before, after = (np.eye(len(attribute.groups))[codes] for codes in (first, second))
    strata = arm.stratum_codes()
    pairs = PairedSamples.of(before, after, owners, len(measured), (None, None if strata is None else strata[kept]))
    goals = np.array([target_of(targets, prompts[place], attribute) for place in measured.tolist()])
    moved = discrepancy_changes(pairs, goals)
    tables = pair_tables(first, second, owners, len(measured), len(attribute.groups))[:, :-1, :-1]
    for place, table, squared in zip(measured.tolist(), tables, moved, strict=True):
        shares = dict(zip(attribute.groups, _share_changes(table), strict=True))
        yield GroupChange(prompts[place], arm.arm, attribute.name, int(table.sum()), shares, squared)
    if len(measured) > 1:
        errors = [squared.standard_error for squared in moved]
        yield _mean_change(pairs, tables, arm.arm, attribute, goals, errors)


def _share_changes(table: Ints) -> Iterator[Estimate]:
    """Return the change of each group's share from a prompt's pairs of groups, shape (K, K)."""
    n, first, second = int(table.sum()), table.sum(axis=1).tolist(), table.sum(axis=0).tolist()
    for stayed, before, after in zip(table.diagonal().tolist(), first, second, strict=True):
        yield paired_share_difference_of_counts(stayed, after - stayed, before - stayed, n)


def _mean_change(
    pairs: PairedSamples, tables: Ints, arm: str, attribute: Attribute, goals: Floats, errors: Sequence[float]
) -> GroupChange:
    """Average over prompts, each counted once; the intervals are those over prompts."""
    moved = (tables.sum(axis=1) - tables.sum(axis=2)) / tables.sum(axis=(1, 2))[:, None]
    of_shares = paired_share_errors(tables)
    shares = {
        group: mean_over_prompts(moved[:, code], errors=of_shares[:, code])
        for code, group in enumerate(attribute.groups)
    }
    old, new = debiased_squares(pairs.before, goals), debiased_squares(pairs.after, goals)
    squared = change_over_prompts(old, new, errors=errors)
    return GroupChange(None, arm, attribute.name, len(tables), shares, squared)


def missing_difference(baseline: ArmRows, arm: ArmRows) -> MissingDifference:
    """Compare the shares of unclassified images."""
    return missing_differs_in_pairs(~baseline.known(), ~arm.known())


def variations(baseline: ArmRows, arm: ArmRows, attribute: str) -> list[float]:
    """Return the total variation between the two arms' shares, of every prompt with a classified image in both."""
    pairs = ((baseline.classified(attribute, prompt), arm.classified(attribute, prompt)) for prompt in arm.prompts)
    return [fairness.total_variation(_shares(old), _shares(new)) for old, new in pairs if len(old) and len(new)]


def attribute_shifts(
    baseline: ArmRows, arms: Sequence[ArmRows], attributes: Sequence[Attribute]
) -> tuple[AttributeShift, ...]:
    """Return how far each arm moved each attribute, with what chance alone would show."""
    codes = {rows.arm: {a.name: rows.codes(a.name) for a in attributes} for rows in (baseline, *arms)}
    before = codes.pop(baseline.arm)
    return shift_matrix(before, codes, baseline.prompt_numbers(), attributes)


def _shares(probabilities: Floats) -> Floats:
    counts: Floats = fairness.hard_counts(probabilities) / len(probabilities)
    return counts
