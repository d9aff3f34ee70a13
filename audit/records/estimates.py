"""Figures with intervals, for one sample, over prompts and for a change; and the format of percentages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

NBSP = "\N{NO-BREAK SPACE}"


class WithInterval(Protocol):
    """A record of a figure, with an interval if it has one."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float | None: ...  # noqa: D102
    @property
    def high(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and its sample size.

    Intervals of shares come from ``audit.measure.inference.intervals.share_estimate``.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class LikeThese:
    """The 95 % interval of a figure for *prompts like these*, which treats the audit's prompts as a sample.

    It includes the variation between prompts. All other intervals are for exactly the prompts of the audit.
    """

    low: float
    high: float


@dataclass(frozen=True)
class OverPrompts(Estimate):
    """A figure over several prompts; its interval is for exactly these prompts.

    Attributes:
        like_these: The interval for prompts like these; None for fewer prompts than
            ``audit.measure.prompts.over_prompts.FEW_PROMPTS``.
    """

    like_these: LikeThese | None = None


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that the unclassified images allow: exact bounds, not a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Change(Estimate):
    """A change with its interval and its sample size.

    Attributes:
        standard_error: Standard error of the change.
        p_value: Two-sided p-value of no change; the interval excludes 0 if it is below 1 − confidence.
    """

    standard_error: float
    p_value: float


@dataclass(frozen=True)
class ChangeOverPrompts(Change):
    """The mean of a change over several prompts; its interval and p-value are for exactly these prompts.

    Attributes:
        like_these: The interval for prompts like these; None for fewer prompts than
            ``audit.measure.prompts.over_prompts.FEW_PROMPTS``.
    """

    like_these: LikeThese | None = None


def percent(share: float, decimals: int = 0) -> str:
    """Format a share as a percentage, for example ``66 %`` for 0.66."""
    rounded = round(100 * share, decimals) + 0.0  # adding 0 turns −0 into 0
    return f"{rounded:.{decimals}f}{NBSP}%".replace("-", "−")


def exact_percent(share: float) -> str:
    """Format a confidence level with as many digits as it needs, at most four: ``95 %``, ``97.5 %``, ``99.44 %``."""
    return f"{100 * share:.4g}{NBSP}%"
