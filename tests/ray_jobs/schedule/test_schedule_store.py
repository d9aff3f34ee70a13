"""Tests a schedule with results in an object store, which also holds journal, lease, series and alerts."""

import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from audit.results.comparison.slots import Journal, SlotRecord, schedule_directory, series_of
from audit.storage.files import storage_of
from audit.storage.place import place_of
from benchmarks.s3_server import BUCKET
from ray_jobs.schedule.alerts import ALERTS, Alert, note_alerts, read_alerts
from ray_jobs.schedule.cron import Cron
from ray_jobs.schedule.lease import Lease
from ray_jobs.schedule.slot import Order, run_slot
from ray_jobs.schedule.slot_times import SlotTimes

DUE = datetime(2026, 1, 5, 3, tzinfo=UTC)
WEEKLY = SlotTimes.of(Cron.parse("0 3 * * 1"), "UTC")


@pytest.fixture
def order(s3, tmp_path):
    """An order whose audit is a line of Python, with its results in the store."""
    output = f"s3://{BUCKET}/{tmp_path.name}/runs"
    config = {"name": "weekly", "model": {"source": "rendered"}, "output": output, "tracking": {"enabled": False}}
    (tmp_path / "weekly.yaml").write_text(yaml.safe_dump(config))
    return lambda program="": Order(tmp_path / "weekly.yaml", program=(sys.executable, "-c", program))


def once(order, due=DUE):
    return run_slot(order, due, WEEKLY, threading.Event())


def test_slots_are_done_refused_and_missed_as_on_a_disk(order):
    config = order().read()
    directory = schedule_directory(place_of(config.output), config.name)
    assert once(order("raise SystemExit(3)")).state == "failed"
    assert once(order()).state == "done"
    assert once(order("raise SystemExit(3)")).note == "it was done before"
    with Lease(directory).held():
        refused = once(order(), DUE + timedelta(weeks=1))
    assert (refused.state, "held by process" in refused.note) == ("refused", True)
    assert once(order(), DUE + timedelta(weeks=4)).state == "done"
    states = [record.state for record in Journal.of(place_of(config.output), config.name).records()]
    assert states == ["started", "failed", "started", "done", "refused", "missed", "started", "done"]
    series = json.loads(storage_of(directory).read(f"{series_of(config)}.json"))
    assert [(gap["state"], gap["count"]) for gap in series["gaps"]] == [("refused", 1), ("missed", 2)]
    assert read_alerts(directory / ALERTS) == ()


def test_lines_of_a_journal_come_back_in_order_and_rubbish_is_passed_over(place):
    journal = Journal(place / "slots.jsonl")
    records = [SlotRecord("weekly", (DUE + timedelta(weeks=n)).isoformat(), "done", f"ü {n}") for n in range(5)]
    for record in records:
        journal.append(record)
        storage_of(place).append("slots.jsonl", '{"series": "cut')
    assert journal.records() == tuple(records)


def test_alerts_are_sent_once_and_an_invalid_file_is_moved_aside(place):
    alert = Alert("a/gate/fair", "gate", "weekly", "a", DUE.isoformat(), "fair", None, "fail", "it failed")
    assert note_alerts(place / ALERTS, [alert]) == (alert,)
    assert note_alerts(place / ALERTS, [alert]) == ()
    storage_of(place).write(ALERTS, b"rubbish")
    assert read_alerts(place / ALERTS) == ()
    assert storage_of(place).read("alerts.unreadable") == b"rubbish"
