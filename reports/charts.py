"""Small charts as inline SVG text: pure functions of numbers and labels, no script, no file, no address.

Colours are CSS classes that the report's stylesheet defines for light and dark; shape and text repeat whatever a
colour says. Every text is escaped here, so a hostile label stays a label. Lengths are CSS pixels at full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

_CHARACTER = 7.0
"""Advance of a 12 px character in a wide system font: reserves room for text that only a browser can measure."""
_LABEL_CHARACTERS = 24


@dataclass(frozen=True)
class Mark:
    """A value on an axis with its 95 % interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of a dumbbell chart.

    Attributes:
        label: What the line is of.
        marks: A mark per arm in the arms' order, None where an arm has no value.
        target: Where a dashed line of its own stands, None where the axis has one for all.
    """

    label: str
    marks: tuple[Mark | None, ...]
    target: float | None = None


@dataclass(frozen=True)
class Axis:
    """A horizontal scale.

    Attributes:
        label: What is measured.
        low_end: Words at the lower end of the axis, empty for none.
        high_end: Words at the upper end.
        high: Upper end; the lower end is 0.
        percent: Whether values are shares.
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
        """Round values from 0 to ``high``."""
        step = 0.25 if self.percent else tick_step(self.high)
        return tuple(step * number for number in range(int(self.high / step + 1e-9) + 1))

    @property
    def column(self) -> float:
        """Width of a column of values beside the chart."""
        return 34.0 if self.percent else 42.0


@dataclass(frozen=True)
class Bar:
    """One stacked bar: shares in the order of the groups, and the arm it belongs to."""

    arm: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class BarRow:
    """The bars of one label, one per arm."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Series:
    """A named line; ``values`` belong to the steps from 1 on."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """What every chart carries: a key unique in the document, a title, a description, a width in pixels."""

    key: str
    title: str
    description: str
    width: float = 880.0


def tick_step(high: float) -> float:
    """Distance of ticks on an axis from 0 to ``high``, so that there are three to six of them."""
    return next((step for step in (0.05, 0.1, 0.2) if high <= 5 * step + 1e-9), max(0.5, high / 5))


def _svg(frame: Frame, height: float, body: Sequence[str]) -> Markup:
    key = escape(frame.key)
    return Markup(  # noqa: S704 - every text in it went through escape
        f'<svg class="chart" role="img" viewBox="0 0 {frame.width:.0f} {height:.0f}" width="{frame.width:.0f}" '
        f'height="{height:.0f}" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(frame.title)}</title><desc id="{key}-desc">{escape(frame.description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: str, *, style: str = "t", anchor: str = "start", extra: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _shorten(text: str) -> str:
    return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1] + "…"


def _label_width(labels: Sequence[str]) -> float:
    return max((len(_shorten(label)) for label in labels), default=0) * _CHARACTER + 14


def _format(value: float, percent: bool) -> str:
    return f"{100 * value:.0f}" if percent else f"{value:.2f}"


def _shape(arm: int, x: float, y: float) -> str:
    """Draw an arm's mark: hollow circle for the baseline, then diamond, square and triangle, all filled."""
    style = f'class="arm arm{arm % 4}"'
    match arm % 4:
        case 0:
            return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="4.6"/>'
        case 1:
            return f'<path {style} d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z"/>'
        case 2:
            return f'<path {style} d="M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9z"/>'
        case _:
            return f'<path {style} d="M{x:.1f} {y - 5.5:.1f}l5.5 9.5h-11z"/>'


@dataclass(frozen=True)
class _Legend:
    """Marks with their names, wrapped into lines; ``bottom`` is where the chart may begin."""

    body: str
    bottom: float


def _legend(entries: Sequence[tuple[str, str]], x: float, y: float, right: float) -> _Legend:
    """Lay out (mark drawn at the origin, name) pairs from ``x`` to ``right``, the first line at height ``y``."""
    parts = []
    place = x
    for mark, name in entries:
        width = len(_shorten(name)) * _CHARACTER + 34
        if place > x and place + width > right:
            place, y = x, y + 18
        parts.append(f'<g transform="translate({place:.1f} {y:.1f})">{mark}{_text(17, 0, _shorten(name))}</g>')
        place += width
    return _Legend("".join(parts), y + 14)


def _arm_legend(arms: Sequence[str], x: float, right: float) -> _Legend:
    return _legend([(_shape(arm, 6, -4), name) for arm, name in enumerate(arms)], x, 16, right)


