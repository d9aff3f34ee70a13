"""Compares arms whose prompts name different groups: does the model draw each group as asked, and what else changes?

Both arms draw the same prompts from the same noise, and their texts differ in the word of the group alone. So a
difference between them is what the model associates with the word: a model can draw "female doctor" as reliably as
"male doctor" and still make one of them younger.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from audit.measure.inference.intervals import share_estimate
from audit.planning.targets import Targets
from audit.records.arms.counterfactuals import CounterfactualPair, NamedArm
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate
from audit.results.arm_rows import ArmRows
from audit.results.changes import group_changes, missing_difference


def counterfactual_pairs(
    arms: Mapping[str, ArmRows], named: Sequence[NamedArm], attributes: Sequence[Attribute], targets: Targets
) -> tuple[CounterfactualPair, ...]:
    """Return every pair of arms that name different groups of one attribute.

    A pair without a classified image in one of its arms is left out, since nothing can be compared.

    Args:
        arms: Arm → its rows.
        named: The arms whose prompts all name one group, in the order of the config.
        attributes: Attributes with their groups.
        targets: Fair shares of the groups.
    """
    return tuple(_pairs(arms, named, attributes, targets))


def _pairs(
    arms: Mapping[str, ArmRows], named: Sequence[NamedArm], attributes: Sequence[Attribute], targets: Targets
) -> Iterator[CounterfactualPair]:
    by_name = {attribute.name: attribute for attribute in attributes}
    for first, second in itertools.combinations(named, 2):
        if first.attribute != second.attribute or first.group == second.group:
            continue
        rows = (arms[first.arm], arms[second.arm])
        own = by_name[first.attribute]
        shown = {one.group: _shown(arms[one.arm], own, one.group) for one in (first, second)}
        found = {group: share for group, share in shown.items() if share is not None}
        if len(found) < len(shown):
            continue
        others = tuple(attribute for attribute in attributes if attribute.name != own.name)
        yield CounterfactualPair(
            attribute=own.name,
            arms=(first.arm, second.arm),
            groups=(first.group, second.group),
            shown=found,
            changes=group_changes(*rows, others, targets),
            missing=missing_difference(*rows),
        )


def _shown(rows: ArmRows, attribute: Attribute, group: str) -> Estimate | None:
    """Return the share of the classified images that show the group; None without classified images."""
    labels = rows.labels(attribute.name)
    if not len(labels):
        return None
    return share_estimate(int(labels[:, attribute.groups.index(group)].sum()), len(labels))
