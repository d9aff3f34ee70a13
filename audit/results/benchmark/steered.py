"""Groups of an attribute in one arm of a benchmark: steered share, measured share, and CLIP-D.

Over arms with several targets they show whether images follow the target, and whether CLIP sees the change in the same
direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.records.estimates import WithInterval
from audit.records.result import AuditResult


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, found: WithInterval | None) -> Figure | None:
        """Take the figure out of a record, None if there is none."""
        return None if found is None else cls(found.value, found.low, found.high)


@dataclass(frozen=True)
class GroupInArm:
    """One group in one arm.

    Attributes:
        group: The group.
        target: Share of images that is steered to the group; None if the arm steers to none.
        share: Share of the classified images that show it, all prompts pooled; None without any.
        clip_d: CLIP-D of the arm's images to the group's text; None if it was not measured.
        change: Mean difference of CLIP-D to the paired baseline images.
        before: Share in the baseline.
        clip_d_before: CLIP-D in the baseline.
    """

    group: str
    target: float | None
    share: Figure | None
    clip_d: Figure | None
    change: Figure | None
    before: Figure | None
    clip_d_before: Figure | None


def groups_in_arm(
    result: AuditResult, arm: str, baseline: str, attribute: str, targets: Mapping[str, float]
) -> tuple[GroupInArm, ...]:
    """Return the groups of an attribute, in the order of the audit.

    Args:
        result: Result of the audit.
        arm: Name of the arm.
        baseline: Name of the baseline.
        attribute: The attribute.
        targets: Group → share of images that the arm steers to it, of its config; empty if it is not known.
    """
    rows = {row.arm: row for row in result.overall if row.attribute == attribute}
    near = {(row.arm, row.group): row for row in result.clip_d if row.attribute == attribute}
    found = list[GroupInArm]()
    for group in rows[arm].target if arm in rows else ():
        here, there = near.get((arm, group)), near.get((baseline, group))
        found.append(
            GroupInArm(
                group=group,
                target=targets.get(group),
                share=Figure.of(rows[arm].shares.get(group)),
                clip_d=Figure.of(here.cosine) if here else None,
                change=Figure.of(here.change) if here else None,
                before=Figure.of(rows[baseline].shares.get(group)) if baseline in rows else None,
                clip_d_before=Figure.of(there.cosine) if there else None,
            )
        )
    return tuple(found)


def is_sweep(arms: Sequence[Sequence[GroupInArm]], group: str) -> bool:
    """Return whether arms steer a group to at least two different shares."""
    targets = {round(one.target, 6) for own in arms for one in own if one.group == group and one.target is not None}
    return len(targets) > 1