def dumbbell(frame: Frame, axis: Axis, arms: Sequence[str], rows: Sequence[Row]) -> Markup:
    """Draw one line per row with a mark per arm, its interval, and a dashed reference line.

    Raises:
        ValueError: There are no rows.
    """
    _need(rows, "row")
    step = max(24.0, 9.0 * len(arms) + 8)
    left = _label_width([row.label for row in rows])
    scale = _Scale(axis, left, frame.width - (len(arms) * axis.column + 12))
    legend = _arm_legend(arms, left, frame.width)
    top = legend.bottom + 22
    bottom = top + step * len(rows)
    body = [legend.body]
    body += [_band(frame.width, top + step * number, step) for number in range(0, len(rows), 2)]
    body += [*_grid(scale, top - 4, bottom), *_reference(scale, top - 4, bottom), *_axis_words(scale, bottom + 32)]
    body += [_shape(arm, frame.width - (len(arms) - 1 - arm) * axis.column - 13, top - 10) for arm in range(len(arms))]
    for number, row in enumerate(rows):
        if row.target is not None:
            x = scale.x(row.target)
            body.append(_line(x, top + step * number + 2, x, top + step * (number + 1) - 2, "reference"))
        body.append(_dumbbell_row(frame, scale, row, top + step * (number + 0.5)))
    return _svg(frame, bottom + 42, body)


def _band(width: float, y: float, height: float) -> str:
    return f'<rect class="band" x="0" y="{y:.1f}" width="{width:.0f}" height="{height:.1f}"/>'


def _axis_words(scale: _Scale, y: float) -> list[str]:
    axis = scale.axis
    words = [
        (scale.left, axis.low_end and f"← {axis.low_end}", "start"),
        ((scale.left + scale.right) / 2, axis.label, "middle"),
        (scale.right, axis.high_end and f"{axis.high_end} →", "end"),
    ]
    return [_text(x, y, text, style="m", anchor=anchor) for x, text, anchor in words if text]


@dataclass(frozen=True)
class _Scale:
    axis: Axis
    left: float
    right: float

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * min(max(value / self.axis.high, 0.0), 1.0)


