"""Due times of a cron expression in a time zone, by wall time, including the days of clock changes.

The rules are those of Vixie cron. If the expression names hours, each of its times occurs once a day: a skipped time
is moved to the change, a repeated time occurs the first time. If it names no hours (``*/15 * * * *``), its slots follow
the running clock: both times in a repeated hour, and none in a skipped hour.

APScheduler's own trigger is not used: in a repeated hour it returns the given moment again and again, so a caller never
reaches the next slot.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from ray_jobs.schedule.cron import Cron

LARGEST_CHANGE = timedelta(hours=25)
"""Longer than any clock change in history: Alaska repeated a day in 1867, Samoa skipped one in 2011."""


@dataclass(frozen=True)
class WallClockTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """The slots of a cron expression in a time zone, for APScheduler.

    Attributes:
        cron: The cron expression.
        zone: The time zone of the expression.
    """

    cron: Cron
    zone: ZoneInfo

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the slot after the previous one; without a previous one, the first at or after ``now``."""
        moment = previous_fire_time or now - timedelta(microseconds=1)
        return next(self.after(moment.astimezone(UTC)), None)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield every slot after ``moment`` in UTC, in strictly ascending order."""
        for slot in self._slots(self._start(moment)):
            if slot > moment:
                yield slot
                moment = slot

    def _start(self, moment: datetime) -> datetime:
        """Return a wall time before every slot after ``moment``; earlier if the clock is about to be set back."""
        near = [self._offset(moment + part * LARGEST_CHANGE) for part in (-1, 0, 1)]
        return moment.astimezone(self.zone).replace(tzinfo=None) - (max(near) - min(near))

    def _slots(self, start: datetime) -> Iterator[datetime]:
        """Yield the moments of all wall times from ``start``, in order; two of them can be equal."""
        again: deque[datetime] = deque()
        for wall in self.cron.times(start):
            # PEP 495: with fold 0 a skipped time has the offset before the change, so its moment is after the change.
            first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            if first > second:
                if self.cron.every_hour:
                    continue
                first = self._change_between(second, first)
            while again and again[0] < first:
                yield again.popleft()
            yield first
            if first < second and self.cron.every_hour:
                again.append(second)

    def _change_between(self, before: datetime, after: datetime) -> datetime:
        """Return the first second whose offset differs from that of ``before``."""
        offset, seconds = self._offset(before), range(int((after - before).total_seconds()) + 1)
        changed = bisect_left(seconds, True, key=lambda n: self._offset(before + timedelta(seconds=n)) != offset)
        return before + timedelta(seconds=changed)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()
