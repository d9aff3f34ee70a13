"""Heat maps: rows of cells whose shade shows the size of a signed value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.charts.svg import Frame, figure, label_width, need, shorten, text_tag


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map; ``values`` follow the columns, ``opens_block`` adds a gap above the row."""

    label: str
    values: tuple[float, ...]
    opens_block: bool = False


def heatmap(frame: Frame, columns: Sequence[str], rows: Sequence[HeatRow]) -> Markup:
    """Draw signed values with a diverging colour scale up to the largest magnitude; a sign marks each strong cell.

    Raises:
        ValueError: There are no rows, or no columns.
    """
    need(rows, "row")
    need(columns, "column")
    largest = max((abs(value) for row in rows for value in row.values), default=0.0) or 1.0
    left = label_width([row.label for row in rows])
    top = label_width(columns) * 0.72 + 12
    width = min((frame.width - left - 56) / len(columns), 44.0)
    body = []
    for number, column in enumerate(columns):
        x = left + (number + 0.5) * width
        body.append(text_tag(x, top - 8, shorten(column), extra=f' transform="rotate(-42 {x:.1f} {top - 8:.1f})"'))
    y = top
    for number, row in enumerate(rows):
        y += 8 if row.opens_block and number else 0
        body.append(text_tag(left - 10, y + 14, shorten(row.label), anchor="end"))
        body += [_cell(value / largest, left + place * width, y, width) for place, value in enumerate(row.values)]
        y += 20
    return figure(frame, y + 6, body)


def _cell(strength: float, x: float, y: float, width: float) -> str:
    level = round(abs(strength) * 4)
    name = "heat0" if level == 0 else f"heat{'p' if strength > 0 else 'n'}{level}"
    rect = f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width - 1.5:.1f}" height="18.5"/>'
    if level < 2:
        return rect
    sign = "+" if strength > 0 else "−"
    return rect + text_tag(x + (width - 1.5) / 2, y + 13.5, sign, style=f"on-{name}", anchor="middle")
