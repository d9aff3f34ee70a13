"""Tests that a cron expression has the same dates in Kubernetes, systemd and APScheduler, or is refused."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.schedule.cron import Cron, CronError, TimeZoneError
from ray_jobs.schedule.slot_times import SlotTimes

START = datetime(2026, 1, 1, tzinfo=UTC)


def field(low, high):
    one = st.integers(low, high)
    ranges = st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.tuples(st.one_of(st.just("*"), ranges), st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.lists(st.one_of(one.map(str), ranges, steps), min_size=1, max_size=3).map(",".join)


def test_a_number_is_the_weekday_that_cron_means():
    [monday] = islice(SlotTimes.of(Cron.parse("0 3 * * 1"), "UTC").after(START), 1)
    assert (monday.strftime("%A"), monday.hour) == ("Monday", 3)


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun"])
def test_sunday_has_several_names_and_is_written_as_one_that_all_know(sunday):
    assert Cron.parse(f"30 4 * * {sunday}").text == "30 4 * * SUN"


@given(minute=field(0, 59), hour=field(0, 23), weekday=field(0, 6))
def test_dates_are_those_that_the_fields_name(minute, hour, weekday):
    cron = Cron.parse(f"{minute} {hour} * * {weekday}")
    times = SlotTimes.of(cron, "UTC")
    moment = START
    for slot in islice(times.after(START), 3):
        assert slot.minute in cron.minutes
        assert slot.hour in cron.hours
        assert (slot.weekday() + 1) % 7 in cron.weekdays
        assert slot > moment
        moment = slot
    assert times.last(moment) == moment


@given(parts=st.lists(st.text("0123456789*/-,?LW#aMON\u0661 ", max_size=6), min_size=5, max_size=5))
def test_a_parsed_expression_keeps_its_dates_and_others_are_refused(parts):
    with suppress(CronError):
        cron = Cron.parse(" ".join(parts))
        assert Cron.parse(cron.text) == cron


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 3 * *", "expected five fields"),
        ("60 3 * * *", r"expected minutes \(0 to 59\), found '60'"),
        ("0 3 * * 8", r"expected weekdays \(0 to 7 or SUN to SAT\), found '8'"),
        ("5-2 3 * * *", "found '5-2'"),
        ("*/0 3 * * *", r"found '\*/0'"),
        ("0 3 1 * 1", "Kubernetes runs on either, systemd only on days that match both"),
        ("@weekly", "expected five fields"),
    ],
)
def test_an_error_names_the_expected_value(text, message):
    with pytest.raises(CronError, match=message):
        Cron.parse(text)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(TimeZoneError, match="found 'Europe/Nowhere'"):
        SlotTimes.of(Cron.parse("0 3 * * *"), "Europe/Nowhere")


def test_the_hour_is_that_of_the_time_zone_in_summer_and_winter():
    times = SlotTimes.of(Cron.parse("0 3 * * *"), "Europe/Berlin")
    hours = {slot.hour for slot in islice(times.after(START), 365)}
    assert hours == {1, 2}
    local = {slot.astimezone(ZoneInfo("Europe/Berlin")).hour for slot in islice(times.after(START), 365)}
    assert local == {3}


def test_slots_between_two_moments_exclude_both():
    times = SlotTimes.of(Cron.parse("0 * * * *"), "UTC")
    end = START + timedelta(hours=3)
    assert times.between(START, end) == (START + timedelta(hours=1), START + timedelta(hours=2))
    assert times.between(START, START + timedelta(hours=1)) == ()


def test_the_last_slot_may_be_years_ago():
    times = SlotTimes.of(Cron.parse("0 0 29 2 *"), "UTC")
    assert times.last(datetime(2027, 6, 1, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("text", ["0 3 * * 1", "*/15 8-17 * * 1-5", "30 4 1,15 * *", "0 0 29 2 *", "59 23 31 12 *"])
def test_systemd_has_the_same_dates(text):
    cron = Cron.parse(text)
    start = "--base-time=2026-01-01 00:00:00 UTC"
    command = ["systemd-analyze", "calendar", "--iterations=3", start, cron.on_calendar("UTC")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})
    shown = re.findall(r"(?:Next elapse|Iter\. #\d): \w+ (\S+) (\S+) UTC", done.stdout)
    expected = islice(SlotTimes.of(cron, "UTC").after(START - timedelta(seconds=1)), 3)
    assert shown == [(f"{slot:%Y-%m-%d}", f"{slot:%H:%M:%S}") for slot in expected]
