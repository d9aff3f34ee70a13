"""Tests that the loop survives crashes, overlaps, missed slots and SIGTERM, and records each."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml
from apscheduler.triggers.cron import CronTrigger

from audit.results.comparison.slots import Journal, Slot, SlotRecord, series_of, slot_of
from audit.storage.object_store import StorageError
from ray_jobs.schedule import slot as one_slot
from ray_jobs.schedule.cron import Cron
from ray_jobs.schedule.lease import Lease
from ray_jobs.schedule.loop import Schedule
from ray_jobs.schedule.slot import Order, run_slot
from ray_jobs.schedule.slot_times import SlotTimes

DUE = datetime(2026, 1, 5, 3, tzinfo=UTC)
WEEKLY = SlotTimes.of(Cron.parse("0 3 * * 1"), "UTC")
EVERY_SECOND = SlotTimes(CronTrigger(second="*", timezone=UTC))


@pytest.fixture
def order(tmp_path):
    """An order whose audit is a line of Python: ``sys.argv`` has the arguments of the command line."""
    (tmp_path / "weekly.yaml").write_text(
        yaml.safe_dump({"name": "weekly", "model": {"source": "rendered"}, "output": str(tmp_path / "runs")})
    )

    def make(program="", **settings):
        return Order(
            tmp_path / "weekly.yaml", program=(sys.executable, "-c", f"import sys, time\n{program}"), **settings
        )

    return make


def journal_of(order):
    config = order.read()
    return Journal.of(Path(config.output), config.name)


def states(order):
    return [record.state for record in journal_of(order).records()]


def once(order, due=DUE, times=WEEKLY):
    return run_slot(order, due, times, threading.Event())


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_the_audit_receives_its_slot_and_settings(order, tmp_path):
    shown = tmp_path / "told"
    made = order(
        f"open({str(shown)!r}, 'w').write(' '.join(sys.argv[1:]))", overrides=("seed=3",), address="127.0.0.1:1"
    )
    assert once(made).state == "done"
    expected = "run CONFIG --slot 2026-01-05T03:00:00+00:00 --gate-exit-code 0 --set seed=3 --address 127.0.0.1:1"
    assert shown.read_text() == expected.replace("CONFIG", str(made.config))


@pytest.mark.parametrize(
    ("program", "state", "code", "note"),
    [
        ("", "done", 0, ""),
        ("sys.exit(3)", "failed", 3, "exit code 3 (incomplete)"),
        ("raise MemoryError", "failed", 1, "exit code 1 (a crash)"),
        ("sys.exit(77)", "failed", 77, "exit code 77 (not an exit code of an audit)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed", 4, "ended by signal 9"),
    ],
)
def test_how_the_audit_ends_is_written_down(order, program, state, code, note):
    outcome = once(order(program))
    assert (outcome.state, outcome.code, outcome.note) == (state, code, note)
    assert states(order()) == ["started", state]


def test_a_slot_that_is_done_is_not_done_again_and_one_that_failed_is(order):
    assert once(order("sys.exit(4)")).state == "failed"
    assert once(order()).state == "done"
    assert once(order("sys.exit(4)")).note == "it was done before"
    assert states(order()) == ["started", "failed", "started", "done"]


def test_slots_without_a_running_schedule_are_reported_at_the_next_slot(order, caplog):
    once(order())
    once(order(), DUE + timedelta(weeks=4))
    [missed] = [record for record in journal_of(order()).records() if record.state == "missed"]
    assert (missed.slot, missed.until, missed.count) == (
        (DUE + timedelta(weeks=1)).isoformat(),
        (DUE + timedelta(weeks=3)).isoformat(),
        3,
    )
    assert "missed 3 slots" in caplog.text
    config = order().read()
    series = json.loads((Path(config.output) / "schedule" / "weekly" / f"{series_of(config)}.json").read_text())
    assert [(gap["state"], gap["count"]) for gap in series["gaps"]] == [("missed", 3)]


@pytest.fixture
def leases(monkeypatch, clock):
    """Slots hold their leases by a clock that changes only on request."""
    monkeypatch.setattr(one_slot, "Lease", partial(Lease, clock=clock))


@pytest.fixture
def children(monkeypatch, clock):
    """The processes of the audits; each starts 25 seconds after its lease was taken."""
    started, start = [], one_slot._start

    def late(command):
        clock.pass_by(25)
        started.append(start(command))
        return started[-1]

    monkeypatch.setattr(one_slot, "_start", late)
    return started


def until(path):
    """An audit that ends when a file exists, or after a minute."""
    return (
        "import os; end = time.time() + 60\n"
        f"while not os.path.exists({str(path)!r}) and time.time() < end: time.sleep(0.05)"
    )


def schedule_of(order):
    return Path(order.read().output) / "schedule" / "weekly"


def test_while_another_process_is_at_it_the_slot_is_refused_and_stale_leases_are_followed(order, leases, clock):
    Lease(schedule_of(order()), seconds=60, clock=clock).take()  # by a process that then dies
    refused = once(order("sys.exit(9)"))
    assert (refused.state, refused.code) == ("refused", 0)
    assert "held by process" in refused.note
    clock.pass_by(61)
    assert once(order()).state == "done"
    assert states(order()) == ["refused", "started", "done"]


def test_the_lease_is_renewed_while_the_audit_runs(order, leases, clock, tmp_path):
    made = order(until(tmp_path / "go"), lease_seconds=60)
    lease = schedule_of(made) / "lease.json"
    runner = threading.Thread(target=once, args=(made,))
    runner.start()
    wait_for(lambda: states(made) == ["started"])
    for _ in range(3):
        clock.pass_by(25)
        expected = (clock() + timedelta(seconds=60)).isoformat()
        wait_for(lambda expected=expected: json.loads(lease.read_text())["expires"] == expected)
    assert once(made, DUE + timedelta(weeks=1), None).state == "refused"
    (tmp_path / "go").touch()
    runner.join()
    assert states(made) == ["started", "refused", "done"]


def test_an_audit_whose_lease_was_taken_is_ended(order, leases, clock):
    made = order("time.sleep(60)", lease_seconds=60)
    runner = threading.Thread(target=once, args=(made,))
    runner.start()
    wait_for(lambda: states(made) == ["started"])
    (schedule_of(made) / "lease.json").unlink()
    Lease(schedule_of(made), clock=clock).take()
    clock.pass_by(25)
    runner.join(30)
    assert states(made) == ["started", "interrupted"]
    assert "found it held by process" in journal_of(made).records()[-1].note


def test_a_storage_that_fails_once_costs_no_audit(order, leases, children, monkeypatch, tmp_path):
    renew, left = Lease.renew, []

    def stumbling(lease):
        left.append(lease.seconds_left)
        if len(left) == 1:
            raise StorageError("the store is away")
        renew(lease)
        (tmp_path / "go").touch()

    monkeypatch.setattr(Lease, "renew", stumbling)
    assert once(order(until(tmp_path / "go"), lease_seconds=60)).state == "done"
    assert left == [35, 35]


def test_a_storage_that_stays_away_ends_the_audit_before_its_lease_expires(order, leases, children, clock, monkeypatch):
    left = []

    def away(lease):
        left.append(lease.seconds_left)
        clock.pass_by(8)
        raise StorageError("the store is away")

    monkeypatch.setattr(Lease, "renew", away)
    outcome = once(order("time.sleep(60)", lease_seconds=60))
    assert (outcome.state, outcome.note) == ("interrupted", "the lease could not be renewed: the store is away")
    assert left == [35, 27]
    assert [child.returncode for child in children] == [-signal.SIGTERM]


def test_storage_that_does_not_answer_does_not_prevent_the_end_of_the_audit(
    order, leases, children, clock, monkeypatch
):
    def silent(_lease):
        clock.pass_by(20)
        children[0].wait(60)  # it would say nothing for longer than the audit is there

    monkeypatch.setattr(Lease, "renew", silent)
    outcome = once(order("time.sleep(120)", lease_seconds=60))
    assert outcome.state == "interrupted"
    assert outcome.note == "the lease could not be renewed: its storage does not answer"
    assert [child.returncode for child in children] == [-signal.SIGTERM]


def test_no_audit_outlives_the_process_that_waits_for_it(order, leases, children, monkeypatch):
    def broken(_lease):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Lease, "renew", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        once(order("time.sleep(60)", lease_seconds=60))
    assert [child.returncode for child in children] == [-signal.SIGTERM]


def test_a_slot_that_the_storage_keeps_from_its_lease_costs_no_further_one(order, monkeypatch, caplog):
    take, tries = Lease.take, []

    def stumbling(lease):
        tries.append(lease)
        if len(tries) == 1:
            raise StorageError("the store is away")
        take(lease)

    monkeypatch.setattr(Lease, "take", stumbling)
    schedule = Schedule(order(), EVERY_SECOND, count=1)
    schedule.run()
    assert [outcome.state for outcome in schedule.outcomes] == ["done"]
    assert "has no result: the store is away" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_crash_does_not_end_the_loop(order, tmp_path):
    crash_first = f"import os; p = {str(tmp_path / 'again')!r}\nif not os.path.exists(p): open(p, 'w'); sys.exit(4)"
    schedule = Schedule(order(crash_first), EVERY_SECOND, count=2)
    schedule.run()
    assert [outcome.state for outcome in schedule.outcomes] == ["failed", "done"]
    assert schedule.outcomes[0].slot < schedule.outcomes[1].slot


def test_a_slot_during_a_running_audit_is_recorded_as_missed(order):
    schedule = Schedule(order("time.sleep(2.5)"), EVERY_SECOND, count=1)
    schedule.run()
    missed = [record for record in journal_of(order()).records() if record.state == "missed"]
    assert len(missed) >= 1
    assert {record.note for record in missed} == {"the previous audit was still running"}


def test_a_config_that_was_broken_meanwhile_costs_a_slot_and_not_the_loop(order):
    made = order()
    text = made.config.read_text()
    schedule = Schedule(made, EVERY_SECOND, count=1)
    made.config.write_text("name: [")
    runner = threading.Thread(target=schedule.run)
    runner.start()
    journal = Journal(made.config.parent / "runs" / "schedule" / "weekly" / "slots.jsonl")
    wait_for(lambda: any(record.note == "the config has errors" for record in journal.records()))
    made.config.write_text(text)
    runner.join(60)
    assert [outcome.state for outcome in schedule.outcomes] == ["done"]


@pytest.mark.parametrize("state", ["started", "interrupted"])
def test_after_a_restart_a_slot_that_was_cut_short_is_taken_up_at_once(order, state):
    made = order()
    due = WEEKLY.last(datetime.now(UTC))
    journal_of(made).append(SlotRecord(series_of(made.read()), due.isoformat(), state))
    schedule = Schedule(made, WEEKLY, count=1)
    schedule.run()
    assert [outcome.slot.time for outcome in schedule.outcomes] == [due]


def test_after_a_long_absence_the_loop_records_missed_slots_and_waits(order):
    made = order()
    yearly = SlotTimes.of(Cron.parse("0 3 1 1 *"), "UTC")
    past = yearly.between(datetime(2020, 6, 1, tzinfo=UTC), datetime.now(UTC))
    journal_of(made).append(SlotRecord(series_of(made.read()), past[0].isoformat(), "done"))
    schedule = Schedule(made, yearly, grace_seconds=1)
    stopper = threading.Timer(1, schedule.stop)
    stopper.start()
    schedule.run()
    [_, missed] = journal_of(made).records()
    assert (missed.state, missed.count, missed.slot, missed.until) == (
        "missed", len(past) - 1, past[1].isoformat(), past[-1].isoformat()
    )  # fmt: skip
    assert schedule.outcomes == []


def test_sigterm_ends_the_audit_and_frees_the_lease(order, tmp_path):
    made = order()
    program = (
        "import signal, sys; from datetime import UTC; from pathlib import Path\n"
        "from apscheduler.triggers.cron import CronTrigger\n"
        "from ray_jobs.schedule.loop import Schedule; from ray_jobs.schedule.slot import Order\n"
        "from ray_jobs.schedule.slot_times import SlotTimes\n"
        "long = (sys.executable, '-c', 'import time; time.sleep(600)')\n"
        "order, times = Order(Path(sys.argv[1]), program=long), SlotTimes(CronTrigger(second='*', timezone=UTC))\n"
        "schedule = Schedule(order, times)\n"
        "signal.signal(signal.SIGTERM, lambda *_: schedule.stop())\n"
        "schedule.run()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program, str(made.config)], env=environment) as loop:
        wait_for(lambda: "started" in states(made))
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(60) == 0
    assert [state for state in states(made) if state != "missed"] == ["started", "interrupted"]
    assert not (tmp_path / "runs" / "schedule" / "weekly" / "lease.json").exists()


def test_a_run_directory_is_named_after_its_slot(order):
    slot = Slot(series_of(order().read()), DUE)
    assert slot.run_id.endswith("-20260105T030000Z")
    assert slot_of(slot.run_id) == slot
    assert slot_of("weekly-20260105T030000Z") is None
    assert slot_of(slot.run_id.replace("0105", "1305")) is None


def test_a_line_that_a_crash_cut_short_is_passed_over(order):
    journal = journal_of(order())
    journal.append(SlotRecord("weekly-1", DUE.isoformat(), "done"))
    path = Path(order().read().output) / "schedule" / "weekly" / "slots.jsonl"
    path.write_text(path.read_text() + '{"series": "weekly-1", "slot": "2026-01')
    assert [record.state for record in journal.records()] == ["done"]
    journal.append(SlotRecord("weekly-1", DUE.isoformat(), "failed"))
    assert [record.state for record in journal.records()] == ["done", "failed"]


def test_slots_missed_in_a_row_for_one_reason_are_one_gap(order):
    journal = journal_of(order())
    states = ("done", "missed", "missed", "failed", "missed", "done", "missed")
    slots = [DUE + timedelta(weeks=week) for week in range(len(states))]
    for slot, state in zip(slots, states, strict=True):
        journal.append(SlotRecord("weekly-1", slot.isoformat(), state))
    gaps = journal.gaps("weekly-1", slots[-1])
    assert [(gap.state, gap.count) for gap in gaps] == [("missed", 2), ("failed", 1), ("missed", 1), ("missed", 1)]
    assert (gaps[0].slot, gaps[0].until) == (slots[1].isoformat(), slots[2].isoformat())
    assert journal.gaps("weekly-1", slots[2]) == gaps[:1]
