"""Scatter charts: a numbered mark per item with intervals in both directions; the best, or some, are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.charts.axis import Mark, tick_step
from reports.charts.svg import Frame, figure, line_tag, need, text_tag

_RADIUS = 9.0
_LEFT, _TOP, _BOTTOM, _HEIGHT = 58.0, 26.0, 46.0, 300.0


@dataclass(frozen=True)
class Point:
    """One item.

    Attributes:
        label: Its name.
        mark: Text inside the mark, one or two characters.
        x: Horizontal figure; low is better.
        y: Vertical figure.
    """

    label: str
    mark: str
    x: Mark
    y: Mark


@dataclass(frozen=True)
class Span:
    """A scale from ``low`` to ``high`` with its label."""

    label: str
    low: float
    high: float

    def part(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; values outside are moved to the nearer end."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values from ``low``, evenly spaced."""
        step = tick_step(self.high - self.low)
        return tuple(self.low + step * number for number in range(int((self.high - self.low) / step + 1e-9) + 1))


def front(points: Sequence[Point], *, high_is_better: bool) -> tuple[Point, ...]:
    """Return the points that no other point beats in one figure without being worse in the other, by ``x``.

    Args:
        points: The points.
        high_is_better: Whether a high ``y`` is better; a low ``x`` always is.
    """
    sign = -1.0 if high_is_better else 1.0

    def beaten(one: Point) -> bool:
        return any(
            other.x.value <= one.x.value
            and sign * other.y.value <= sign * one.y.value
            and (other.x.value, other.y.value) != (one.x.value, one.y.value)
            for other in points
        )

    return tuple(sorted((point for point in points if not beaten(point)), key=lambda point: point.x.value))


def scatter(frame: Frame, axes: tuple[Span, Span], points: Sequence[Point], *, high_is_better: bool) -> Markup:
    """Draw the points over a horizontal and a vertical scale; those on the front are filled and joined by steps.

    Raises:
        ValueError: There are no points.
    """
    need(points, "point")
    best, room = front(points, high_is_better=high_is_better), _Room(frame.width, *axes)
    body = [*room.grid(), _steps(room, best, high_is_better=high_is_better)]
    body += [room.whiskers(point) for point in points]
    body += [room.mark(point, filled=point in best) for point in sorted(points, key=lambda point: point in best)]
    return figure(frame, _HEIGHT + _TOP + _BOTTOM, body)


def trace(frame: Frame, axes: tuple[Span, Span], points: Sequence[Point], lines: Sequence[Sequence[Point]]) -> Markup:
    """Draw the points over a horizontal and a vertical scale, some of them joined.

    Args:
        frame: Of the chart.
        axes: The scales.
        points: All points.
        lines: Points that a line joins from left to right, for each line.

    Raises:
        ValueError: There are no points.
    """
    need(points, "point")
    room, body = _Room(frame.width, *axes), list[str]()
    for line in lines:
        ordered = sorted(line, key=lambda point: point.x.value)
        corners = " ".join(f"{room.x(point.x.value):.1f},{room.y(point.y.value):.1f}" for point in ordered)
        body.append(f'<polyline class="curve ink1 dash0" points="{corners}"/>')
    body += [*map(room.whiskers, points), *(room.mark(point, filled=True) for point in points)]
    return figure(frame, _HEIGHT + _TOP + _BOTTOM, [*room.grid(), *body])


@dataclass(frozen=True)
class _Room:
    """The area of a chart."""

    width: float
    across: Span
    up: Span

    def x(self, value: float) -> float:
        return _LEFT + (self.width - _LEFT - 16) * self.across.part(value)

    def y(self, value: float) -> float:
        return _TOP + _HEIGHT * (1 - self.up.part(value))

    def grid(self) -> list[str]:
        bottom, right = _TOP + _HEIGHT, self.x(self.across.high)
        parts = []
        for value in self.across.ticks:
            parts += [
                line_tag(self.x(value), _TOP, self.x(value), bottom, "grid"),
                text_tag(self.x(value), bottom + 15, f"{value:.2f}", style="m", anchor="middle"),
            ]
        for value in self.up.ticks:
            parts += [
                line_tag(_LEFT, self.y(value), right, self.y(value), "grid"),
                text_tag(_LEFT - 15, self.y(value) + 4, f"{value:.2f}", style="m", anchor="end"),
            ]
        parts.append(text_tag((_LEFT + right) / 2, bottom + 34, self.across.label, style="m", anchor="middle"))
        return [*parts, text_tag(4, 12, self.up.label, style="m")]

    def whiskers(self, point: Point) -> str:
        x, y, parts = self.x(point.x.value), self.y(point.y.value), ""
        if point.x.low is not None and point.x.high is not None:
            parts += line_tag(self.x(point.x.low), y, self.x(point.x.high), y, "whisker ink1")
        if point.y.low is not None and point.y.high is not None:
            parts += line_tag(x, self.y(point.y.low), x, self.y(point.y.high), "whisker ink1")
        return parts

    def mark(self, point: Point, *, filled: bool) -> str:
        x, y = self.x(point.x.value), self.y(point.y.value)
        hint = f"{point.mark} {point.label}: {point.x.value:.3f}, {point.y.value:.3f}"
        style = "filled" if filled else "hollow"
        return (
            f'<g class="point {style}"><title>{escape(hint)}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>'
            f"{text_tag(x, y + 4, point.mark, style='n', anchor='middle')}</g>"
        )


def _steps(room: _Room, best: Sequence[Point], *, high_is_better: bool) -> str:
    """Draw the border of what is beaten: from the top or bottom edge along the front to the right edge."""
    edge = room.up.low if high_is_better else room.up.high
    corners, level = [(room.x(best[0].x.value), room.y(edge))], room.y(edge)
    for point in best:
        corners += [(room.x(point.x.value), level), (room.x(point.x.value), room.y(point.y.value))]
        level = room.y(point.y.value)
    corners.append((room.x(room.across.high), level))
    return f'<polyline class="front" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'
