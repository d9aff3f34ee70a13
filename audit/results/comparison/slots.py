"""Slots of a schedule: the names of scheduled runs, and the journal with the outcome of every slot.

Scheduled audits of one config form a series, named by a hash of the config's values. Weights, lens and versions are not
part of the name, because a series must show the effect of their changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from audit.config.settings import AuditConfig
from audit.results.comparison.differences import plain_hash
from audit.storage.files import storage_of
from audit.storage.place import Place
from audit.storage.run_directory import decisive

SCHEDULE = "schedule"
"""Directory under a config's output for files of the whole schedule: journal, lease, series, alerts."""

JOURNAL = "slots.jsonl"

_TIME = "%Y%m%dT%H%M%SZ"
_RUN_ID = re.compile(r"(?P<series>[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12})-(?P<time>\d{8}T\d{6}Z)", re.ASCII)

State = Literal["started", "done", "failed", "interrupted", "refused", "missed"]


@dataclass(frozen=True, order=True)
class Slot:
    """One date of a series.

    Attributes:
        series: Name of the series, from :func:`series_of`.
        time: When the audit was due, in UTC, whole seconds.
    """

    series: str
    time: datetime

    @property
    def run_id(self) -> str:
        """Name of the run directory; a retry of the slot resumes this run."""
        return f"{self.series}-{self.time.astimezone(UTC).strftime(_TIME)}"


def slot_of(run_id: str) -> Slot | None:
    """Return the slot of a run, None for a run that is not scheduled."""
    match = _RUN_ID.fullmatch(run_id)
    if match is None:
        return None
    try:
        time = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
    except ValueError:  # digits that are not a date
        return None
    return Slot(match["series"], time)


def series_of(config: AuditConfig) -> str:
    """Return the name of a config's series: ``<name>-<hash>``.

    The hash covers all settings that differ from the defaults and can change a result. A release that adds a setting
    therefore does not end every series.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    return f"{config.name}-{plain_hash(decisive(settings))}"


def schedule_directory(output: Place, name: str) -> Place:
    """Return the directory of the schedule of the config called ``name``."""
    return output / SCHEDULE / name


@dataclass(frozen=True)
class SlotRecord:
    """The outcome of a slot, or of several consecutive missed slots.

    Attributes:
        series: The series; slots missed before a change of the config keep the series of that time.
        slot: When it was due, ISO 8601 in UTC.
        state: ``started``; then ``done``, ``failed`` (no result, or an incomplete one) or ``interrupted`` (stopped from
            outside); ``refused`` because another process held the lease; ``missed`` because no scheduler was running.
        note: The reason, as text.
        until: The last of several consecutive slots, empty for a single slot.
        count: Number of slots.
    """

    series: str
    slot: str
    state: State
    note: str = ""
    until: str = ""
    count: int = 1

    @property
    def last(self) -> datetime:
        """The last slot of the record."""
        return datetime.fromisoformat(self.until or self.slot)


class Journal:
    """The outcomes of all slots, one JSON object per line; the last line of a slot is valid."""

    def __init__(self, path: Place) -> None:
        self._storage, self._name = storage_of(path.parent), path.name

    @classmethod
    def of(cls, output: Place, name: str) -> Journal:
        """Return the journal of the config called ``name``."""
        return cls(schedule_directory(output, name) / JOURNAL)

    def append(self, record: SlotRecord) -> None:
        """Append a line durably; lines that two processes append at the same time do not mix."""
        self._storage.append(self._name, json.dumps(asdict(record), ensure_ascii=False))

    def records(self) -> tuple[SlotRecord, ...]:
        """Return all records in the order they were written; a line that a crash left incomplete is skipped."""
        return tuple(record for line in self._storage.lines(self._name) if (record := _record(line)) is not None)

    def state(self, slot: Slot) -> State | None:
        """Return the last state of a slot, None if there is none."""
        key = (slot.series, slot.time.isoformat())
        states = [record.state for record in self.records() if (record.series, record.slot) == key]
        return states[-1] if states else None

    def last_slot(self) -> datetime | None:
        """Return the latest slot in the journal, None for an empty journal."""
        return max((record.last for record in self.records()), default=None)

    def gaps(self, series: str, until: datetime) -> tuple[SlotRecord, ...]:
        """Return the slots of a series up to ``until`` without a complete result, in order."""
        return _gaps(record for record in self.records() if record.series == series and record.last <= until)


def _gaps(records: Iterable[SlotRecord]) -> tuple[SlotRecord, ...]:
    """Keep the last record of each slot, and join consecutive slots that were missed for the same reason."""
    last_records = {record.slot: record for record in records}
    found: list[SlotRecord] = []
    before: SlotRecord | None = None
    for _, record in sorted(last_records.items()):
        same = before is not None and (before.state, before.note) == (record.state, record.note)
        if record.state == "missed" and same:
            found[-1] = replace(found[-1], until=record.until or record.slot, count=found[-1].count + record.count)
        elif record.state not in ("done", "started"):
            found.append(record)
        before = record
    return tuple(found)


def _record(line: str) -> SlotRecord | None:
    try:
        record = SlotRecord(**json.loads(line))
        return record if record.last.tzinfo else None
    except (TypeError, ValueError):
        return None
