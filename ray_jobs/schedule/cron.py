"""Cron expressions with the same meaning in Kubernetes, systemd and APScheduler.

The schedulers differ in three ways. APScheduler 3 counts weekdays from Monday, cron from Sunday: ``0 3 * * 1`` would
run on Tuesday. Kubernetes does not accept 7 for Sunday. If both a day of the month and a weekday are given, Kubernetes
runs on either, systemd and APScheduler only on days that match both. Weekdays are therefore written by name, and
expressions with both are refused.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import count
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from audit.config.problems import listing

WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_LEAP_YEAR = 2024

_STEP = re.compile(r"(?P<range>\*|[A-Za-z0-9]+(-[A-Za-z0-9]+)?)(/(?P<step>[0-9]+))?", re.ASCII)


class CronError(ValueError):
    """The text is not a cron expression that every scheduler reads alike."""


class TimeZoneError(ValueError):
    """The time zone does not exist."""


@dataclass(frozen=True)
class _Field:
    """One of the five fields: name, range, and names of its values."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def parse(self, text: str) -> tuple[int, ...]:
        """Return the values that a field's text represents, ascending."""
        return tuple(sorted({value for item in text.split(",") for value in self._item(item)}))

    def _item(self, item: str) -> range:
        match = _STEP.fullmatch(item)
        if match is None:
            raise self._mistake(item)
        step = int(match["step"] or 1)
        if match["range"] == "*":
            first, last = self.low, self.high
        else:
            start, _, end = match["range"].partition("-")
            first = self._value(start)
            # in cron, a/n means from a to the end, like a-<last>/n
            last = self._value(end) if end else self.high if match["step"] else first
        if step < 1 or first > last:
            raise self._mistake(item)
        return range(first, last + 1, step)

    def _value(self, text: str) -> int:
        if text.upper() in self.words:
            return self.words.index(text.upper()) + self.low
        if not text.isdecimal() or not self.low <= int(text) <= self.high:
            raise self._mistake(text)
        return int(text)

    def _mistake(self, found: str) -> CronError:
        span = f"{self.low} to {self.high}" + (f" or {self.words[0]} to {self.words[-1]}" if self.words else "")
        return CronError(f"expected {self.name} ({span}), found {found!r}")


_FIELDS = (
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("days of the month", 1, 31),
    _Field("months", 1, 12, MONTHS),
    _Field("weekdays", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True)
class Cron:
    """Due times: each field as the values that it represents.

    Attributes:
        minutes: In 0 to 59.
        hours: In 0 to 23.
        days: Of the month, in 1 to 31.
        months: In 1 to 12.
        weekdays: Sunday is 0, Saturday 6.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read five fields: minute, hour, day of the month, month, weekday.

        Raises:
            CronError: If it is not a cron expression, or schedulers read it differently.
        """
        parts = text.split()
        names = [field.name for field in _FIELDS]
        if len(parts) != len(_FIELDS):
            raise CronError(f"expected five fields ({listing(names)}) such as '0 3 * * 1', found {text!r}")
        minutes, hours, days, months, weekdays = (field.parse(part) for field, part in zip(_FIELDS, parts, strict=True))
        cron = cls(minutes, hours, days, months, tuple(sorted({day % 7 for day in weekdays})))
        if cron._some_days and cron._some_weekdays:
            raise CronError(
                f"expected days of the month or weekdays, found both in {text!r}: Kubernetes runs on either, systemd "
                "only on days that match both; use two schedules"
            )
        if all(cron.days[0] > monthrange(_LEAP_YEAR, month)[1] for month in cron.months):
            raise CronError(f"expected a date that occurs, found {text!r}, whose days are in none of its months")
        return cron

    @property
    def every_hour(self) -> bool:
        """Whether the expression allows every hour."""
        return len(self.hours) == 24

    def times(self, start: datetime) -> Iterator[datetime]:
        """Yield every date and time that matches the fields, from ``start``, without a time zone, in order."""
        of_day = [time(hour, minute) for hour in self.hours for minute in self.minutes]
        for days in count():
            day = start.date() + timedelta(days)
            if self._names(day):
                whole = (datetime.combine(day, clock) for clock in of_day)
                yield from (found for found in whole if found >= start)

    def _names(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    @property
    def text(self) -> str:
        """The expression as five fields that Kubernetes and APScheduler read alike."""
        weekdays = ",".join(WEEKDAYS[day] for day in self.weekdays) if self._some_weekdays else "*"
        return " ".join((*(_listed(values, field) for values, field in self._numbers()), weekdays))

    def on_calendar(self, time_zone: str) -> str:
        """Return the expression as systemd's ``OnCalendar=``, see systemd.time(7)."""
        minutes, hours, days, months = (_listed(values, field) for values, field in self._numbers())
        weekdays = ",".join(WEEKDAYS[day].capitalize() for day in self.weekdays) if self._some_weekdays else ""
        return " ".join(filter(None, (weekdays, f"*-{months}-{days}", f"{hours}:{minutes}:00", time_zone)))

    def _numbers(self) -> tuple[tuple[tuple[int, ...], _Field], ...]:
        return tuple(zip((self.minutes, self.hours, self.days, self.months), _FIELDS, strict=False))

    @property
    def _some_days(self) -> bool:
        return len(self.days) < 31

    @property
    def _some_weekdays(self) -> bool:
        return len(self.weekdays) < len(WEEKDAYS)


def _listed(values: tuple[int, ...], field: _Field) -> str:
    return "*" if len(values) == field.high - field.low + 1 else ",".join(map(str, values))


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database.

    Raises:
        TimeZoneError: If no time zone has this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TimeZoneError(
            f"expected a time zone of the IANA database such as Europe/Berlin or UTC, found {name!r}"
        ) from error
