"""Chart of the study: coverage against n, one mark per cell; shapes repeat the information of colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.coverage.discrepancy import FIGURE
from benchmarks.coverage.settings import CONFIDENCE
from benchmarks.coverage.tally import OURS, Tally
from benchmarks.coverage.verdict import LEAST, by_figure

PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP = 260, 250, 46, 44
ROW = 19
LOWEST = 0.85
"""Left end of the lower chart; lower coverages are drawn there."""

BLUE, ORANGE, INK, GREY = "#1b6ca8", "#c2571a", "#2b3138", "#9aa3ad"


def chart(tallies: Sequence[Tally]) -> str:
    """Return an SVG: the discrepancy and the bootstrap above, all 95 % intervals below."""
    figures = {name: own for (name, confidence), own in by_figure(tallies).items() if confidence == CONFIDENCE}
    distances = [tally for tally in figures[FIGURE] if "bootstrap" in tally.coverage]
    groups = sorted({tally.setting.groups for tally in distances})
    width = LEFT + PANEL_WIDTH * max(len(groups), 3)
    below = TOP + PANEL_HEIGHT + 30
    height = below + ROW * len(figures) + 60
    body = [*_panels(distances, groups), *_ranges(figures, below, width)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" fill="none"><title>Coverage of 95 % intervals</title>'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


def _panels(tallies: Sequence[Tally], groups: Sequence[int]) -> Iterator[str]:
    images = sorted({tally.setting.n for tally in tallies})
    yield _words(LEFT, 16, "Share of 95 % intervals of the fairness discrepancy that hold it; a mark per cell", size=13)
    yield f'<circle cx="{LEFT + 5}" cy="29" r="3.4" fill="{BLUE}"/>' + _words(LEFT + 14, 33, "this project")
    yield f'<path d="M{LEFT + 112} 25l8 8m0-8l-8 8" stroke="{ORANGE}" stroke-width="1.5"/>'
    yield _words(LEFT + 126, 33, "plug-in with percentile bootstrap")
    for panel, count in enumerate(groups):
        members = [tally for tally in tallies if tally.setting.groups == count]
        yield from _panel(members, LEFT + panel * PANEL_WIDTH, f"{count} groups", images)


def _panel(tallies: Sequence[Tally], x0: float, title: str, images: Sequence[int]) -> Iterator[str]:
    x1, y0, y1 = x0 + PANEL_WIDTH - 36, TOP + 22, TOP + PANEL_HEIGHT - 34
    yield _words(x0, TOP + 14, title, size=12)
    for tick in (0, 0.25, 0.5, 0.75, 0.95):
        y = y1 - tick * (y1 - y0)
        dash = ' stroke-dasharray="4 3"' if tick == 0.95 else ""
        yield f'<path d="M{x0} {y:.1f}H{x1}" stroke="{GREY}" stroke-width="0.7"{dash}/>'
        yield _words(x0 - 5, y + 4, f"{tick:g}", anchor="end")
    for place, n in enumerate(images):
        yield _words(_across(x0, x1, place, len(images)), y1 + 16, str(n), anchor="middle")
    yield _words((x0 + x1) / 2, y1 + 31, "images", anchor="middle")
    for number, tally in enumerate(tallies):
        x = _across(x0, x1, images.index(tally.setting.n), len(images)) + (number % 9 - 4) * 1.7
        crossed, dotted = (y1 - tally.coverage[name] * (y1 - y0) for name in ("bootstrap", OURS))
        yield f'<path d="M{x - 3:.1f} {crossed - 3:.1f}l6 6m0-6l-6 6" stroke="{ORANGE}" stroke-width="1.1"/>'
        yield f'<circle cx="{x:.1f}" cy="{dotted:.1f}" r="2.6" fill="{BLUE}"/>'


def _ranges(figures: dict[str, list[Tally]], top: float, width: float) -> Iterator[str]:
    """Draw each figure as a line of its cells."""
    x0, x1 = LEFT + 330.0, width - 40.0
    yield _words(LEFT, top + 4, "Every interval that an audit prints; a mark per cell, a bar at the mean", size=13)
    bottom = top + ROW * (len(figures) + 1)
    for tick in (0.85, 0.9, LEAST, 0.95, 1.0):
        x = x0 + (tick - LOWEST) / (1 - LOWEST) * (x1 - x0)
        dash = ' stroke-dasharray="4 3"' if tick in (LEAST, 0.95) else ""
        yield f'<path d="M{x:.1f} {top + 12:.1f}V{bottom:.1f}" stroke="{GREY}" stroke-width="0.7"{dash}/>'
        yield _words(x, bottom + 14, f"≤ {tick:g}" if tick == LOWEST else f"{tick:g}", anchor="middle")
    for place, (name, members) in enumerate(figures.items(), start=1):
        y = top + ROW * place + 6
        yield _words(x0 - 10, y + 4, name, anchor="end")
        covered = [max(LOWEST, member.coverage[OURS]) for member in members]
        for value in covered:
            x = x0 + (value - LOWEST) / (1 - LOWEST) * (x1 - x0)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{BLUE}" fill-opacity="0.35"/>'
        x = x0 + (sum(covered) / len(covered) - LOWEST) / (1 - LOWEST) * (x1 - x0)
        yield f'<path d="M{x:.1f} {y - 7:.1f}v14" stroke="{INK}" stroke-width="2"/>'


def _across(x0: float, x1: float, place: int, places: int) -> float:
    return x0 + (x1 - x0) * (place + 0.5) / places


def _words(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-family="system-ui, sans-serif" '
        f'font-size="{size}" fill="{INK}">{text}</text>'
    )
