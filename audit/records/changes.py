"""What an edited arm changed against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audit.records.estimates import Change, Estimate, LikeThese


@dataclass(frozen=True)
class GroupChange:
    """What an arm changed in one attribute, against the baseline's images of the same keys.

    Attributes:
        prompt_id: The prompt; None for the mean over prompts.
        arm: The edited arm.
        attribute: The attribute.
        n: Images that both arms could classify; prompts for the mean over prompts.
        shares: Change of each group's share, paired; of a mean over prompts ``OverPrompts``.
        squared: Change of the squared fairness discrepancy, as counted and paired; negative is fairer.
    """

    prompt_id: str | None
    arm: str
    attribute: str
    n: int
    shares: Mapping[str, Estimate]
    squared: Change


@dataclass(frozen=True)
class MissingDifference:
    """Whether one arm leaves another share of its images unclassified than another arm does.

    Attributes:
        before: Unclassified share of the first arm, the baseline.
        after: Unclassified share of the second arm.
        difference: ``after`` minus ``before``, Newcombe's interval.
    """

    before: Estimate
    after: Estimate
    difference: Estimate

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0: the arms' groups are then counted on unlike images."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class AttributeShift:
    """How far an arm moved the shares of one attribute, as one entry of the cross-attribute matrix.

    Attributes:
        arm: The edited arm.
        attribute: The measured attribute, whichever the arm edits.
        value: Mean over prompts of the total variation between the arms' shares.
        floor: The same under no change, by swapping the arms of single images at random: what chance alone would show.
        p_value: Of no change.
        prompts: Prompts with a classified image in both arms.
        pairs: Images classified in both arms.
        low: Lower end of the 95 % interval, with what chance adds taken off; None in files of older versions.
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
