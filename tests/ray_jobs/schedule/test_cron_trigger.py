"""Tests slots at every clock change: in ascending order, none lost, none repeated.

The oracle walks minute by minute through real time and looks at the clock on the wall; it shares no code with the
trigger.
"""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ray_jobs.schedule.cron import Cron, CronError
from ray_jobs.schedule.cron_trigger import WallClockTrigger
from ray_jobs.schedule.slot_times import SlotTimes

ZONES = sorted(available_timezones() - {"localtime"})
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NAMED_HOURS, OTHER_HOURS, NO_HOURS = "* 0-22 * * *", "*/7 1-23 * * *", "*/5 * * * *"


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


def offset(zone, moment):
    return moment.astimezone(zone).utcoffset()


def changes(zone, first_year, last_year):
    """Return every moment of a zone's clock changes."""
    begin = at(first_year, 1, 1)
    days = [begin + DAY * number for number in range((at(last_year + 1, 1, 1) - begin).days)]
    for day, after in pairwise(days):
        old = offset(zone, day)
        if offset(zone, after) != old:
            seconds = bisect_left(
                range(86_400),
                True,
                key=lambda second, day=day, old=old: offset(zone, day + timedelta(seconds=second)) != old,
            )
            yield day + timedelta(seconds=seconds)


@cache
def all_changes(first_year, last_year):
    """Return zone and moment of every change; zones with equal changes are merged."""
    found = {}
    for name in ZONES:
        zone = ZoneInfo(name)
        moments = tuple(
            (moment, offset(zone, moment - MINUTE), offset(zone, moment))
            for moment in changes(zone, first_year, last_year)
        )
        found.setdefault(moments, zone)
    return [(zone, moment) for moments, zone in found.items() for moment, _, _ in moments]


def walk(crons, zone, start, end):
    """Return the slots of each cron in [start, end) by checking the clock at every minute.

    Where hours are named, a slot is due when the clock comes to its time, or past it, for the first time.
    """
    slots = {cron: [] for cron in crons}
    moment = start - (end - start) / 2  # the clock may have shown a later time before
    highest = moment.astimezone(zone).replace(tzinfo=None) - MINUTE
    while moment < end:
        shown = moment.astimezone(zone).replace(tzinfo=None)
        passed = [highest + MINUTE * number for number in range(1, int((shown - highest) / MINUTE) + 1)]
        for cron, found in slots.items():
            looked_at = [shown] if cron.every_hour else passed
            if any(clock.hour in cron.hours and clock.minute in cron.minutes for clock in looked_at):
                found.append(moment)
        highest = max(highest, shown)
        moment += MINUTE
    return {cron: [slot for slot in found if slot >= start] for cron, found in slots.items()}


def check(zone, change, width):
    crons = [Cron.parse(text) for text in (NAMED_HOURS, OTHER_HOURS, NO_HOURS)]
    start, end = change - width, change + width
    for cron, expected in walk(crons, zone, start, end).items():
        slots = WallClockTrigger(cron, zone).after(start - timedelta(microseconds=1))
        found = list(takewhile(lambda slot: slot < end, slots))
        assert found == expected, f"{cron.text} in {zone.key} around {change}"
        assert all(earlier < later for earlier, later in pairwise(found))


def test_every_zone_whose_clock_is_changed_these_years_minute_by_minute():
    found = all_changes(2024, 2026)
    assert len({zone.key for zone, _ in found}) > 20
    for zone, change in found:
        check(zone, change, 3 * HOUR)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Australia/Lord_Howe", 2020, 2022),  # half an hour
        ("Africa/Casablanca", 2020, 2024),  # for Ramadan
        ("Europe/Dublin", 2024, 2024),  # standard time in summer
        ("America/Santiago", 2020, 2022),  # at midnight, southern
        ("Asia/Beirut", 2020, 2022),
        ("America/Havana", 2020, 2022),
        ("Antarctica/Troll", 2020, 2022),  # two hours
        ("Asia/Pyongyang", 2015, 2018),
        ("America/Caracas", 2007, 2016),
        ("Pacific/Apia", 2010, 2012),  # skipped 30 December 2011
        ("Pacific/Kwajalein", 1993, 1993),  # skipped 21 August
        ("America/St_Johns", 2006, 2011),  # at one minute past midnight, back to the day before
        ("Asia/Gaza", 2023, 2026),
        ("Africa/Juba", 2021, 2021),
    ],
)
def test_clocks_that_are_changed_in_an_unusual_way_minute_by_minute(name, first, last):
    zone = ZoneInfo(name)
    found = list(changes(zone, first, last))
    assert found
    for change in found:
        check(zone, change, 26 * HOUR)


