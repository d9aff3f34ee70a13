"""Slots of a schedule: the name of each scheduled run, and the journal of what became of every slot.

Scheduled audits of one config form a series, named after the config's own values. Weights, lens and versions are not in
the name: that they changed is what a series is there to show.
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
from audit.storage.run_directory import CHANGES_NO_RESULT

SCHEDULE = "schedule"
"""Directory under a config's output that holds what belongs to no single run: journal, lease, series, alerts."""

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
        """Name of the run directory: a slot that is tried again goes on where it stopped."""
        return f"{self.series}-{self.time.astimezone(UTC).strftime(_TIME)}"


def slot_of(run_id: str) -> Slot | None:
    """Return the slot that a run was made for, None for a run that no schedule made."""
    match = _RUN_ID.fullmatch(run_id)
    if match is None:
        return None
    try:
        time = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
    except ValueError:  # digits that are no date
        return None
    return Slot(match["series"], time)


def series_of(config: AuditConfig) -> str:
    """Name the series of a config: ``<name>-<hash>``.

    The hash is over what the config sets other than the defaults, as far as it can change a result: a release that adds
    a setting does not end every series.
    """
    told = config.model_dump(mode="json", exclude_defaults=True)
    return f"{config.name}-{plain_hash({key: value for key, value in told.items() if key not in CHANGES_NO_RESULT})}"


def schedule_directory(output: Place, name: str) -> Place:
    """Return where the schedule of the config called ``name`` keeps its files."""
    return output / SCHEDULE / name


@dataclass(frozen=True)
class SlotRecord:
    """What became of a slot, or of a stretch of slots that nobody was there for.

    Attributes:
        series: The series; slots that were missed before an edit of the config keep the series they were missed in.
        slot: When it was due, ISO 8601 in UTC.
        state: ``started``; then ``done``, ``failed`` (no result, or an incomplete one) or ``interrupted`` (stopped from
            outside); ``refused`` because another process held the lease; ``missed`` because nobody was there.
        note: Why, in words.
        until: The last slot of a stretch, empty for a single one.
        count: Slots in the stretch.
    """

    series: str
    slot: str
    state: State
    note: str = ""
    until: str = ""
    count: int = 1

    @property
    def last(self) -> datetime:
        """The last slot it speaks of."""
        return datetime.fromisoformat(self.until or self.slot)


class Journal:
    """What became of every slot, one JSON object a line; the last word on a slot counts."""

    def __init__(self, path: Place) -> None:
        self._storage, self._name = storage_of(path.parent), path.name

    @classmethod
    def of(cls, output: Place, name: str) -> Journal:
        """Return the journal of the config called ``name``."""
        return cls(schedule_directory(output, name) / JOURNAL)

    def append(self, record: SlotRecord) -> None:
        """Add a line and make it durable; two processes that append at once do not mix their lines."""
        self._storage.append(self._name, json.dumps(asdict(record), ensure_ascii=False))

    def records(self) -> tuple[SlotRecord, ...]:
        """Return all lines in the order they were written; a line that a crash cut short is passed over."""
        return tuple(record for line in self._storage.lines(self._name) if (record := _record(line)) is not None)

    def state(self, slot: Slot) -> State | None:
        """Return the last word on a slot, None where there is none."""
        key = (slot.series, slot.time.isoformat())
        states = [record.state for record in self.records() if (record.series, record.slot) == key]
        return states[-1] if states else None

    def last_slot(self) -> datetime | None:
        """Return the latest slot that anything is known of, None for a journal without a line."""
        return max((record.last for record in self.records()), default=None)

    def gaps(self, series: str, until: datetime) -> tuple[SlotRecord, ...]:
        """Return the slots of a series up to ``until`` that left no whole result, in order."""
        return _gaps(record for record in self.records() if record.series == series and record.last <= until)


def _gaps(records: Iterable[SlotRecord]) -> tuple[SlotRecord, ...]:
    """Keep the last word on each slot, and join neighbours that were missed for the same reason."""
    last_words = {record.slot: record for record in records}
    found: list[SlotRecord] = []
    before: SlotRecord | None = None
    for _, record in sorted(last_words.items()):
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
