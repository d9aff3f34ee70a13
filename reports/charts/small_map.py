"""Small maps: a grid of non-negative values as shades, the size of a thumbnail."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

SIDE = 36.0
"""Size in pixels of the longer side, as that of a thumbnail."""

LEVELS = 4


def small_map(title: str, rows: Sequence[Sequence[float]]) -> Markup:
    """Draw a grid; the shade of a cell is its value relative to the largest.

    Args:
        title: Description for readers who do not see it.
        rows: Rows of the grid, all of the same length.

    Raises:
        ValueError: The grid is empty or its rows differ in length.
    """
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        raise ValueError(f"expected rows of one length, found the lengths {sorted(widths)}")
    [columns] = widths
    cell = SIDE / max(columns, len(rows))
    largest = max(max(row) for row in rows) or 1.0
    cells = "".join(
        f'<rect class="heatp{level}" x="{x * cell:.1f}" y="{y * cell:.1f}" width="{cell:.1f}" height="{cell:.1f}"/>'
        if (level := round(LEVELS * max(value, 0.0) / largest))
        else ""
        for y, row in enumerate(rows)
        for x, value in enumerate(row)
    )
    width, height = columns * cell, len(rows) * cell
    return Markup(  # noqa: S704 - the title went through escape, the rest is numbers
        f'<svg class="map" role="img" viewBox="0 0 {width:.1f} {height:.1f}" width="{width:.0f}" height="{height:.0f}" '
        f'aria-label="{escape(title)}"><rect class="heat0" width="{width:.1f}" height="{height:.1f}"/>{cells}</svg>'
    )