def _grid(scale: _Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for value in scale.axis.ticks:
        text = f"{100 * value:.0f}\N{NO-BREAK SPACE}%" if scale.axis.percent else f"{value:.1f}"
        parts += [
            _line(scale.x(value), top, scale.x(value), bottom, "grid"),
            _text(scale.x(value), bottom + 15, text, style="m", anchor="middle"),
        ]
    return parts


def _reference(scale: _Scale, top: float, bottom: float) -> list[str]:
    if scale.axis.reference is None:
        return []
    x = scale.x(scale.axis.reference)
    near_left = x - scale.left < len(scale.axis.reference_label) * _CHARACTER / 2
    anchor, shift = ("start", -2.0) if near_left else ("middle", 0.0)
    return [
        _line(x, top, x, bottom, "reference"),
        _text(x + shift, top - 5, scale.axis.reference_label, style="m", anchor=anchor),
    ]


def _dumbbell_row(frame: Frame, scale: _Scale, row: Row, y: float) -> str:
    parts = [_text(scale.left - 10, y + 4, _shorten(row.label), anchor="end")]
    present = [(arm, mark) for arm, mark in enumerate(row.marks) if mark is not None]
    places = {arm: y + (arm - (len(row.marks) - 1) / 2) * 9 for arm, _ in present}
    if len(present) == 2:
        (first, start), (second, end) = present
        parts.append(_line(scale.x(start.value), places[first], scale.x(end.value), places[second], "link"))
    for arm, mark in present:
        parts.append(_mark(scale, arm, mark, places[arm], row.label))
    if not present:
        parts.append(_text(scale.left + 6, y + 4, "nothing classified", style="m"))
    for arm, mark in present:
        x = frame.width - (len(row.marks) - 1 - arm) * scale.axis.column - 4
        parts.append(_text(x, y + 4, _format(mark.value, scale.axis.percent), style=f"v ink{arm % 4}", anchor="end"))
    return "".join(parts)


def _mark(scale: _Scale, arm: int, mark: Mark, y: float, label: str) -> str:
    spread = ""
    if mark.low is not None and mark.high is not None:
        spread = _line(scale.x(mark.low), y, scale.x(mark.high), y, f"whisker ink{arm % 4}")
    hint = f"{label}: {_format(mark.value, scale.axis.percent)}"
    if mark.low is not None and mark.high is not None:
        hint += f" [{_format(mark.low, scale.axis.percent)}, {_format(mark.high, scale.axis.percent)}]"
    return f"<g><title>{escape(hint)}</title>{spread}{_shape(arm, scale.x(mark.value), y)}</g>"


def stacked_bars(frame: Frame, arms: Sequence[str], groups: Sequence[str], rows: Sequence[BarRow]) -> Markup:
    """Draw a bundle of stacked bars per row, one bar per arm, with each share printed where it fits.

    Raises:
        ValueError: There are no rows.
    """
    _need(rows, "row")
    thickness, gap = 15.0, 9.0
    left = _label_width([row.label for row in rows]) + 16
    legend = _arm_legend(arms, 0, frame.width)
    swatches = [(_swatch(number), group) for number, group in enumerate(groups)]
    key = _legend(swatches, left, legend.bottom + 6, frame.width)
    body = [legend.body, key.body]
    y = key.bottom
    for row in rows:
        middle = y + len(row.bars) * thickness / 2 + 4
        body.append(_text(left - 26, middle, _shorten(row.label), anchor="end"))
        for bar in row.bars:
            body += [_shape(bar.arm, left - 13, y + thickness / 2 - 0.5), _stack(bar, groups, left, frame.width - 4, y)]
            y += thickness
        y += gap
    return _svg(frame, y + 2, body)


def _swatch(group: int) -> str:
    return f'<rect class="group group{group % 6}" x="0" y="-10" width="13" height="12"/>'


def _stack(bar: Bar, groups: Sequence[str], left: float, right: float, y: float) -> str:
    parts = []
    x = left
    for number, (group, share) in enumerate(zip(groups, bar.shares, strict=True)):
        width = share * (right - left)
        text = _format(share, percent=True)
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="13"'
        parts.append(f"<g><title>{escape(group)}: {text} %</title>")
        parts.append(f'<rect class="group group{number % 6}" {place}/>')
        if width >= 24:
            parts.append(_text(x + width / 2, y + 10.5, text, style=f"on{number % 6}", anchor="middle"))
        parts.append("</g>")
        x += width
    return "".join(parts)


@dataclass(frozen=True)
class HeatRow:
    """A line of a heat map; ``values`` follow the columns, ``opens_block`` sets it apart from the line above."""

    label: str
    values: tuple[float, ...]
    opens_block: bool = False


def heatmap(frame: Frame, columns: Sequence[str], rows: Sequence[HeatRow]) -> Markup:
    """Draw signed values as a diverging map, scaled to the largest magnitude; a sign marks each strong cell.

    Raises:
        ValueError: There are no rows, or no columns.
    """
    _need(rows, "row")
    _need(columns, "column")
    largest = max((abs(value) for row in rows for value in row.values), default=0.0) or 1.0
    left = _label_width([row.label for row in rows])
    top = _label_width(columns) * 0.72 + 12
    width = min((frame.width - left - 56) / len(columns), 44.0)
    body = []
    for number, column in enumerate(columns):
        x = left + (number + 0.5) * width
        body.append(_text(x, top - 8, _shorten(column), extra=f' transform="rotate(-42 {x:.1f} {top - 8:.1f})"'))
    y = top
    for number, row in enumerate(rows):
        y += 8 if row.opens_block and number else 0
        body.append(_text(left - 10, y + 14, _shorten(row.label), anchor="end"))
        body += [_cell(value / largest, left + place * width, y, width) for place, value in enumerate(row.values)]
        y += 20
    return _svg(frame, y + 6, body)


def _cell(strength: float, x: float, y: float, width: float) -> str:
    level = round(abs(strength) * 4)
    name = "heat0" if level == 0 else f"heat{'p' if strength > 0 else 'n'}{level}"
    rect = f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width - 1.5:.1f}" height="18.5"/>'
    if level < 2:
        return rect
    sign = "+" if strength > 0 else "−"
    return rect + _text(x + (width - 1.5) / 2, y + 13.5, sign, style=f"on-{name}", anchor="middle")


def lines(frame: Frame, label: str, series: Sequence[Series], *, high: float = 1.0) -> Markup:
    """Draw values in [0, ``high``] over denoising steps; dash, mark and a label at the end tell the lines apart.

    Raises:
        ValueError: There are no series, or a series is empty.
    """
    _need(series, "series")
    for item in series:
        _need(item.values, f"value in series {item.label!r}")
    steps = max(len(item.values) for item in series)
    left, bottom = 44.0, 190.0
    right = frame.width - _label_width([item.label for item in series]) - 8
    body = [_text(0, 14, label, style="m"), *_line_grid(left, right, bottom, high)]
    body += [
        _text(left, bottom + 16, "step 1, noise", style="m"),
        _text(right, bottom + 16, f"step {steps}", style="m", anchor="end"),
    ]
    ends = _spread([_height(item.values[-1], bottom, high) for item in series])
    for number, item in enumerate(series):
        body.append(_polyline(number, item, (left, right, bottom), steps, high))
        body.append(_text(right + 12, ends[number] + 4, _shorten(item.label), style=f"v ink{number % 4}"))
    return _svg(frame, bottom + 24, body)


def _height(value: float, bottom: float, high: float) -> float:
    return bottom - (bottom - 30) * min(max(value / high, 0.0), 1.0)


