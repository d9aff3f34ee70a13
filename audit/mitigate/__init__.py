"""Interventions in a model's own features; a dict names the methods."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from audit.config.sections import MitigationConfig
from audit.config.shares import normalised
from audit.dissect.lens import Lens
from audit.mitigate.assignment import assigned_group
from audit.mitigate.difflens import DiffLensEdit, Steering
from audit.models.arm import Arm, Edit
from audit.plan import window_of
from audit.records import ImageKey, Prompt

EditBuilder = Callable[[Lens, MitigationConfig, Steering], Edit]

METHODS: dict[str, EditBuilder] = {
    "difflens": lambda lens, mitigation, steering: DiffLensEdit(lens, mitigation.attribute, mitigation.edit, steering),
}


def build_arm(
    mitigation: MitigationConfig, lens: Lens, prompt: Prompt, keys: Sequence[ImageKey], audit_seed: int
) -> Arm:
    """Turn a mitigation into what it does to one batch of images of one prompt."""
    groups = lens.groups[mitigation.attribute]
    target = steered_shares(mitigation, groups)
    assigned = tuple(assigned_group(key, target, audit_seed) for key in keys)
    if mitigation.strength is not None:
        strengths = tuple(mitigation.strength for _ in keys)
    else:
        found = lens.strengths.get(mitigation.attribute, {})
        strengths = tuple(strength_of(found, prompt.id, group) for group in assigned)
    return steered_arm(mitigation, lens, Steering(assigned, strengths))


def steered_shares(mitigation: MitigationConfig, groups: Sequence[str]) -> dict[str, float]:
    """Share of the images that are steered to each group."""
    if isinstance(mitigation.target, str):
        return dict.fromkeys(groups, 1 / len(groups))
    return dict(zip(groups, normalised(mitigation.target, groups), strict=True))


def steered_arm(mitigation: MitigationConfig, lens: Lens, steering: Steering) -> Arm:
    """The arm of a mitigation whose groups and strengths are given."""
    edit = METHODS[mitigation.method](lens, mitigation, steering)
    return Arm(edit, window_of(mitigation.window, lens.steps), mitigation.reverse_step, steering.groups)


def strength_of(found: Mapping[str, Mapping[str, float]], prompt_id: str, group: str) -> float:
    """Strength that the lens found for a prompt and group; for a prompt it never saw, the median over those it did.

    Raises:
        ValueError: The lens holds no strengths for the attribute.
    """
    if prompt_id in found:
        return found[prompt_id][group]
    if not found:
        raise ValueError(
            "the lens holds no strengths for this attribute; set the mitigation's strength, or dissect again"
        )
    return statistics.median(by_group[group] for by_group in found.values())
