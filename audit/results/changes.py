"""Changes of an edited arm against the baseline, from pairs of images with the same key and the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.measure.attributes.attribute_shift import pair_tables, shift_matrix
from audit.measure.discrepancy.changes import PairedSamples, discrepancy_changes, span_of_changes
from audit.measure.inference.span import CHANGE_OF_SHARE, Span
from audit.measure.prompts.over_prompts import change_like_these, like_these, mean_of_these_prompts
from audit.measure.shares.changes import paired_share_difference_of_counts, paired_share_errors
from audit.measure.unclassified.bounds import missing_differs_in_pairs
from audit.planning.targets import Targets, target_of
from audit.records.attributes import Attribute
from audit.records.changes import AttributeShift, GroupChange, MissingDifference
from audit.records.estimates import Estimate
from audit.results.arm_rows import ArmRows

LEAST_PAIRS = 2
"""Smallest number of pairs; with fewer, the variance is unknown and a squared discrepancy cannot be debiased."""

Ints = NDArray[np.int64]


def group_changes(
    baseline: ArmRows, arm: ArmRows, attributes: Sequence[Attribute], targets: Targets
) -> tuple[GroupChange, ...]:
    """Return the change of every attribute by prompt, followed by its mean over prompts.

    Prompts with fewer than two images that both arms could classify are excluded.
    """
    return tuple(change for attribute in attributes for change in _attribute_changes(baseline, arm, attribute, targets))


def _attribute_changes(
    baseline: ArmRows, arm: ArmRows, attribute: Attribute, targets: Targets
) -> Iterator[GroupChange]:
    prompts, numbers = list(baseline.prompts), baseline.prompt_numbers()
    both = baseline.known(attribute.name) & arm.known(attribute.name)
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
    each = [
        GroupChange(prompts[place], arm.arm, attribute.name, int(table.sum()), shares, squared)
        for place, table, shares, squared in zip(
            measured.tolist(), tables, _share_changes(tables, attribute), moved, strict=True
        )
    ]
    yield from each
    if len(each) > 1:
        yield _mean_change(each, tables, attribute, span_of_changes(goals))


def _share_changes(tables: Ints, attribute: Attribute) -> Iterator[dict[str, Estimate]]:
    """Yield the change of each group's share in every prompt, from its pairs of groups (P, K, K)."""
    for table in tables:
        n, first, second = int(table.sum()), table.sum(axis=1).tolist(), table.sum(axis=0).tolist()
        columns = zip(attribute.groups, table.diagonal().tolist(), first, second, strict=True)
        yield {
            group: paired_share_difference_of_counts(stayed, after - stayed, before - stayed, n)
            for group, stayed, before, after in columns
        }


def _mean_change(each: Sequence[GroupChange], tables: Ints, attribute: Attribute, span: Span) -> GroupChange:
    """Average over prompts with equal weights; ``span`` is the possible range of the mean change of the squares."""
    errors, freedom = paired_share_errors(tables), tables.sum(axis=(1, 2)) - 1
    shares = {}
    for code, group in enumerate(attribute.groups):
        own = [change.shares[group] for change in each]
        values, ends = [one.value for one in own], [(one.low, one.high) for one in own]
        these = CHANGE_OF_SHARE.held(mean_of_these_prompts(values, ends, errors=errors[:, code], freedom=freedom))
        shares[group] = like_these(these, values, CHANGE_OF_SHARE)
    squared = change_like_these([change.squared for change in each], span)
    return GroupChange(None, each[0].arm, attribute.name, len(each), shares, squared)


def missing_difference(baseline: ArmRows, arm: ArmRows) -> MissingDifference:
    """Compare the shares of images without a group of some attribute."""
    return missing_differs_in_pairs(~baseline.complete(), ~arm.complete())


def shift_tables(baseline: ArmRows, arm: ArmRows, attribute: Attribute) -> Ints:
    """Count the images of each prompt by their group in both arms (see ``pair_tables``)."""
    before, after = (rows.codes(attribute.name) for rows in (baseline, arm))
    return pair_tables(before, after, baseline.prompt_numbers(), len(baseline.prompts), len(attribute.groups))


def attribute_shifts(
    baseline: ArmRows, arms: Sequence[ArmRows], attributes: Sequence[Attribute]
) -> tuple[AttributeShift, ...]:
    """Return the shift of each attribute in each arm, with the shift expected by chance alone."""
    codes = {rows.arm: {a.name: rows.codes(a.name) for a in attributes} for rows in (baseline, *arms)}
    before = codes.pop(baseline.arm)
    return shift_matrix(before, codes, baseline.prompt_numbers(), attributes)
