"""Charts of a share over a count, each line beside the range of random draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.charts.svg import Frame, arm_shape, figure, label_width, line_tag, need, shorten, text_tag

_TOP, _BOTTOM, _LEFT = 30.0, 190.0, 44.0
_APART = 15.0


@dataclass(frozen=True)
class BandedLine:
    """A line with a band.

    Attributes:
        label: Name of the line, at its end.
        values: Values at 0, 1, ….
        band_low: Lower edge of the band at the same places.
        band_high: Upper edge.
    """

    label: str
    values: tuple[float, ...]
    band_low: tuple[float, ...]
    band_high: tuple[float, ...]


def banded_lines(frame: Frame, label: str, lines: Sequence[BandedLine], *, along: str) -> Markup:
    """Draw shares in [0, 1] over a count; the axis covers the tenths between the smallest and the largest value.

    Args:
        frame: Attributes of the chart.
        label: What the vertical axis measures.
        lines: The lines, all of the same length.
        along: What is counted, in the plural.

    Raises:
        ValueError: There are no lines, or one has fewer than two values.
    """
    need(lines, "line")
    for line in lines:
        need(line.values[1:], f"second value in line {line.label!r}")
    every = [value for line in lines for value in (*line.values, *line.band_low, *line.band_high)]
    low, high = math.floor(10 * min(every) + 1e-9) / 10, math.ceil(10 * max(every) - 1e-9) / 10
    low, high = (low, high) if high > low else (max(0.0, low - 0.1), low + 0.1)
    box = _Box(_LEFT, frame.width - label_width([line.label for line in lines]) - 8, low, high)
    count = len(lines[0].values) - 1
    body = [text_tag(0, 14, label, style="m"), *_grid(box)]
    body += [
        text_tag(box.left, _BOTTOM + 16, f"0 {along}", style="m"),
        text_tag(box.right, _BOTTOM + 16, f"{count} {along}", style="m", anchor="end"),
    ]
    body += [_band(line, box) for line in lines]
    body += [_curve(number, line, box) for number, line in enumerate(lines, 1)]
    body += _names(lines, box)
    return figure(frame, _BOTTOM + 24, body)


@dataclass(frozen=True)
class _Box:
    """The plot, in pixels, and its vertical range."""

    left: float
    right: float
    low: float
    high: float

    def y(self, value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - self.low) / (self.high - self.low)

    def points(self, values: Sequence[float]) -> list[tuple[float, float]]:
        last = len(values) - 1
        return [(self.left + (self.right - self.left) * place / last, self.y(v)) for place, v in enumerate(values)]


def _grid(box: _Box) -> list[str]:
    tenths = round(10 * (box.high - box.low))
    every = 1 if tenths <= 5 else 2
    parts = []
    for number in range(0, tenths + 1, every):
        value = box.low + number / 10
        parts += [
            line_tag(box.left, box.y(value), box.right, box.y(value), "grid"),
            text_tag(box.left - 8, box.y(value) + 4, f"{value:.1f}", style="m", anchor="end"),
        ]
    return parts


def _band(line: BandedLine, box: _Box) -> str:
    outline = [*box.points(line.band_high), *reversed(box.points(line.band_low))]
    return f'<polygon class="range" points="{_path(outline)}"/>'


def _curve(number: int, line: BandedLine, box: _Box) -> str:
    points = box.points(line.values)
    every = max(len(points) // 5, 1)
    marks = "".join(arm_shape(number, x, y) for x, y in points[::every])
    return f'<polyline class="curve ink{number % 4} dash{number % 4}" points="{_path(points)}"/>{marks}'


def _names(lines: Sequence[BandedLine], box: _Box) -> list[str]:
    """Write the name of each line at its end, and move names apart that would overlap."""
    order = sorted(range(len(lines)), key=lambda number: box.y(lines[number].values[-1]))
    names, lowest = [], -math.inf
    for number in order:
        lowest = max(box.y(lines[number].values[-1]) + 4, lowest + _APART)
        name = shorten(lines[number].label)
        names.append(text_tag(box.right + 12, lowest, name, style=f"v ink{(number + 1) % 4}"))
    return names


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
