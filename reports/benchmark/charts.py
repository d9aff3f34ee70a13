"""Pareto charts of a benchmark: discrepancy against side effects, and against similarity to the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from audit.results.benchmark.rows import MethodRow
from audit.results.benchmark.steered import Figure as Found
from reports.benchmark.findings import Part
from reports.benchmark.tables import numbered
from reports.charts.axis import Mark
from reports.charts.scatter import Point, Span, front, scatter
from reports.charts.svg import Frame
from reports.figures.charts import Figure, Table
from reports.words.formats import figure_text

WIDTH = 470.0
BASELINE_MARK = "0"


def pareto_figures(part: Part, key: str) -> Iterator[Figure]:
    """Yield the charts of one part; a chart without a point is left out.

    Args:
        part: The methods.
        key: Key of the part, unique in the document.
    """
    charts: tuple[tuple[str, str, Callable[[MethodRow], Found | None], float], ...] = (
        ("changed", "Images with another group in other attributes", lambda row: row.flips, 0.0),
        ("clip-i", "CLIP-I to the baseline", lambda row: row.clip_i, 1.0),
    )
    for name, label, of, untouched in charts:
        found = _figure(part, f"{key}-{name}", label, of, untouched)
        if found is not None:
            yield found


def _figure(
    part: Part, key: str, label: str, of: Callable[[MethodRow], Found | None], untouched: float
) -> Figure | None:
    points = [
        Point(row.arm, str(place), _mark(row.after), _mark(found))
        for place, row in enumerate(part.rows, start=1)
        if row.after is not None and (found := of(row)) is not None
    ]
    if not points:
        return None
    before, high_is_better = part.rows[0].before, untouched == 1.0
    if before is not None:
        points.insert(0, Point("baseline", BASELINE_MARK, _mark(before), Mark(untouched)))
    across = Span("Fairness discrepancy, mean over occupations (lower is better)", 0.0, _end(points, 0.2))
    low = min(math.floor(10 * min(_lowest(point.y) for point in points)) / 10, 0.9) if high_is_better else 0.0
    highest = max(point.y.high or point.y.value for point in points)
    up = Span(
        f"{label} ({'higher' if high_is_better else 'lower'} is better)",
        low,
        1.0 if high_is_better else max(0.2, math.ceil(10 * highest) / 10),
    )
    best = front(points, high_is_better=high_is_better)
    caption = f"Discrepancy and {label[0].lower() + label[1:] if label[:4] != 'CLIP' else label}"
    frame = Frame(key, f"{part.title}: {caption}", "Filled marks: no other method is better in both figures.", WIDTH)
    rows = tuple(
        (numbered(int(p.mark), p.label), figure_text(p.x), figure_text(p.y), "yes" if p in best else "no")
        for p in points
    )
    table = Table(f"{part.title}: {caption}", ("Method", "Discrepancy", label, "On the front"), rows)
    return Figure(key, caption, scatter(frame, (across, up), points, high_is_better=high_is_better), table)


def _mark(figure: Found) -> Mark:
    return Mark(figure.value, figure.low, figure.high)


def _lowest(mark: Mark) -> float:
    return mark.value if mark.low is None else mark.low


def _end(points: list[Point], least: float) -> float:
    return max(least, math.ceil(10 * max(point.x.high or point.x.value for point in points)) / 10)
