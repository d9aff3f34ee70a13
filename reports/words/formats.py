"""Formats of figures: shares, numbers, intervals and p-values as text."""

from __future__ import annotations

import math

from audit.records.estimates import NBSP, Estimate, LikeThese, WithInterval, percent
from audit.records.quality import QualityResult
from reports.index.lookups import is_all_hidden

THESE = "these prompts"
"""The population of every interval without another label; table captions name it once."""

LIKE_THESE = "prompts like these"
"""The population of the second interval of a figure over several prompts."""


SMALLEST_SHOWN = 1e-6
"""Figures closer to 0 than this are printed as 0: the square root of a rounding error of 0 can be as large."""

RESIDUE = 1e-12
"""Rounding error that a difference of 0 may leave."""


def settled(value: float) -> float:
    """Return a number for a file: 0 if it is −0, or negative by no more than a rounding error."""
    return 0.0 if -RESIDUE < value <= 0 else value


def number(value: float | None) -> str:
    """Format a figure: two decimals from 1, three below, two significant digits below 0.01, a dash for None."""
    if value is None:
        return "–"
    if abs(value) < SMALLEST_SHOWN:
        value = 0.0
    size = abs(value)
    decimals = 2 if size >= 1 or size == 0 else 3 if size >= 0.01 else 1 - math.floor(math.log10(size))
    return f"{value:.{decimals}f}".replace("-", "−")


def interval(low: float | None, high: float | None, *, share: bool = False) -> str:
    """Format a 95 % interval in brackets, empty if there is none."""
    if low is None or high is None:
        return ""
    if share:
        return f"[{round(100 * low)}, {round(100 * high)}]".replace("-", "−")
    return f"[{number(low)}, {number(high)}]"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Format a figure with its interval, if it has one."""
    return f"{number(value)} {interval(low, high)}".strip()


def figure_text(figure: WithInterval | None) -> str:
    """Format a record's figure with its intervals (see ``like_these_text``), a dash for None."""
    return f"{with_interval(figure.value, figure.low, figure.high)}{like_these_text(figure)}" if figure else "–"


def quality_text(quality: QualityResult, name: str) -> str:
    """Format a quality figure of an arm, see :func:`figure_text`; in words where every pixel is hidden."""
    return "no pixel to compare" if is_all_hidden(quality, name) else figure_text(getattr(quality, name))


def share_text(share: Estimate) -> str:
    """Format a share with its intervals (see ``like_these_text``), in percent."""
    return f"{percent(share.value)} {interval(share.low, share.high, share=True)}{like_these_text(share, share=True)}"


def like_these_text(figure: object, *, share: bool = False) -> str:
    """Return ``, prompts like these [a, b]`` if a figure has an interval for prompts like these, else an empty text."""
    beside: LikeThese | None = getattr(figure, "like_these", None)
    return f", {LIKE_THESE}{NBSP}{interval(beside.low, beside.high, share=share)}" if beside else ""


def p_value(value: float | None) -> str:
    """Format a p-value: three decimals, ``< 0.001`` for smaller values, a dash for None."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
