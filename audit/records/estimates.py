"""Figures with their intervals: of one sample, over prompts, and of a change; and how a share reads in percent."""

from __future__ import annotations

from dataclasses import dataclass

NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and its sample size.

    Shares get theirs from ``audit.measure.inference.intervals.share_estimate``.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class LikeThese:
    """The 95 % interval of the figure beside it for *prompts like these*, of which the audit's are then a sample.

    It also holds how much prompts differ. Every other interval of an audit is about the prompts that it asked for.
    """

    low: float
    high: float


@dataclass(frozen=True)
class OverPrompts(Estimate):
    """A figure of several prompts together; its interval is about these prompts.

    Attributes:
        like_these: None of fewer prompts than ``audit.measure.prompts.over_prompts.FEW_PROMPTS``: too few to speak of
            others.
    """

    like_these: LikeThese | None = None


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that the unclassified images allow: certain, given the judge, and no interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Change(Estimate):
    """A change with its interval and its sample size.

    Attributes:
        standard_error: Of the change.
        p_value: Two-sided, of no change; the interval excludes 0 where it is below 1 − confidence.
    """

    standard_error: float
    p_value: float


@dataclass(frozen=True)
class ChangeOverPrompts(Change):
    """The mean of a change over several prompts; its interval and p-value are about these prompts.

    Attributes:
        like_these: None of fewer prompts than ``audit.measure.prompts.over_prompts.FEW_PROMPTS``: too few to speak of
            others.
    """

    like_these: LikeThese | None = None


def percent(share: float, decimals: int = 0) -> str:
    """Format a share as a percentage, for example ``66 %`` for 0.66."""
    rounded = round(100 * share, decimals) + 0.0  # adding 0 turns −0 into 0
    return f"{rounded:.{decimals}f}{NBSP}%".replace("-", "−")


def exact_percent(share: float) -> str:
    """Format a chosen level with the digits that it needs, at most four: ``95 %``, ``97.5 %``, ``99.44 %``."""
    return f"{100 * share:.4g}{NBSP}%"
