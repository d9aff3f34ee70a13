"""When a cron expression is due in a time zone: wall time, also on the days on which the clock is changed.

As in Vixie cron: where the expression names hours, each of its times comes once a day. A time that the clock skips
comes at the change, one that the clock shows twice comes the first time. Where it names no hours (``*/15 * * * *``),
its slots follow the clock as it runs: both times through a doubled hour, and nothing for a skipped one.

APScheduler's own trigger is not used: in a doubled hour it answers again and again with the moment that it was asked
about, so that whoever asks for the slot after that never gets one.
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
"""More than a clock was ever changed by: Alaska repeated a day in 1867, Samoa skipped one in 2011."""


@dataclass(frozen=True)
class WallClockTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """The slots of a cron expression in a time zone, for APScheduler.

    Attributes:
        cron: When.
        zone: The time zone whose clock it means.
    """

    cron: Cron
    zone: ZoneInfo

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the slot after the previous one; without one, the first at ``now`` or after it."""
        moment = previous_fire_time or now - timedelta(microseconds=1)
        return next(self.after(moment.astimezone(UTC)), None)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield every slot after ``moment`` in UTC, each later than the one before it."""
        for slot in self._slots(self._start(moment)):
            if slot > moment:
                yield slot
                moment = slot

    def _start(self, moment: datetime) -> datetime:
        """Return a wall time before which none comes after ``moment``: earlier where the clock is about to go back."""
        near = [self._offset(moment + part * LARGEST_CHANGE) for part in (-1, 0, 1)]
        return moment.astimezone(self.zone).replace(tzinfo=None) - (max(near) - min(near))

    def _slots(self, start: datetime) -> Iterator[datetime]:
        """Yield the moments of all wall times from ``start`` on, in order; two of them can be the same."""
        again: deque[datetime] = deque()
        for wall in self.cron.times(start):
            # PEP 495: a time that is skipped has the offset before the change for fold 0, so that it comes later.
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
        """Return the first second with another offset than at ``before``."""
        offset, seconds = self._offset(before), range(int((after - before).total_seconds()) + 1)
        changed = bisect_left(seconds, True, key=lambda n: self._offset(before + timedelta(seconds=n)) != offset)
        return before + timedelta(seconds=changed)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()
