"""Interventions in a model's own features; a dict names the methods.

It may import ``dissect``, ``perception``, ``models``, ``planning``, ``config`` and ``records``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from audit.config.sections import MitigationConfig
from audit.config.shares import normalised
from audit.dissect.lens import Lens
from audit.dissect.strengths import GroupStrength
from audit.mitigate.assignment import assigned_group
from audit.mitigate.difflens import DiffLensEdit, Steering
from audit.models.arm import Arm, Edit
from audit.planning.plan import window_of
from audit.records.work import ImageKey, Prompt

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
        found = strengths_of(lens, mitigation.attribute, prompt)
        strengths = tuple(found[group].strength for group in assigned)
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


def strengths_of(lens: Lens, attribute: str, prompt: Prompt) -> Mapping[str, GroupStrength]:
    """Strength of each group's edit for a prompt.

    Raises:
        ValueError: The lens holds none for the prompt; those of other prompts say nothing about it.
    """
    found = lens.strengths.get(attribute, {}).get(prompt.id)
    if found is None:
        raise ValueError(
            f"expected strengths of the {attribute} edit for {prompt.id!r}, found none in {lens.name}; "
            "set the mitigation's strength, or dissect again"
        )
    return found
