"""Second judges: their agreement with the main judge, and their view of each finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audit.records.estimates import Estimate


@dataclass(frozen=True)
class JudgeAgreement:
    """Agreement of a second judge with the main judge, on the images that both could classify.

    Agreement is not accuracy: both judges can be wrong, and a poor second judge disagrees with a good main judge.

    Attributes:
        judge: Name of the second judge.
        arm: The arm.
        attribute: The attribute.
        n: Images that both classified, over all prompts.
        share: Share of them with the same group; None if there is no such image.
        kappa: Cohen's kappa; None also if both judges assigned the same single group to all images.
    """

    judge: str
    arm: str
    attribute: str
    n: int
    share: Estimate | None
    kappa: Estimate | None


@dataclass(frozen=True)
class SecondView:
    """A second judge's view of one finding, on the images that both judges could classify.

    Attributes:
        judge: Name of the second judge.
        prompt_id: The finding's prompt.
        arm: The finding's arm.
        attribute: The finding's attribute.
        group: The group that exceeds its target share the most, according to the main judge.
        target: The target share of this group.
        share: Share of this group according to the second judge; None if there is no common image.
        direction: ``same`` if this interval is above the target, ``opposite`` if it is below, otherwise ``unclear``.
    """

    judge: str
    prompt_id: str
    arm: str
    attribute: str
    group: str
    target: float
    share: Estimate | None
    direction: Literal["same", "unclear", "opposite"]
