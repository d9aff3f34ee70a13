"""Further judges: agreement with the judge, and how they see each finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audit.records.estimates import Estimate


@dataclass(frozen=True)
class JudgeAgreement:
    """How far a further judge and the one that decides say the same of the images that both could classify.

    Agreement is no accuracy: two judges can be wrong together, and a poor second judge disagrees with a good first one.

    Attributes:
        judge: Name of the further judge.
        arm: The arm.
        attribute: The attribute.
        n: Images that both classified, over all prompts.
        share: Share of them with the same group; None where there is no such image.
        kappa: Cohen's kappa; None also where both judges gave all images one and the same group.
    """

    judge: str
    arm: str
    attribute: str
    n: int
    share: Estimate | None
    kappa: Estimate | None


@dataclass(frozen=True)
class SecondView:
    """What a further judge says of one finding, on the images that both judges could classify.

    Attributes:
        judge: Name of the further judge.
        prompt_id: The finding's prompt.
        arm: The finding's arm.
        attribute: The finding's attribute.
        group: The group that exceeds its target share the most, as the deciding judge sees it.
        target: That target share.
        share: Share of this group as the further judge sees it; None without a common image.
        direction: ``same`` where this interval lies above the target, ``opposite`` where it lies below, else
            ``unclear``.
    """

    judge: str
    prompt_id: str
    arm: str
    attribute: str
    group: str
    target: float
    share: Estimate | None
    direction: Literal["same", "unclear", "opposite"]
