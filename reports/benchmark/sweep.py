"""Charts of a sweep over targets: measured share of a group against CLIP-D to its text (DiffLens, figure 19)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from audit.results.benchmark.rows import MethodRow
from audit.results.benchmark.steered import Figure as Found
from audit.results.benchmark.steered import GroupInArm, is_sweep
from reports.benchmark.findings import Part
from reports.benchmark.tables import numbered
from reports.charts.axis import Mark
from reports.charts.scatter import Point, Span, trace
from reports.charts.svg import Frame
from reports.figures.charts import Figure, Table
from reports.index.story import label
from reports.words.formats import figure_text, number

WIDTH = 470.0
BASELINE_MARK = "0"

COLUMNS = ("Arm", "Steered share", "Measured share", "CLIP-D", "CLIP-D, change from the baseline image")


def sweep_figures(part: Part, key: str) -> Iterator[Figure]:
    """Yield a chart for each group that arms steer to several shares.

    Args:
        part: The methods.
        key: Key of the part, unique in the document.
    """
    arms = [row.groups for row in part.rows]
    for place, one in enumerate(part.rows[0].groups):
        if is_sweep(arms, one.group):
            own = [(row, found) for row in part.rows for found in row.groups if found.group == one.group]
            yield from _figure(part, f"{key}-sweep-{place}", one, own)


def _figure(part: Part, key: str, first: GroupInArm, own: list[tuple[MethodRow, GroupInArm]]) -> Iterator[Figure]:
    places = {row.arm: number for number, row in enumerate(part.rows, start=1)}
    points = {row.arm: _point(row.arm, str(places[row.arm]), found.share, found.clip_d) for row, found in own}
    drawn = [
        point
        for point in (_point("baseline", BASELINE_MARK, first.before, first.clip_d_before), *points.values())
        if point is not None
    ]
    if not drawn:  # runs of older versions, and audits without a CLIP model
        return
    targeted = [(row.method, points[row.arm]) for row, found in own if found.target is not None]
    lines = [[point for name, point in targeted if name == one and point] for one in dict(targeted)]
    group = label(first.group)
    caption = f"Share of {group} and CLIP-D to {group}"
    ends = [end for point in drawn for end in (point.y.low, point.y.value, point.y.high) if end is not None]
    low, high = math.floor(20 * min(ends)) / 20, math.ceil(20 * max(ends)) / 20
    axes = Span(f"Measured share of {group}", 0.0, 1.0), Span(f"CLIP-D to {group}", low, max(high, low + 0.05))
    rows: list[tuple[str, ...]] = [("baseline", "–", figure_text(first.before), figure_text(first.clip_d_before), "–")]
    rows += [
        (numbered(places[row.arm], row.arm), number(one.target), *map(figure_text, (one.share, one.clip_d, one.change)))
        for row, one in own
    ]
    frame = Frame(
        key, f"{part.title}: {caption}", "One mark for each arm, with 95 % intervals; a line for each method.", WIDTH
    )
    yield Figure(
        key,
        caption,
        trace(frame, axes, drawn, [line for line in lines if len(line) > 1]),
        Table(f"{part.title}: {caption}", COLUMNS, tuple(rows)),
    )


def _point(arm: str, mark: str, share: Found | None, near: Found | None) -> Point | None:
    if share is None or near is None:
        return None
    return Point(arm, mark, Mark(share.value, share.low, share.high), Mark(near.value, near.low, near.high))
