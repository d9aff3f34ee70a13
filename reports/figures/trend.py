"""The trend section of a scheduled run's report: headline figures of its series over time, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from audit.records.estimates import NBSP
from audit.records.work import BASELINE
from audit.results.comparison.slots import SlotRecord
from audit.results.comparison.trend import Called, Headline, Point, Trend
from reports.charts.axis import Mark
from reports.charts.svg import Frame
from reports.charts.timeline import Moment, timeline
from reports.figures.charts import Figure, Table
from reports.index.story import label, occupation_words
from reports.words.formats import figure_text, interval, number

CALLED_SHOWN = 12
"""Changed figures shown per slot, the clearest; ``trend.json`` has all of them."""


@dataclass(frozen=True)
class TrendSection:
    """Content of the trend section.

    Attributes:
        series: Its name.
        sentence: What the series shows, in words.
        warnings: Runs with figures of an older definition, and inputs that changed together with the figures.
        figures: One chart per attribute; empty in the first run of a series.
        called: Figures that changed; None if none did.
        gaps: Slots without a complete result; None if there are none.
    """

    series: str
    sentence: str
    warnings: tuple[str, ...]
    figures: tuple[Figure, ...]
    called: Table | None
    gaps: Table | None


def trend_section(trend: Trend | None) -> TrendSection | None:
    """Return the trend section of a report, None for a run without a schedule."""
    if trend is None:
        return None
    attributes = tuple(dict.fromkeys(headline.attribute for point in trend.points for headline in point.headlines))
    return TrendSection(
        series=trend.series,
        sentence=_sentence(trend),
        warnings=(
            *_soft_points(trend),
            *(_inputs(point) for point in trend.points if point.changed and point.check and point.check.inputs),
        ),
        figures=tuple(_figure(trend, name) for name in attributes) if len(trend.points) > 1 else (),
        called=_called_table(trend),
        gaps=_gap_table(trend.gaps),
    )


def date(slot: str) -> str:
    """Return a slot's time in UTC for people: ``2026-01-05 03:00``."""
    return datetime.fromisoformat(slot).strftime("%Y-%m-%d %H:%M")


def _sentence(trend: Trend) -> str:
    count = len(trend.points)
    if count == 1:
        return "This is the first run of its series; later runs will be compared with it."
    changed = [point for point in trend.points if point.changed]
    if not changed:
        return f"In {count} runs no figure changed by more than chance."
    dates = ", ".join(date(point.slot) for point in changed)
    return f"In {len(changed)} of {count} runs figures changed by more than chance: {dates}."


def _inputs(point: Point) -> str:
    inputs = point.check.inputs if point.check else ()
    return f"{date(point.slot)}: these inputs changed as well and may be the cause: {', '.join(inputs)}."


def _soft_points(trend: Trend) -> tuple[str, ...]:
    soft = [point for point in trend.points if point.soft]
    if not soft:
        return ()
    return (
        f"Runs up to {date(soft[-1].slot)} measured discrepancies, and judged gates on them, by the classifier's mean "
        "probabilities. Their figures are marked soft in the tables and left out of the charts. Later runs were "
        "compared with their images, counted in the same way.",
    )


def _figure(trend: Trend, attribute: str) -> Figure:
    arms = _arms(trend.points)
    title = f"Fairness discrepancy of perceived {label(attribute)} over time"
    description = (
        f"{len(trend.points)} runs of the series, one line per arm: {', '.join(arms)}. A dashed line marks a run "
        "in which figures changed by more than chance."
    )
    moments = [
        Moment(words, place, tuple(_mark(point, arm, attribute) for arm in arms), _event(point))
        for point, words, place in zip(trend.points, _ticks(trend.points), _places(trend.points), strict=True)
    ]
    key = f"trend-{attribute}"
    svg = timeline(Frame(key, title, description), "distance from the target", arms, moments)
    caption = f"{title} (mean over occupations, 95{NBSP}% intervals of each run alone)"
    return Figure(key, caption, svg, _table(trend, attribute, arms))


def _arms(points: Sequence[Point]) -> tuple[str, ...]:
    found = dict.fromkeys(headline.arm for point in points for headline in point.headlines)
    return tuple(dict.fromkeys((*(arm for arm in found if arm == BASELINE), *found)))


def _ticks(points: Sequence[Point]) -> list[str]:
    """Label each slot by its day, or by its time of day if all slots are on one day."""
    days, times = zip(*(date(point.slot).split() for point in points), strict=True)
    return list(days if len(set(days)) > 1 or len(points) == 1 else times)


def _places(points: Sequence[Point]) -> list[float]:
    times = [datetime.fromisoformat(point.slot).timestamp() for point in points]
    span = times[-1] - times[0]
    return [(time - times[0]) / span if span else 0.5 for time in times]


def _headline(point: Point, arm: str, attribute: str) -> Headline | None:
    return next((item for item in point.headlines if (item.arm, item.attribute) == (arm, attribute)), None)


def _mark(point: Point, arm: str, attribute: str) -> Mark | None:
    found = _headline(point, arm, attribute)
    return Mark(found.value, found.low, found.high) if found and not point.soft else None


def _event(point: Point) -> str:
    return "changed" if point.changed else ""


def _table(trend: Trend, attribute: str, arms: Sequence[str]) -> Table:
    rows = [
        (
            date(point.slot),
            *(_headline_text(point, arm, attribute) for arm in arms),
            point.verdict,
            _outcome(point),
        )
        for point in trend.points
    ]
    columns = ("Slot (UTC)", *arms, "Verdict", "Change")
    return Table(f"Fairness discrepancy of {label(attribute)}, run by run", columns, tuple(rows))


def _headline_text(point: Point, arm: str, attribute: str) -> str:
    found = _headline(point, arm, attribute)
    return f"{figure_text(found)}{' (soft)' if found and point.soft else ''}"


def _outcome(point: Point) -> str:
    if point.check is None:
        return "first run"
    if point.check.against is None:
        return f"not compared: {point.check.note}"
    count = len(point.check.called)
    how = "paired" if point.check.paired else "not paired"
    return f"{count} of {point.check.figures} figures, {how}" if count else f"none in {point.check.figures}, {how}"


def _called_table(trend: Trend) -> Table | None:
    rows = [
        _called_row(point, called)
        for point in trend.points
        if point.check is not None
        for called in point.check.called[:CALLED_SHOWN]
    ]
    if not rows:
        return None
    columns = ("Slot (UTC)", "Figure", "Occupation", "Arm", "Before", "Now", "Change, 95 %", "Adjusted p", "Judgement")
    return Table("Figures that changed, the clearest of each slot first", columns, tuple(rows), names=4)


def _called_row(point: Point, called: Called) -> tuple[str, ...]:
    figure = f"share of {label(called.group)}" if called.group else label(called.figure)
    of = f" ({label(called.attribute)})" if called.attribute else ""
    return (
        date(point.slot),
        f"{figure}{of}",
        occupation_words(called.prompt_id) if called.prompt_id else "all, mean",
        called.arm,
        number(called.first),
        number(called.second),
        interval(called.low, called.high),
        f"{called.adjusted_p_value:.2g}",
        called.judgement,
    )


def _gap_table(gaps: Sequence[SlotRecord]) -> Table | None:
    if not gaps:
        return None
    rows = tuple(
        (date(gap.slot) + (f" to {date(gap.until)}" if gap.until else ""), str(gap.count), gap.state, gap.note or "–")
        for gap in gaps
    )
    return Table("Slots without a complete result", ("Slot (UTC)", "Slots", "What", "Why"), rows)
