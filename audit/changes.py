"""What an edited arm changed against the baseline, image by image: both arms hold the same keys with the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.arm_rows import ArmRows, Floats, Pairs
from audit.measure import fairness
from audit.measure.bounds import missing_differs_in_pairs
from audit.measure.discrepancy import debiased_squared
from audit.measure.intersections import shift_matrix
from audit.measure.paired import change_over_prompts, discrepancy_change, mean_over_prompts, paired_share_difference
from audit.records import Attribute, AttributeShift, GroupChange, MissingDifference
from audit.targets import Targets, target_of

Target = tuple[float, ...]


def group_changes(
    baseline: ArmRows, arm: ArmRows, attributes: Sequence[Attribute], targets: Targets
) -> tuple[GroupChange, ...]:
    """Return the change of every attribute by prompt, and after them its mean over prompts.

    Prompts with fewer than two images that both arms could classify are left out.
    """
    changes: list[GroupChange] = []
    for attribute in attributes:
        by_prompt = {prompt: baseline.pairs(arm, attribute.name, prompt) for prompt in baseline.prompts}
        paired = {prompt: pair for prompt, pair in by_prompt.items() if len(pair.before) > 1}
        goals = {prompt: target_of(targets, prompt, attribute) for prompt in paired}
        changes += [_change(pair, prompt, arm.arm, attribute, goals[prompt]) for prompt, pair in paired.items()]
        if len(paired) > 1:
            changes.append(_mean_change(paired, arm.arm, attribute, goals))
    return tuple(changes)


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


def _change(pair: Pairs, prompt: str, arm: str, attribute: Attribute, target: Target) -> GroupChange:
    before, after = pair.before.argmax(1), pair.after.argmax(1)
    shares = {
        group: paired_share_difference(before == code, after == code) for code, group in enumerate(attribute.groups)
    }
    squared = discrepancy_change(pair.before, pair.after, target, strata=pair.strata)
    return GroupChange(prompt, arm, attribute.name, len(before), shares, squared)


def _mean_change(
    paired: Mapping[str, Pairs], arm: str, attribute: Attribute, goals: Mapping[str, Target]
) -> GroupChange:
    """Average over prompts, each counted once; the intervals are those over prompts."""
    pairs = paired.values()
    before, after = [_shares(pair.before) for pair in pairs], [_shares(pair.after) for pair in pairs]
    shares = {
        group: mean_over_prompts([new[code] - old[code] for old, new in zip(before, after, strict=True)])
        for code, group in enumerate(attribute.groups)
    }
    squared = change_over_prompts(
        [debiased_squared(pair.before, goals[prompt]) for prompt, pair in paired.items()],
        [debiased_squared(pair.after, goals[prompt], pair.strata) for prompt, pair in paired.items()],
    )
    return GroupChange(None, arm, attribute.name, len(paired), shares, squared)


def _shares(probabilities: Floats) -> Floats:
    counts: Floats = fairness.hard_counts(probabilities) / len(probabilities)
    return counts
