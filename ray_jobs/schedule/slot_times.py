"""Slots of a schedule: the last due, the next and the missed ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from apscheduler.triggers.base import BaseTrigger

from ray_jobs.schedule.cron import Cron, zone
from ray_jobs.schedule.cron_trigger import WallClockTrigger

LOOK_BACK = tuple(timedelta(minutes=minutes) for minutes in (1, 60, 1440, 11_520, 46_080, 527_040, 4_216_320))
"""Periods in which the last slot is searched, the shortest first; eight years include a 29 February."""

MOST_MISSED = 10_000
"""Largest number of missed slots to count."""


@dataclass(frozen=True)
class SlotTimes:
    """Due times of an APScheduler trigger, in UTC."""

    trigger: BaseTrigger

    @classmethod
    def of(cls, cron: Cron, time_zone: str) -> SlotTimes:
        """Return the due times of a cron expression in a time zone.

        Raises:
            TimeZoneError: If the time zone does not exist.
        """
        return cls(WallClockTrigger(cron, zone(time_zone)))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield every slot after ``moment``, in order."""
        while (found := self._next(moment)) is not None:
            yield found
            moment = found

    def last(self, moment: datetime) -> datetime | None:
        """Return the last slot at or before ``moment``; None if there was none for years."""
        for span in LOOK_BACK:
            found = None
            for slot in self.after(moment - span):
                if slot > moment:
                    break
                found = slot
            if found is not None:
                return found
        return None

    def between(self, start: datetime, end: datetime) -> tuple[datetime, ...]:
        """Return the slots strictly between two moments, at most ``MOST_MISSED``."""
        slots = []
        for slot in islice(self.after(start), MOST_MISSED):
            if slot >= end:
                break
            slots.append(slot)
        return tuple(slots)

    def _next(self, moment: datetime) -> datetime | None:
        local = moment.astimezone(getattr(self.trigger, "timezone", UTC)) + timedelta(microseconds=1)
        found: datetime | None = self.trigger.get_next_fire_time(None, local)
        return None if found is None else found.astimezone(UTC)
