"""Attributes that one arm steers together: combinations of their groups, and how near the arm is to their target."""

from __future__ import annotations

from dataclasses import dataclass

from audit.records.estimates import Estimate

Cell = tuple[str, ...]
"""One group of each attribute, in the order of the attributes."""


def joined(cell: Cell) -> str:
    """Write a combination of groups: ``female & young``. No name of a group contains ``&``."""
    return " & ".join(cell)


@dataclass(frozen=True)
class JointCell:
    """One combination of groups.

    Attributes:
        groups: One group of each attribute, in the order of the attributes.
        target: Share of images that is steered to it.
        share: Share of the images with a group of every attribute that show it.
    """

    groups: Cell
    target: float
    share: float


@dataclass(frozen=True)
class JointResult:
    """The attributes that an arm steers, over all its images or in one prompt.

    Attributes:
        prompt_id: The prompt; None for all images.
        arm: The arm: a joint one, or the baseline.
        target_of: The steering arm whose target is compared.
        attributes: Names of the attributes, in the order of the arm's parts.
        n: Images with a group of every attribute.
        cells: All combinations of groups; empty without images.
        plug_in: Total variation: half the sum of |share − target| over the combinations, in [0, 1]; None without
            images.
        total_variation: The same with its interval; None for more combinations than have one, or without images.
        expected_at_target: Its mean for n images drawn from the target; None where there is no interval.
        shown: Attribute → share of the images steered to one of its groups, and with a group of it, that show this one.
    """

    prompt_id: str | None
    arm: str
    target_of: str
    attributes: tuple[str, ...]
    n: int
    cells: tuple[JointCell, ...]
    plug_in: float | None
    total_variation: Estimate | None
    expected_at_target: float | None
    shown: dict[str, float]