BERLIN = "Europe/Berlin"


def names_of(text, start, n, zone=BERLIN):
    return [
        slot.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %Z")
        for slot in islice(SlotTimes.of(Cron.parse(text), zone).after(start), n)
    ]


def test_a_time_that_comes_twice_is_one_slot():
    eve = at(2026, 10, 24, 12)
    assert names_of("30 2 * * *", eve, 3) == ["25 02:30 CEST", "26 02:30 CET", "27 02:30 CET"]
    assert names_of("30 2 25 10 *", eve, 1) == ["25 02:30 CEST"]
    assert len(SlotTimes.of(Cron.parse("30 2 25 10 *"), BERLIN).between(eve, at(2027, 10, 1))) == 1


def test_a_time_that_is_skipped_is_a_slot_at_the_change():
    eve = at(2026, 3, 28, 12)
    assert names_of("30 2 * * *", eve, 3) == ["29 03:00 CEST", "30 02:30 CEST", "31 02:30 CEST"]
    assert names_of("0,20,40 2,3 * * *", eve, 4) == ["29 03:00 CEST", "29 03:20 CEST", "29 03:40 CEST", "30 02:00 CEST"]
    samoa = names_of("0 3 * 12 *", at(2011, 12, 29, 0), 3, "Pacific/Apia")
    assert [slot[:8] for slot in samoa] == ["29 03:00", "31 00:00", "31 03:00"]


def test_slots_without_hours_follow_the_clock_as_it_runs():
    assert names_of("30 * * * *", at(2026, 10, 24, 23), 4) == [
        "25 01:30 CEST",
        "25 02:30 CEST",
        "25 02:30 CET",
        "25 03:30 CET",
    ]
    assert names_of("30 * * * *", at(2026, 3, 29, 0), 3) == ["29 01:30 CET", "29 03:30 CEST", "29 04:30 CEST"]


@pytest.mark.parametrize("minute", range(0, 180, 7))
def test_the_last_slot_is_found_from_any_moment_of_a_doubled_hour(minute):
    moment = at(2026, 10, 25, 0) + minute * MINUTE
    expected = at(2026, 10, 25, 0, 30) if minute >= 30 else at(2026, 10, 24, 0, 30)
    times = SlotTimes.of(Cron.parse("30 2 * * *"), BERLIN)
    assert times.last(moment) == expected
    assert times.between(expected, moment) == ()


CRONS = st.builds(
    lambda minute, hour, day, month: f"{minute} {hour} {day} {month} *",
    st.sampled_from(["0", "30", "*/20", "1-59/13"]), st.sampled_from(["*", "0", "2", "1-3", "23", "*/5"]),
    st.sampled_from(["*", "1", "25-31"]), st.sampled_from(["*", "3,10"]),
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=CRONS, zone=st.sampled_from(ZONES), hours=st.integers(0, 24 * 365 * 40))
def test_slots_ascend_in_every_zone_and_do_not_depend_on_the_start(text, zone, hours):
    times = SlotTimes.of(Cron.parse(text), zone)
    start = at(1990, 1, 1) + hours * HOUR
    slots = list(islice(times.after(start), 8))
    assert all(earlier < later for earlier, later in pairwise([start, *slots]))
    for earlier, later in pairwise(slots):
        assert next(times.after(earlier)) == next(times.after(later - timedelta(seconds=1))) == later


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=CRONS, zone=st.sampled_from(ZONES), hours=st.integers(0, 24 * 365 * 40))
def test_where_no_clock_is_changed_slots_are_those_of_apscheduler(text, zone, hours):
    start = at(1990, 1, 1) + hours * HOUR
    found = next(SlotTimes.of(Cron.parse(text), zone).after(start))
    clock = ZoneInfo(zone)
    assume(len({offset(clock, moment) for moment in (start, found, found - DAY, found + DAY)}) == 1)
    theirs = CronTrigger.from_crontab(text, timezone=clock).get_next_fire_time(
        None, start.astimezone(clock) + timedelta(microseconds=1)
    )
    assert found == theirs


def test_a_date_that_never_comes_is_refused():
    for text in ("0 0 30 2 *", "0 0 31 2,4,6 *"):
        with pytest.raises(CronError, match="expected a date that occurs"):
            Cron.parse(text)
    assert Cron.parse("0 0 29-31 2 *").days == (29, 30, 31)
