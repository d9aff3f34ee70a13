"""A series of scheduled audits: its headline figures slot by slot, and the slots at which something changed.

At each slot the new run is compared with the first run of the current stretch, the one since the last change: a slow
drift adds up against a fixed reference, where steps from slot to slot would each be too small to see. With the same
seed the images are the same pairs, and a model that did not change gives the same images.

Many slots are many chances of a false alarm. The k-th comparison of a series is made at the error rate
``ERROR_RATE / (k (k + 1))``; these add up to ``ERROR_RATE`` however long the series becomes (alpha spending, as in
Foster and Stine 2008), and a change that was called stays called when later slots arrive. Within a slot the figures are
corrected for being many by :mod:`audit.results.comparison.compare`. So while nothing changes, the chance that a series
ever calls a change is at most ``ERROR_RATE``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter, ValidationError

from audit.records.groups import GroupResult
from audit.records.result import AuditResult
from audit.records.verdicts import Verdict
from audit.results.comparison.compare import NothingToCompareError, compare
from audit.results.comparison.records import Cell, Comparison
from audit.results.comparison.slots import Slot, SlotRecord, slot_of
from audit.results.gates.verdicts import overall_verdict
from audit.storage.files import storage_of
from audit.storage.place import Place
from audit.storage.run_directory import TREND, RunDirectory, UnreadableRunError

ERROR_RATE = 0.05
"""Chance that a series in which nothing changes ever calls a change."""

TREND_VERSION = 2
"""Version 1 has headlines of mean probabilities; such points are read and marked, see ``Point.soft``."""


@dataclass(frozen=True)
class Headline:
    """The fairness discrepancy of one attribute in one arm: the mean over prompts, or of the one prompt there is.

    Attributes:
        arm: The arm.
        attribute: The attribute.
        value: Counted and debiased, a root mean square over prompts.
        low: Lower end of its 95 % interval, None where it has none.
        high: Upper end.
        n: Prompts.
    """

    arm: str
    attribute: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Called:
    """One figure that changed by more than chance.

    Attributes:
        arm: The arm.
        prompt_id: The prompt, None for the mean over prompts.
        attribute: The attribute, None for the share of images without a group.
        figure: ``share``, ``squared_discrepancy`` or ``unclassified``.
        group: The group of a share.
        first: In the run compared with.
        second: In this run.
        low: Lower end of the change's 95 % interval, of this figure alone.
        high: Upper end.
        adjusted_p_value: Corrected for all figures of the slot; below the slot's own error rate.
        judgement: ``worse``, ``better`` or, of a share, ``changed``.
    """

    arm: str
    prompt_id: str | None
    attribute: str | None
    figure: str
    group: str | None
    first: float
    second: float
    low: float
    high: float
    adjusted_p_value: float
    judgement: str


@dataclass(frozen=True)
class Check:
    """What one slot's comparison found.

    Attributes:
        against: The run compared with; None where no earlier run could be.
        error_rate: Spent on this slot.
        figures: Figures compared.
        paired: Whether all of them were compared image by image.
        inputs: Dotted names of what went in and differs: weights, instruments, versions, lens.
        called: Figures that changed, the clearest first.
        note: Why nothing could be compared, else empty.
    """

    against: str | None
    error_rate: float = 0.0
    figures: int = 0
    paired: bool = False
    inputs: tuple[str, ...] = ()
    called: tuple[Called, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Point:
    """One run of the series.

    Attributes:
        slot: When it was due, ISO 8601 in UTC.
        run_id: Its run directory's name.
        verdict: All gates together; ``incomplete`` where shards are missing.
        gates: Gate, with whatever tells it from the gate's other verdicts → verdict.
        headlines: Its headline figures.
        check: Its comparison, None for the first run of a series.
        soft: Whether a release made it that measured headlines and gates on mean probabilities. They are no part of one
            line with counted ones; comparisons count every run again.
    """

    slot: str
    run_id: str
    verdict: str
    gates: dict[str, str]
    headlines: tuple[Headline, ...]
    check: Check | None = None
    soft: bool = False

    @property
    def changed(self) -> bool:
        """Whether a change was called at this slot."""
        return self.check is not None and bool(self.check.called)


@dataclass(frozen=True)
class Trend:
    """A series up to one of its runs; ``trend.json`` in that run's directory is this record.

    Attributes:
        series: Its name.
        points: Its runs in the order of their slots, at least one.
        gaps: Slots that left no whole result.
    """

    series: str
    points: tuple[Point, ...]
    gaps: tuple[SlotRecord, ...] = ()
    version: int = TREND_VERSION


_TREND = TypeAdapter(Trend)


def write_trend(
    run: RunDirectory, result: AuditResult, earlier: Sequence[Point], gaps: Sequence[SlotRecord] = ()
) -> Trend:
    """Write ``trend.json`` into the directory of a scheduled run.

    Args:
        run: The finished run, with ``audit.json`` and ``results.parquet``; the earlier runs lie beside it.
        result: Its result.
        earlier: What is known of the series before, from :func:`earlier_points`.
        gaps: Slots that left no result, from the journal.

    Raises:
        ValueError: If the directory's name is not that of a slot.
    """
    slot = slot_of(run.path.name)
    if slot is None:
        raise ValueError(f"expected the directory of a scheduled run, found {run.path.name!r}")
    point = Point(
        slot=slot.time.isoformat(),
        run_id=run.path.name,
        verdict="incomplete" if result.provenance.get("unfinished_shards") else overall_verdict(result.verdicts),
        gates=gate_states(result.verdicts),
        headlines=tuple(_headlines(result.overall)),
        check=_check(run, earlier) if earlier else None,
    )
    trend = Trend(slot.series, (*earlier, point), tuple(gaps))
    run.write_json(TREND, asdict(trend))
    return trend


def read_trend(run: RunDirectory) -> Trend | None:
    """Return a run's trend; None where it has none, or one that another release wrote in another form."""
    if not run.has(TREND):
        return None
    try:
        trend = _TREND.validate_python(run.read_json(TREND))
    except (ValidationError, ValueError):
        return None
    if trend.version == 1:
        trend = replace(trend, version=TREND_VERSION, points=tuple(replace(p, soft=True) for p in trend.points))
    return trend if trend.version == TREND_VERSION and trend.points else None


