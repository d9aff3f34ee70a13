"""Stacked bars of group shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from audit.records.estimates import percent
from reports.charts.axis import tick_text
from reports.charts.svg import Frame, arm_legend, arm_shape, figure, label_width, legend_of, need, shorten, text_tag


@dataclass(frozen=True)
class Bar:
    """One stacked bar: the arm, and the shares in the order of the groups."""

    arm: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class BarRow:
    """The bars of one label, one per arm."""

    label: str
    bars: tuple[Bar, ...]


def stacked_bars(frame: Frame, arms: Sequence[str], groups: Sequence[str], rows: Sequence[BarRow]) -> Markup:
    """Draw a block of stacked bars per row, one bar per arm, and print each share that fits into its segment.

    Raises:
        ValueError: There are no rows.
    """
    need(rows, "row")
    thickness, gap = 15.0, 9.0
    left = label_width([row.label for row in rows]) + 16
    legend = arm_legend(arms, 0, frame.width)
    swatches = [(_swatch(number), group) for number, group in enumerate(groups)]
    key = legend_of(swatches, left, legend.bottom + 6, frame.width)
    body = [legend.body, key.body]
    y = key.bottom
    for row in rows:
        middle = y + len(row.bars) * thickness / 2 + 4
        body.append(text_tag(left - 26, middle, shorten(row.label), anchor="end"))
        for bar in row.bars:
            body += [
                arm_shape(bar.arm, left - 13, y + thickness / 2 - 0.5),
                _stack(bar, groups, left, frame.width - 4, y),
            ]
            y += thickness
        y += gap
    return figure(frame, y + 2, body)


def _swatch(group: int) -> str:
    return f'<rect class="group group{group % 6}" x="0" y="-10" width="13" height="12"/>'


def _stack(bar: Bar, groups: Sequence[str], left: float, right: float, y: float) -> str:
    parts = []
    x = left
    for number, (group, share) in enumerate(zip(groups, bar.shares, strict=True)):
        width = share * (right - left)
        text = tick_text(share, percent=True)
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="13"'
        parts.append(f"<g><title>{escape(group)}: {percent(share)}</title>")
        parts.append(f'<rect class="group group{number % 6}" {place}/>')
        if width >= 24:
            parts.append(text_tag(x + width / 2, y + 10.5, text, style=f"on{number % 6}", anchor="middle"))
        parts.append("</g>")
        x += width
    return "".join(parts)
