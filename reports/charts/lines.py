"""Line charts of values over denoising steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from reports.charts.axis import tick_step
from reports.charts.svg import Frame, arm_shape, figure, label_width, line_tag, need, shorten, text_tag


@dataclass(frozen=True)
class Series:
    """A named line; ``values`` start at step 1."""

    label: str
    values: tuple[float, ...]


def lines(frame: Frame, label: str, series: Sequence[Series], *, high: float = 1.0) -> Markup:
    """Draw values in [0, ``high``] over denoising steps; dash, mark and an end label identify each line.

    Raises:
        ValueError: There are no series, or a series is empty.
    """
    need(series, "series")
    for item in series:
        need(item.values, f"value in series {item.label!r}")
    steps = max(len(item.values) for item in series)
    left, bottom = 44.0, 190.0
    right = frame.width - label_width([item.label for item in series]) - 8
    body = [text_tag(0, 14, label, style="m"), *_line_grid(left, right, bottom, high)]
    body += [
        text_tag(left, bottom + 16, "step 1, noise", style="m"),
        text_tag(right, bottom + 16, f"step {steps}", style="m", anchor="end"),
    ]
    ends = _spread([_height(item.values[-1], bottom, high) for item in series])
    for number, item in enumerate(series):
        body.append(_polyline(number, item, (left, right, bottom), steps, high))
        body.append(text_tag(right + 12, ends[number] + 4, shorten(item.label), style=f"v ink{number % 4}"))
    return figure(frame, bottom + 24, body)


def _height(value: float, bottom: float, high: float) -> float:
    return bottom - (bottom - 30) * min(max(value / high, 0.0), 1.0)


def _line_grid(left: float, right: float, bottom: float, high: float) -> list[str]:
    parts = []
    step = tick_step(high)
    for number in range(int(high / step + 1e-9) + 1):
        y = _height(step * number, bottom, high)
        parts += [
            line_tag(left, y, right, y, "grid"),
            text_tag(left - 8, y + 4, f"{step * number:.2f}", style="m", anchor="end"),
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
    marks = "".join(arm_shape(number, x, y) for x, y in points[::every])
    return f'<polyline class="curve ink{number % 4} dash{number % 4}" points="{path}"/>{marks}'


def _spread(places: Sequence[float], apart: float = 15.0) -> list[float]:
    """Move labels apart vertically and keep their order, so that no two overlap."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    spread = list(places)
    for upper, lower in pairwise(order):
        spread[lower] = max(spread[lower], spread[upper] + apart)
    return spread