def earlier_points(output: Place, slot: Slot) -> tuple[Point, ...]:
    """Return what is known of the runs before a slot.

    A run tells of those before it as well, so that a run directory that was deleted since stays in the series.
    """
    slots = map(slot_of, storage_of(output).folders())
    before = sorted(found for found in slots if found and found.series == slot.series and found.time < slot.time)
    points: dict[str, Point] = {}
    for found in reversed(before):
        trend = None if found.run_id in points else read_trend(RunDirectory(output / found.run_id))
        if trend is not None:
            points = {point.run_id: point for point in trend.points} | points
    return tuple(sorted(points.values(), key=lambda point: point.slot))


def latest_trend(output: Place, until: Slot, gaps: Sequence[SlotRecord] = ()) -> Trend:
    """Return a series as it stands after a slot, whether or not that slot left a result; ``gaps`` did not."""
    own = read_trend(RunDirectory(output / until.run_id))
    points = own.points if own else earlier_points(output, until)
    return Trend(until.series, points, tuple(gaps))


def gate_states(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return each gate's verdict under a name that tells it from the gate's other verdicts."""
    return {
        ".".join(filter(None, (verdict.gate, verdict.arm, verdict.attribute, verdict.prompt_id))): verdict.verdict
        for verdict in verdicts
    }


def _headlines(overall: Sequence[GroupResult]) -> Iterator[Headline]:
    for row in overall:
        mean, single = row.mean_over_prompts, row.fairness_discrepancy
        if mean is not None and (mean.low is not None or single is None):
            yield Headline(row.arm, row.attribute, mean.value, mean.low, mean.high, mean.n)
        elif single is not None:  # one prompt has no spread over prompts, but its images have one
            yield Headline(row.arm, row.attribute, single.value, single.low, single.high, 1)


def _check(run: RunDirectory, earlier: Sequence[Point]) -> Check:
    """Compare a run with the first run of the current stretch that can still be read."""
    number = 1 + sum(point.check is not None and point.check.against is not None for point in earlier)
    error_rate = ERROR_RATE / (number * (number + 1))
    reasons = []
    for point in _stretch(earlier):
        reference = RunDirectory(run.path.parent / point.run_id)
        try:
            return _found(compare(reference, run, error_rate), error_rate)
        except (UnreadableRunError, NothingToCompareError) as reason:
            reasons.append(str(reason))
    return Check(None, note="; ".join(reasons))


def _stretch(earlier: Sequence[Point]) -> Sequence[Point]:
    """Return the points since the last change, the one that showed it included; whole runs first."""
    starts = [number for number, point in enumerate(earlier) if point.changed]
    stretch = earlier[starts[-1] if starts else 0 :]
    return sorted(stretch, key=lambda point: point.verdict == "incomplete")


def _found(comparison: Comparison, error_rate: float) -> Check:
    separate = [
        cell for cell in comparison.cells if cell.judgement != "none" and (cell.change.low > 0 or cell.change.high < 0)
    ]
    return Check(
        against=comparison.runs[0],
        error_rate=error_rate,
        figures=len(comparison.cells),
        paired=all(cell.paired for cell in comparison.cells),
        inputs=tuple(difference.path for difference in comparison.inputs),
        called=tuple(_called(cell) for cell in sorted(separate, key=lambda cell: cell.p_value)),
    )


def _called(cell: Cell) -> Called:
    return Called(
        arm=cell.place.arm,
        prompt_id=cell.place.prompt_id,
        attribute=cell.place.attribute,
        figure=cell.figure,
        group=cell.group,
        first=cell.first,
        second=cell.second,
        low=cell.change.low,
        high=cell.change.high,
        adjusted_p_value=cell.adjusted_p_value,
        judgement=cell.judgement,
    )
