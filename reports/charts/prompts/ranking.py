"""Ranking charts: a row per item with a signed value and its interval, from −1 to +1 or wider."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.charts.axis import Mark
from reports.charts.svg import Frame, arm_shape, figure, label_width, line_tag, need, row_band, shorten, text_tag

_STEP, _TOP, _TICK = 22.0, 40.0, 0.5


@dataclass(frozen=True)
class Ranked:
    """One row.

    Attributes:
        label: Name of the row.
        mark: Its value.
        filled: Whether the mark is filled.
    """

    label: str
    mark: Mark
    filled: bool = True


@dataclass(frozen=True)
class Ends:
    """What the ends of the axis mean, and a reference value with its name."""

    low: str
    high: str
    reference: float
    reference_label: str


def ranking(frame: Frame, ends: Ends, rows: Sequence[Ranked]) -> Markup:
    """Draw one line per row in the given order.

    Raises:
        ValueError: There are no rows.
    """
    need(rows, "row")
    values = [v for row in rows for v in (row.mark.value, row.mark.low, row.mark.high) if v is not None]
    reach = max(1.0, math.ceil(max(abs(value) for value in values) / _TICK) * _TICK)
    left, right = label_width([row.label for row in rows]), frame.width - 54
    bottom = _TOP + _STEP * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (value + reach) / (2 * reach)

    body = [row_band(frame.width, _TOP + _STEP * number, _STEP) for number in range(0, len(rows), 2)]
    for number in range(round(2 * reach / _TICK) + 1):
        tick = -reach + number * _TICK
        body += [
            line_tag(x(tick), _TOP - 4, x(tick), bottom, "grid"),
            text_tag(x(tick), bottom + 15, _signed(tick, 1), style="m", anchor="middle"),
        ]
    body += [
        line_tag(x(ends.reference), _TOP - 4, x(ends.reference), bottom, "reference"),
        text_tag(x(ends.reference), _TOP - 9, ends.reference_label, style="m", anchor="middle"),
        text_tag(left, bottom + 32, f"← {ends.low}", style="m"),
        text_tag(right, bottom + 32, f"{ends.high} →", style="m", anchor="end"),
    ]
    for number, row in enumerate(rows):
        y = _TOP + _STEP * (number + 0.5)
        body.append(text_tag(left - 10, y + 4, shorten(row.label), anchor="end"))
        spread, hint = "", f"{row.label}: {_signed(row.mark.value)}"
        if row.mark.low is not None and row.mark.high is not None:
            spread = line_tag(x(row.mark.low), y, x(row.mark.high), y, "whisker ink1")
            hint += f" [{_signed(row.mark.low)}, {_signed(row.mark.high)}]"
        shape = arm_shape(1 if row.filled else 0, x(row.mark.value), y)
        body.append(f"<g><title>{escape(hint)}</title>{spread}{shape}</g>")
        body.append(text_tag(frame.width - 4, y + 4, _signed(row.mark.value), style="v", anchor="end"))
    return figure(frame, bottom + 42, body)


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"
