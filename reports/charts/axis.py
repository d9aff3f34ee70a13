"""A horizontal axis: its scale, ticks and reference."""

from __future__ import annotations

from dataclasses import dataclass

from audit.records.estimates import percent
from reports.charts.svg import CHARACTER, line_tag, text_tag


@dataclass(frozen=True)
class Mark:
    """A value on an axis, with its 95 % interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Axis:
    """A horizontal scale.

    Attributes:
        label: What is measured.
        low_end: Words at the lower end of the axis, empty for none.
        high_end: Words at the upper end.
        high: Upper end; the lower end is 0.
        percent: Whether values are shares, which are printed in percent.
        reference: Value of the dashed line.
        reference_label: What the dashed line means.
    """

    label: str
    high: float
    percent: bool
    reference: float | None = None
    reference_label: str = ""
    low_end: str = ""
    high_end: str = ""

    @property
    def ticks(self) -> tuple[float, ...]:
        """Evenly spaced round values from 0 to ``high``."""
        step = 0.25 if self.percent else tick_step(self.high)
        return tuple(step * number for number in range(int(self.high / step + 1e-9) + 1))

    @property
    def column(self) -> float:
        """Width of the column that prints the values beside the chart."""
        return 34.0 if self.percent else 42.0


def tick_step(high: float) -> float:
    """Return the distance between ticks on an axis from 0 to ``high``; it gives three to six ticks."""
    return next((step for step in (0.05, 0.1, 0.2) if high <= 5 * step + 1e-9), max(0.5, high / 5))


def tick_text(value: float, percent: bool) -> str:
    """Return a value as text: a whole percentage without a sign, or two decimals."""
    return f"{100 * value:.0f}" if percent else f"{value:.2f}"


@dataclass(frozen=True)
class Scale:
    """Maps values of an axis to horizontal positions in the picture, from ``left`` to ``right``."""

    axis: Axis
    left: float
    right: float

    def x(self, value: float) -> float:
        """Return the position of a value; values outside the axis are moved to its nearer end."""
        return self.left + (self.right - self.left) * min(max(value / self.axis.high, 0.0), 1.0)


def axis_words(scale: Scale, y: float) -> list[str]:
    """Draw the label of the axis and the meanings of its ends, below it."""
    axis = scale.axis
    words = [
        (scale.left, axis.low_end and f"← {axis.low_end}", "start"),
        ((scale.left + scale.right) / 2, axis.label, "middle"),
        (scale.right, axis.high_end and f"{axis.high_end} →", "end"),
    ]
    return [text_tag(x, y, text, style="m", anchor=anchor) for x, text, anchor in words if text]


def tick_lines(scale: Scale, top: float, bottom: float) -> list[str]:
    """Draw a line and a number for each tick."""
    parts = []
    for value in scale.axis.ticks:
        text = percent(value) if scale.axis.percent else f"{value:.1f}"
        parts += [
            line_tag(scale.x(value), top, scale.x(value), bottom, "grid"),
            text_tag(scale.x(value), bottom + 15, text, style="m", anchor="middle"),
        ]
    return parts


def reference_line(scale: Scale, top: float, bottom: float) -> list[str]:
    """Draw the reference line of the axis, if it has one."""
    if scale.axis.reference is None:
        return []
    x = scale.x(scale.axis.reference)
    near_left = x - scale.left < len(scale.axis.reference_label) * CHARACTER / 2
    anchor, shift = ("start", -2.0) if near_left else ("middle", 0.0)
    return [
        line_tag(x, top, x, bottom, "reference"),
        text_tag(x + shift, top - 5, scale.axis.reference_label, style="m", anchor=anchor),
    ]
