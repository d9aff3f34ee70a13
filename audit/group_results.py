"""One attribute of one arm: shares, discrepancy and bounds of a prompt, or of the arm as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audit.arm_rows import ArmRows, Floats
from audit.measure import fairness
from audit.measure.bounds import discrepancy_bounds, share_bounds
from audit.measure.classifier_error import (
    ConfusionMatrix,
    IllConditioned,
    corrected_discrepancy,
    corrected_interval,
)
from audit.measure.discrepancy import debiased_squared, discrepancy_interval, display, parity_p_value
from audit.measure.group_measures import MOST_GROUPS, group_measures
from audit.measure.intervals import wilson
from audit.measure.multiplicity import benjamini_hochberg
from audit.measure.paired import mean_over_prompts
from audit.records import Attribute, Corrected, FairnessDiscrepancy, GroupResult, PromptMean
from audit.targets import Targets, pooled_target, target_of

Target = tuple[float, ...]


def group_result(
    rows: ArmRows, attribute: Attribute, targets: Targets, prompt_id: str | None, matrix: ConfusionMatrix | None = None
) -> GroupResult:
    """Count one attribute of one prompt or, for None, of the whole arm; without a classified image it has no share.

    Args:
        rows: Rows of the arm.
        attribute: The attribute.
        targets: The distribution that counts as fair, by prompt and attribute.
        prompt_id: The prompt.
        matrix: The judge's confusion matrix, None where it is not known.
    """
    target = _target(rows, attribute, targets, prompt_id)
    probabilities = rows.classified(attribute.name, prompt_id)
    statuses, n = rows.counts(prompt_id), len(probabilities)
    counts = fairness.hard_counts(probabilities)
    images = sum(statuses.values())
    return GroupResult(
        prompt_id=prompt_id,
        arm=rows.arm,
        attribute=attribute.name,
        n=n,
        statuses=statuses,
        shares={group: wilson(count, n) for group, count in zip(attribute.groups, counts.tolist(), strict=True) if n},
        fairness_discrepancy=_discrepancy(probabilities, target, rows.strata(prompt_id)) if n > 1 else None,
        bounds=dict(zip(attribute.groups, share_bounds(counts, statuses), strict=True)) if images else {},
        discrepancy_bounds=discrepancy_bounds(counts, statuses, target) if images else None,
        corrected=_corrected(counts, target, matrix, attribute) if matrix is not None and n > 1 else None,
        mean_over_prompts=_mean_over_prompts(rows, attribute, targets) if prompt_id is None else None,
        target=dict(zip(attribute.groups, target, strict=True)),
        measures=group_measures(counts, target) if n and len(target) <= MOST_GROUPS else {},
    )


def _target(rows: ArmRows, attribute: Attribute, targets: Targets, prompt_id: str | None) -> Target:
    if prompt_id is not None:
        return target_of(targets, prompt_id, attribute)
    return pooled_target(targets, {prompt: int(rows.known(prompt).sum()) for prompt in rows.prompts}, attribute)


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


def _discrepancy(probabilities: Floats, target: Target, strata: list[str] | None) -> FairnessDiscrepancy:
    squared = debiased_squared(probabilities, target, strata)
    low, high = discrepancy_interval(probabilities, target)
    p_value = parity_p_value(fairness.hard_counts(probabilities), target)
    return FairnessDiscrepancy(
        value=display(squared),
        low=low,
        high=high,
        squared=squared,
        plug_in_soft=fairness.soft_plug_in(probabilities, target),
        plug_in_hard=fairness.hard_plug_in(probabilities, target),
        expected_at_parity=fairness.expected_at_parity(len(probabilities), target),
        p_parity=p_value,
        p_adjusted=p_value,
        n=len(probabilities),
    )


def _corrected(counts: np.ndarray, target: Target, matrix: ConfusionMatrix, attribute: Attribute) -> Corrected | None:
    """Take the judge's errors out; None where it tells the groups apart too badly for that."""
    try:
        shares = corrected_interval(counts, matrix)
        squared = corrected_discrepancy(counts, target, matrix)
    except IllConditioned:
        return None
    return Corrected(dict(zip(attribute.groups, shares, strict=True)), squared, matrix.accuracy)


def _mean_over_prompts(rows: ArmRows, attribute: Attribute, targets: Targets) -> PromptMean | None:
    """Average over the prompts that have at least two classified images, each held against its own target."""
    by_prompt = {prompt_id: rows.classified(attribute.name, prompt_id) for prompt_id in rows.prompts}
    samples = {prompt_id: sample for prompt_id, sample in by_prompt.items() if len(sample) > 1}
    if not samples:
        return None
    goals = {prompt: target_of(targets, prompt, attribute) for prompt in samples}
    squared = [debiased_squared(sample, goals[prompt], rows.strata(prompt)) for prompt, sample in samples.items()]
    return prompt_mean(squared, [fairness.soft_plug_in(sample, goals[prompt]) for prompt, sample in samples.items()])


def prompt_mean(squared: Sequence[float], plug_ins: Sequence[float]) -> PromptMean:
    """Average the squared discrepancies of at least one prompt, and beside them its plug-ins."""
    interval = mean_over_prompts(squared) if len(squared) > 1 else None
    return PromptMean(
        value=display(math.fsum(squared) / len(squared)),
        low=display(interval.low) if interval else None,
        high=display(interval.high) if interval else None,
        plug_in_soft=math.fsum(plug_ins) / len(plug_ins),
        n=len(squared),
    )
