"""Line charts of values over dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.charts.axis import Mark, tick_step, tick_text
from reports.charts.svg import CHARACTER, Frame, arm_legend, arm_shape, figure, line_tag, need, text_tag


@dataclass(frozen=True)
class Moment:
    """One date of a timeline.

    Attributes:
        label: The date as text.
        place: Position between the first date, 0, and the last, 1.
        marks: A mark per arm in the arms' order, None if an arm has no value.
        event: Text of an event on that date, drawn as a vertical line; empty for no event.
    """

    label: str
    place: float
    marks: tuple[Mark | None, ...]
    event: str = ""


@dataclass(frozen=True)
class _Plane:
    """Maps values and dates of a timeline to positions: value 0 at ``bottom``, ``high`` at ``top``."""

    left: float
    right: float
    top: float
    bottom: float
    high: float

    def x(self, place: float) -> float:
        return self.left + (self.right - self.left) * place

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * min(max(value / self.high, 0.0), 1.0)


def timeline(frame: Frame, label: str, arms: Sequence[str], moments: Sequence[Moment]) -> Markup:
    """Draw one line per arm with marks and intervals over time; a vertical line marks each event.

    Raises:
        ValueError: ``moments`` is empty.
    """
    need(moments, "moment")
    marks = [mark for moment in moments for mark in moment.marks if mark is not None]
    largest = max((mark.high if mark.high is not None else mark.value for mark in marks), default=0.0)
    legend = arm_legend(arms, 44, frame.width)
    plane = _Plane(56, frame.width - 40, legend.bottom + 34, legend.bottom + 204, max(largest * 1.05, 0.05))
    body = [legend.body, text_tag(0, legend.bottom + 14, label, style="m"), *_plane_grid(plane)]
    body += _dates(plane, moments)
    for arm in range(len(arms)):
        body.append(_course(plane, arm, moments))
    body += [_moment_mark(plane, arm, moment) for moment in moments for arm in range(len(arms))]
    return figure(frame, plane.bottom + 26, body)


def _plane_grid(plane: _Plane) -> list[str]:
    step = tick_step(plane.high)
    values = [step * number for number in range(int(plane.high / step + 1e-9) + 1)]
    return [
        part
        for value in values
        for part in (
            line_tag(plane.left - 6, plane.y(value), plane.right + 6, plane.y(value), "grid"),
            text_tag(plane.left - 12, plane.y(value) + 4, f"{value:.2f}", style="m", anchor="end"),
        )
    ]


def _dates(plane: _Plane, moments: Sequence[Moment]) -> list[str]:
    """Print the dates that have enough room, and draw the events."""
    parts, free = [], -1.0
    for moment in moments:
        x, half = plane.x(moment.place), len(moment.label) * CHARACTER / 2
        if x - half >= free:
            parts.append(text_tag(x, plane.bottom + 18, moment.label, style="m", anchor="middle"))
            free = x + half + 10
        if moment.event:
            parts.append(line_tag(x, plane.top - 8, x, plane.bottom, "reference"))
            parts.append(text_tag(x, plane.top - 12, moment.event, style="m", anchor="middle"))
    return parts


def _course(plane: _Plane, arm: int, moments: Sequence[Moment]) -> str:
    points = [(moment.place, mark.value) for moment in moments if (mark := moment.marks[arm]) is not None]
    path = " ".join(f"{plane.x(place):.1f},{plane.y(value):.1f}" for place, value in points)
    return f'<polyline class="curve ink{arm % 4} dash{arm % 4}" points="{path}"/>'


def _moment_mark(plane: _Plane, arm: int, moment: Moment) -> str:
    mark = moment.marks[arm]
    if mark is None:
        return ""
    x, spread, hint = plane.x(moment.place), "", f"{moment.label}: {tick_text(mark.value, percent=False)}"
    if mark.low is not None and mark.high is not None:
        spread = line_tag(x, plane.y(mark.low), x, plane.y(mark.high), f"whisker ink{arm % 4}")
        hint += f" [{tick_text(mark.low, percent=False)}, {tick_text(mark.high, percent=False)}]"
    return f"<g><title>{escape(hint)}</title>{spread}{arm_shape(arm, x, plane.y(mark.value))}</g>"
