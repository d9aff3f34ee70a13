"""The SVG frame of a chart, and the shapes, texts and legends that all charts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

CHARACTER = 7.0
"""Width of a 12 px character in a wide system font. It reserves space, since only a browser can measure text."""

_LABEL_CHARACTERS = 24


@dataclass(frozen=True)
class Frame:
    """Attributes of every chart: a key unique in the document, a title, a description, a width in pixels."""

    key: str
    title: str
    description: str
    width: float = 880.0


def figure(frame: Frame, height: float, body: Sequence[str]) -> Markup:
    """Return the drawn parts as one SVG picture with a title and a description."""
    key = escape(frame.key)
    return Markup(  # noqa: S704 - every text in it went through escape
        f'<svg class="chart" role="img" viewBox="0 0 {frame.width:.0f} {height:.0f}" width="{frame.width:.0f}" '
        f'height="{height:.0f}" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(frame.title)}</title><desc id="{key}-desc">{escape(frame.description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def text_tag(x: float, y: float, text: str, *, style: str = "t", anchor: str = "start", extra: str = "") -> str:
    """Draw a text, escaped."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def line_tag(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Draw a straight line."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def shorten(text: str, longest: int = _LABEL_CHARACTERS) -> str:
    """Cut a label of more than ``longest`` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def label_width(labels: Sequence[str], longest: int = _LABEL_CHARACTERS) -> float:
    """Return the room that row labels of at most ``longest`` characters need."""
    return max((len(shorten(label, longest)) for label in labels), default=0) * CHARACTER + 14


def arm_shape(arm: int, x: float, y: float) -> str:
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
class Legend:
    """Marks with their names, wrapped into lines; ``bottom`` is where the chart may begin."""

    body: str
    bottom: float


def legend_of(entries: Sequence[tuple[str, str]], x: float, y: float, right: float) -> Legend:
    """Lay out (mark drawn at the origin, name) pairs from ``x`` to ``right``, the first line at height ``y``."""
    parts = []
    place = x
    for mark, name in entries:
        width = len(shorten(name)) * CHARACTER + 34
        if place > x and place + width > right:
            place, y = x, y + 18
        parts.append(f'<g transform="translate({place:.1f} {y:.1f})">{mark}{text_tag(17, 0, shorten(name))}</g>')
        place += width
    return Legend("".join(parts), y + 14)


def arm_legend(arms: Sequence[str], x: float, right: float) -> Legend:
    """Draw each arm's shape and name."""
    return legend_of([(arm_shape(arm, 6, -4), name) for arm, name in enumerate(arms)], x, 16, right)


def row_band(width: float, y: float, height: float) -> str:
    """Draw the shade behind every other row."""
    return f'<rect class="band" x="0" y="{y:.1f}" width="{width:.0f}" height="{height:.1f}"/>'


def need(items: Sequence[object], what: str) -> None:
    """Refuse a chart of nothing."""
    if not items:
        raise ValueError(f"a chart needs at least one {what}, found none; leave it out where there is nothing to show")