def _line_grid(left: float, right: float, bottom: float, high: float) -> list[str]:
    parts = []
    step = tick_step(high)
    for number in range(int(high / step + 1e-9) + 1):
        y = _height(step * number, bottom, high)
        parts += [
            _line(left, y, right, y, "grid"),
            _text(left - 8, y + 4, f"{step * number:.2f}", style="m", anchor="end"),
        ]
    return parts


def _polyline(number: int, item: Series, box: tuple[float, float, float], steps: int, high: float) -> str:
    left, right, bottom = box
    points = [
        (left + (right - left) * (place / max(steps - 1, 1)), _height(value, bottom, high))
        for place, value in enumerate(item.values)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    every = max(len(points) // 5, 1)
    marks = "".join(_shape(number, x, y) for x, y in points[::every])
    return f'<polyline class="curve ink{number % 4} dash{number % 4}" points="{path}"/>{marks}'


def _spread(places: Sequence[float], apart: float = 15.0) -> list[float]:
    """Push label heights apart, keeping their order, so that no two overlap."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    spread = list(places)
    for upper, lower in pairwise(order):
        spread[lower] = max(spread[lower], spread[upper] + apart)
    return spread


def _need(items: Sequence[object], what: str) -> None:
    if not items:
        raise ValueError(f"a chart needs at least one {what}, found none; leave it out where there is nothing to show")


@dataclass(frozen=True)
class Moment:
    """One date of a timeline.

    Attributes:
        label: The date in words.
        place: Where it lies between the first date, 0, and the last, 1.
        marks: A mark per arm in the arms' order, None where an arm has no value.
        event: What happened then, drawn as a line across; empty for nothing.
    """

    label: str
    place: float
    marks: tuple[Mark | None, ...]
    event: str = ""


@dataclass(frozen=True)
class _Plane:
    """Where the values of a timeline lie: 0 at ``bottom``, ``high`` at ``top``."""

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
    """Draw a value over time, a line and marks with intervals per arm; events cross all of them.

    Raises:
        ValueError: There is no moment.
    """
    _need(moments, "moment")
    marks = [mark for moment in moments for mark in moment.marks if mark is not None]
    largest = max((mark.high if mark.high is not None else mark.value for mark in marks), default=0.0)
    legend = _arm_legend(arms, 44, frame.width)
    plane = _Plane(56, frame.width - 40, legend.bottom + 34, legend.bottom + 204, max(largest * 1.05, 0.05))
    body = [legend.body, _text(0, legend.bottom + 14, label, style="m"), *_plane_grid(plane)]
    body += _dates(plane, moments)
    for arm in range(len(arms)):
        body.append(_course(plane, arm, moments))
    body += [_moment_mark(plane, arm, moment) for moment in moments for arm in range(len(arms))]
    return _svg(frame, plane.bottom + 26, body)


def _plane_grid(plane: _Plane) -> list[str]:
    step = tick_step(plane.high)
    values = [step * number for number in range(int(plane.high / step + 1e-9) + 1)]
    return [
        part
        for value in values
        for part in (
            _line(plane.left - 6, plane.y(value), plane.right + 6, plane.y(value), "grid"),
            _text(plane.left - 12, plane.y(value) + 4, f"{value:.2f}", style="m", anchor="end"),
        )
    ]


def _dates(plane: _Plane, moments: Sequence[Moment]) -> list[str]:
    """Name the dates that have room, and draw what happened."""
    parts, free = [], -1.0
    for moment in moments:
        x, half = plane.x(moment.place), len(moment.label) * _CHARACTER / 2
        if x - half >= free:
            parts.append(_text(x, plane.bottom + 18, moment.label, style="m", anchor="middle"))
            free = x + half + 10
        if moment.event:
            parts.append(_line(x, plane.top - 8, x, plane.bottom, "reference"))
            parts.append(_text(x, plane.top - 12, moment.event, style="m", anchor="middle"))
    return parts


def _course(plane: _Plane, arm: int, moments: Sequence[Moment]) -> str:
    points = [(moment.place, mark.value) for moment in moments if (mark := moment.marks[arm]) is not None]
    path = " ".join(f"{plane.x(place):.1f},{plane.y(value):.1f}" for place, value in points)
    return f'<polyline class="curve ink{arm % 4} dash{arm % 4}" points="{path}"/>'


def _moment_mark(plane: _Plane, arm: int, moment: Moment) -> str:
    mark = moment.marks[arm]
    if mark is None:
        return ""
    x, spread, hint = plane.x(moment.place), "", f"{moment.label}: {_format(mark.value, percent=False)}"
    if mark.low is not None and mark.high is not None:
        spread = _line(x, plane.y(mark.low), x, plane.y(mark.high), f"whisker ink{arm % 4}")
        hint += f" [{_format(mark.low, percent=False)}, {_format(mark.high, percent=False)}]"
    return f"<g><title>{escape(hint)}</title>{spread}{_shape(arm, x, plane.y(mark.value))}</g>"
