"""Maps: points in two dimensions with their names, which are placed so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.charts.svg import CHARACTER, Frame, figure, line_tag, need, shorten, text_tag

_HEIGHT, _EDGE, _LINE = 460.0, 90.0, 15.0
_RINGS = 40


@dataclass(frozen=True)
class Place:
    """A point with its name and the number of its cluster, from 1."""

    label: str
    x: float
    y: float
    cluster: int


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def label_map(frame: Frame, places: Sequence[Place]) -> Markup:
    """Draw points; a name without a free place near its point is drawn further away, joined by a line.

    Raises:
        ValueError: There are no points.
    """
    need(places, "point")
    points = _in_pixels(frame, places)
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    body = []
    for place, (x, y) in sorted(zip(places, points, strict=True), key=lambda pair: pair[1][1]):
        text = shorten(place.label)
        box = _free_box(x, y, len(text) * CHARACTER, taken, frame.width)
        taken.append(box)
        middle = (box.left + box.right) / 2
        if not box.covers(_Box(x - 16, y - 16, x + 16, y + 16)):
            body.append(line_tag(x, y, middle, (box.top + box.bottom) / 2, "link"))
        style = f"group group{(place.cluster - 1) % 6}"
        body.append(
            f'<g><title>{escape(place.label)}, cluster {place.cluster}</title><circle class="{style}" cx="{x:.1f}" '
            f'cy="{y:.1f}" r="5"/></g>'
        )
        body.append(text_tag(middle, box.bottom - 3, text, anchor="middle"))
    return figure(frame, _HEIGHT, body)


def _in_pixels(frame: Frame, places: Sequence[Place]) -> list[tuple[float, float]]:
    """Scale both dimensions alike, so that distances stay comparable."""
    xs, ys = [place.x for place in places], [place.y for place in places]
    across, down = max(xs) - min(xs), max(ys) - min(ys)
    scale = min((frame.width - 2 * _EDGE) / (across or 1.0), (_HEIGHT - 60) / (down or 1.0))
    left, top = (frame.width - across * scale) / 2, (_HEIGHT - down * scale) / 2
    return [(left + (place.x - min(xs)) * scale, top + (max(ys) - place.y) * scale) for place in places]


def _free_box(x: float, y: float, width: float, taken: Sequence[_Box], right: float) -> _Box:
    """Return the nearest place for a name that covers nothing; the first one if there is none."""
    first = _Box(x + 8, y - _LINE / 2, x + 8 + width, y + _LINE / 2)
    for ring in range(1, _RINGS + 1):
        gap = 8.0 * ring
        for across, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)):
            left = x + gap * across + (0 if across > 0 else -width if across < 0 else -width / 2)
            middle = y + down * (gap + 3)
            box = _Box(left, middle - _LINE / 2, left + width, middle + _LINE / 2)
            inside = box.left >= 0 and box.right <= right and box.top >= 0 and box.bottom <= _HEIGHT
            if inside and not any(box.covers(other) for other in taken):
                return box
    return first
