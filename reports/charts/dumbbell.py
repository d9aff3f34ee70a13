"""Dumbbell charts: a row per prompt, with a mark and an interval for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.charts.axis import Axis, Mark, Scale, axis_words, reference_line, tick_lines, tick_text
from reports.charts.svg import (
    Frame,
    arm_legend,
    arm_shape,
    figure,
    label_width,
    line_tag,
    need,
    row_band,
    shorten,
    text_tag,
)


@dataclass(frozen=True)
class Row:
    """One line of a dumbbell chart.

    Attributes:
        label: Name of the row.
        marks: A mark per arm in the arms' order, None if an arm has no value.
        target: Position of this row's own dashed line, None if the axis has one line for all rows.
    """

    label: str
    marks: tuple[Mark | None, ...]
    target: float | None = None


def dumbbell(frame: Frame, axis: Axis, arms: Sequence[str], rows: Sequence[Row]) -> Markup:
    """Draw one line per row with a mark per arm, its interval, and a dashed reference line.

    Raises:
        ValueError: There are no rows.
    """
    need(rows, "row")
    step = max(24.0, 9.0 * len(arms) + 8)
    left = label_width([row.label for row in rows])
    scale = Scale(axis, left, frame.width - (len(arms) * axis.column + 12))
    legend = arm_legend(arms, left, frame.width)
    top = legend.bottom + 22
    bottom = top + step * len(rows)
    body = [legend.body]
    body += [row_band(frame.width, top + step * number, step) for number in range(0, len(rows), 2)]
    body += [
        *tick_lines(scale, top - 4, bottom),
        *reference_line(scale, top - 4, bottom),
        *axis_words(scale, bottom + 32),
    ]
    body += [
        arm_shape(arm, frame.width - (len(arms) - 1 - arm) * axis.column - 13, top - 10) for arm in range(len(arms))
    ]
    for number, row in enumerate(rows):
        if row.target is not None:
            x = scale.x(row.target)
            body.append(line_tag(x, top + step * number + 2, x, top + step * (number + 1) - 2, "reference"))
        body.append(_dumbbell_row(frame, scale, row, top + step * (number + 0.5)))
    return figure(frame, bottom + 42, body)


def _dumbbell_row(frame: Frame, scale: Scale, row: Row, y: float) -> str:
    parts = [text_tag(scale.left - 10, y + 4, shorten(row.label), anchor="end")]
    present = [(arm, mark) for arm, mark in enumerate(row.marks) if mark is not None]
    places = {arm: y + (arm - (len(row.marks) - 1) / 2) * 9 for arm, _ in present}
    if len(present) == 2:
        (first, start), (second, end) = present
        parts.append(line_tag(scale.x(start.value), places[first], scale.x(end.value), places[second], "link"))
    for arm, mark in present:
        parts.append(_mark(scale, arm, mark, places[arm], row.label))
    if not present:
        parts.append(text_tag(scale.left + 6, y + 4, "nothing classified", style="m"))
    for arm, mark in present:
        x = frame.width - (len(row.marks) - 1 - arm) * scale.axis.column - 4
        parts.append(
            text_tag(x, y + 4, tick_text(mark.value, scale.axis.percent), style=f"v ink{arm % 4}", anchor="end")
        )
    return "".join(parts)


def _mark(scale: Scale, arm: int, mark: Mark, y: float, label: str) -> str:
    spread = ""
    if mark.low is not None and mark.high is not None:
        spread = line_tag(scale.x(mark.low), y, scale.x(mark.high), y, f"whisker ink{arm % 4}")
    hint = f"{label}: {tick_text(mark.value, scale.axis.percent)}"
    if mark.low is not None and mark.high is not None:
        hint += f" [{tick_text(mark.low, scale.axis.percent)}, {tick_text(mark.high, scale.axis.percent)}]"
    return f"<g><title>{escape(hint)}</title>{spread}{arm_shape(arm, scale.x(mark.value), y)}</g>"
