"""Changes of an edited arm against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audit.records.estimates import Change, Estimate, LikeThese


@dataclass(frozen=True)
class GroupChange:
    """Changes of one attribute in an arm, against the baseline's images of the same keys.

    Attributes:
        prompt_id: The prompt; None for the mean over prompts.
        arm: The edited arm.
        attribute: The attribute.
        n: Images that both arms could classify; prompts for the mean over prompts.
        shares: Paired change of each group's share; ``OverPrompts`` for a mean over prompts.
        squared: Paired change of the squared fairness discrepancy of counted shares; negative is fairer.
    """

    prompt_id: str | None
    arm: str
    attribute: str
    n: int
    shares: Mapping[str, Estimate]
    squared: Change


@dataclass(frozen=True)
class MissingDifference:
    """Difference between the shares of unclassified images of two arms.

    Attributes:
        before: Unclassified share of the first arm, the baseline.
        after: Unclassified share of the second arm.
        difference: ``after`` minus ``before``, with Newcombe's interval.
    """

    before: Estimate
    after: Estimate
    difference: Estimate

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0; the arms are then not compared on similar images."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class AttributeShift:
    """Shift of the shares of one attribute in an arm, one entry of the cross-attribute matrix.

    Attributes:
        arm: The edited arm.
        attribute: The measured attribute; the arm may edit another one.
        value: Mean over prompts of the total variation between the arms' shares.
        floor: The value expected by chance alone, from swapping the arms of single images at random.
        p_value: p-value of no change.
        prompts: Prompts with a classified image in both arms.
        pairs: Images classified in both arms.
        low: Lower end of the 95 % interval, after the part due to chance is subtracted; None in files of older
            versions.
        high: Upper end.
        like_these: The interval for prompts like these.
    """

    arm: str
    attribute: str
    value: float
    floor: float
    p_value: float
    prompts: int
    pairs: int
    low: float | None = None
    high: float | None = None
    like_these: LikeThese | None = None
