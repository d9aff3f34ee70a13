"""Heat maps: rows of cells whose shade shows the size of a signed value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.charts.svg import Frame, figure, label_width, need, shorten, text_tag


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map.

    Attributes:
        label: Name of the row.
        values: One for each column.
        opens_block: Whether there is a gap above the row.
        texts: Text in each cell in place of the sign; empty for the signs.
    """

    label: str
    values: tuple[float, ...]
    opens_block: bool = False
    texts: tuple[str, ...] = ()


def heatmap(
    frame: Frame, columns: Sequence[str], rows: Sequence[HeatRow], *, widest: float = 44.0, longest: int = 24
) -> Markup:
    """Draw signed values with a diverging colour scale up to the largest magnitude; a sign marks each strong cell.

    Args:
        frame: Attributes of the chart.
        columns: Names of the columns.
        rows: The rows.
        widest: Most width of a cell, in pixels.
        longest: Most characters of the name of a row.

    Raises:
        ValueError: There are no rows, or no columns.
    """
    need(rows, "row")
    need(columns, "column")
    largest = max((abs(value) for row in rows for value in row.values), default=0.0) or 1.0
    left = label_width([row.label for row in rows], longest)
    top = label_width(columns) * 0.72 + 12
    width = min((frame.width - left - 56) / len(columns), widest)
    body = []
    for number, column in enumerate(columns):
        x = left + (number + 0.5) * width
        body.append(text_tag(x, top - 8, shorten(column), extra=f' transform="rotate(-42 {x:.1f} {top - 8:.1f})"'))
    y = top
    for number, row in enumerate(rows):
        y += 8 if row.opens_block and number else 0
        body.append(text_tag(left - 10, y + 14, shorten(row.label, longest), anchor="end"))
        texts = row.texts or (None,) * len(row.values)
        body += [
            _cell(value / largest, left + place * width, y, width, text)
            for place, (value, text) in enumerate(zip(row.values, texts, strict=True))
        ]
        y += 20
    return figure(frame, y + 6, body)


def _cell(strength: float, x: float, y: float, width: float, text: str | None) -> str:
    level = round(abs(strength) * 4)
    name = "heat0" if level == 0 else f"heat{'p' if strength > 0 else 'n'}{level}"
    rect = f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width - 1.5:.1f}" height="18.5"/>'
    if text is None:
        text = "" if level < 2 else "+" if strength > 0 else "−"
    if not text:
        return rect
    style = f"on-{name}" if level > 1 else "t"
    return rect + text_tag(x + (width - 1.5) / 2, y + 13.5, text, style=style, anchor="middle")
