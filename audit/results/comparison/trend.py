"""The trend of a series of scheduled audits: headline figures by slot, and the slots with a significant change.

At each slot the new run is compared with the first run of the current segment, which starts at the last change. A slow
drift accumulates against this fixed reference, while the steps between slots could be too small to detect. With the
same seed the images are paired, and an unchanged model gives identical images.

Every slot is another chance of a false alarm. The k-th comparison of a series uses the error rate
``ERROR_RATE / (k (k + 1))``. These rates add up to at most ``ERROR_RATE`` for a series of any length (alpha spending,
as in Foster and Stine 2008), and later slots never revoke a reported change. Within a slot,
:mod:`audit.results.comparison.compare` adjusts for multiple figures. If nothing changes, the probability that a series
ever reports a change is therefore at most ``ERROR_RATE``.
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
"""Probability that a series without changes ever reports a change."""

TREND_VERSION = 2
"""Version of the file. Version 1 has headlines of mean probabilities; its points are marked, see ``Point.soft``."""


@dataclass(frozen=True)
class Headline:
    """The fairness discrepancy of one attribute in one arm: the mean over prompts, or the value of a single prompt.

    Attributes:
        arm: The arm.
        attribute: The attribute.
        value: Debiased discrepancy of counted shares, a root mean square over prompts.
        low: Lower end of its 95 % interval, None if it has none.
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
    """One figure with a significant change.

    Attributes:
        arm: The arm.
        prompt_id: The prompt, None for the mean over prompts.
        attribute: The attribute, None for the share of images without a group.
        figure: ``share``, ``squared_discrepancy`` or ``unclassified``.
        group: The group of a share.
        first: Value in the reference run.
        second: Value in this run.
        low: Lower end of the change's 95 % interval, for this figure alone.
        high: Upper end.
        adjusted_p_value: p-value adjusted for all figures of the slot; below the slot's error rate.
        judgement: ``worse``, ``better`` or, for a share, ``changed``.
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
    """The comparison of one slot.

    Attributes:
        against: The reference run; None if no earlier run could be compared.
        error_rate: Error rate of this slot.
        figures: Number of compared figures.
        paired: Whether all of them were compared in pairs of images.
        inputs: Dotted names of the inputs that differ: weights, instruments, versions, lens.
        called: Figures that changed, the smallest p-value first.
        note: Why nothing could be compared, otherwise empty.
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
        run_id: Name of its run directory.
        verdict: Combined verdict of all gates; ``incomplete`` if shards are missing.
        gates: Name of the gate, with arm, attribute and prompt → verdict.
        headlines: Its headline figures.
        check: Its comparison, None for the first run of a series.
        soft: Whether its release computed headlines and gates from mean probabilities. These headlines are not drawn
            in one line with those of counted shares; comparisons always recompute counted shares.
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
        """Whether this slot reports a change."""
        return self.check is not None and bool(self.check.called)


@dataclass(frozen=True)
class Trend:
    """A series up to one of its runs; ``trend.json`` in that run's directory is this record.

    Attributes:
        series: Its name.
        points: Its runs in the order of their slots, at least one.
        gaps: Slots without a complete result.
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
        run: The finished run, with ``audit.json`` and ``results.parquet``; earlier runs are in the same directory.
        result: Its result.
        earlier: The earlier points of the series, from :func:`earlier_points`.
        gaps: Slots without a complete result, from the journal.

    Raises:
        ValueError: If the directory's name is not that of a slot.
    """
    slot = slot_of(run.path.name)
    if slot is None:
        raise ValueError(f"expected the directory of a scheduled run (NAME-HASH-TIME), found {run.path.name!r}")
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
    """Return a run's trend; None if it has none, or one in an unknown format."""
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
    """Return the points of the runs before a slot.

    Each run's file also contains the points before it, so a series keeps the points of deleted run directories.
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
    """Return the trend of a series up to a slot, with or without a result of that slot; ``gaps`` have no result."""
    own = read_trend(RunDirectory(output / until.run_id))
    points = own.points if own else earlier_points(output, until)
    return Trend(until.series, points, tuple(gaps))


def gate_states(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return each gate's verdict under a unique name of gate, arm, attribute and prompt."""
    return {
        ".".join(filter(None, (verdict.gate, verdict.arm, verdict.attribute, verdict.prompt_id))): verdict.verdict
        for verdict in verdicts
    }


def _headlines(overall: Sequence[GroupResult]) -> Iterator[Headline]:
    for row in overall:
        mean, single = row.mean_over_prompts, row.fairness_discrepancy
        if mean is not None and (mean.low is not None or single is None):
            yield Headline(row.arm, row.attribute, mean.value, mean.low, mean.high, mean.n)
        elif single is not None:  # one prompt has no variation between prompts, but between its images
            yield Headline(row.arm, row.attribute, single.value, single.low, single.high, 1)


def _check(run: RunDirectory, earlier: Sequence[Point]) -> Check:
    """Compare a run with the first run of the current segment that can still be read."""
    number = 1 + sum(point.check is not None and point.check.against is not None for point in earlier)
    error_rate = ERROR_RATE / (number * (number + 1))
    reasons = []
    for point in _segment(earlier):
        reference = RunDirectory(run.path.parent / point.run_id)
        try:
            return _found(compare(reference, run, error_rate), error_rate)
        except (UnreadableRunError, NothingToCompareError) as reason:
            reasons.append(str(reason))
    return Check(None, note="; ".join(reasons))


def _segment(earlier: Sequence[Point]) -> Sequence[Point]:
    """Return the points since the last change, including the one that showed it; complete runs come first."""
    starts = [number for number, point in enumerate(earlier) if point.changed]
    segment = earlier[starts[-1] if starts else 0 :]
    return sorted(segment, key=lambda point: point.verdict == "incomplete")


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
