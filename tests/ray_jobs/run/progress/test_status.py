"""Anybody who sees the run directory sees how far the run is."""

import io
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from audit.records.work import ShardReceipt
from audit.storage.run_directory import PROGRESS, RunDirectory
from ray_jobs.cli.commands import app
from ray_jobs.pool.faults import FaultKind
from ray_jobs.run.progress.display import show_progress
from ray_jobs.run.progress.fault_manifest import Manifest
from ray_jobs.run.progress.status import NoRunError, status_lines, status_of


@pytest.fixture
def half_way(tmp_path):
    """A run whose driver was lost after one of two shards, with one damaged shard before that."""
    run = RunDirectory(tmp_path / "run")
    Manifest(run).corrupt_shard("doctor-0000", "cut short")
    with show_progress(run, total=2, done=0, stream=io.StringIO()) as progress:
        progress.finished(ShardReceipt("doctor-0000", images=8, seconds=1.0, statuses={"classified": 8}))
        last_word = progress.snapshot("running")
    gone = replace(last_word, driver="an earlier process")
    run.write_json(PROGRESS, asdict(gone))  # and not how it ended
    return run


def test_a_running_audit_tells_its_shards_and_faults(half_way):
    first, second = status_lines(status_of(half_way))
    assert first.startswith("running: 1 of 2 shards, ")
    assert second == "faults: 1 corrupt_shard"


def test_a_driver_that_was_not_heard_of_for_long_is_told(half_way):
    later = datetime.now(UTC) + timedelta(hours=2)
    assert not status_of(half_way).silent
    assert "no progress for 120 min" in status_lines(status_of(half_way, later))[-1]


def test_a_killed_driver_is_told_as_stopped_at_once(tmp_path):
    """A real process claims to run, is killed, and stays a zombie until it is waited for."""
    program = (
        "import io, sys, time; from pathlib import Path\n"
        "from audit.storage.run_directory import RunDirectory\n"
        "from ray_jobs.run.progress.display import show_progress\n"
        "with show_progress(RunDirectory(Path(sys.argv[1])), total=2, done=1, stream=io.StringIO()):\n"
        "    print('began', flush=True); time.sleep(600)"
    )
    plain = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=plain)
    try:
        assert driver.stdout.readline() == b"began\n"
        run = RunDirectory(tmp_path)
        assert status_lines(status_of(run)) == ["running: 1 of 2 shards"]
    finally:
        driver.kill()
    gone = ["stopped: 1 of 2 shards", f"its driver (process {driver.pid}) has ended without finishing; "
            "run the audit again to resume"]  # fmt: skip
    wait_until(lambda: status_of(run).driver_gone)
    assert status_lines(status_of(run)) == gone
    driver.communicate()
    assert status_lines(status_of(run)) == gone
    told = json.loads(CliRunner().invoke(app, ["status", str(tmp_path), "--json"]).stdout)
    assert told["driver_gone"]


def test_a_driver_elsewhere_or_of_another_release_is_not_looked_for(half_way):
    known = half_way.read_json(PROGRESS)
    reused = known | {"pid_start": known["pid_start"] - 1}  # the number went to another process
    for told, gone in ((known, False), (reused, True), (reused | {"pid_space": "another machine"}, False)):
        half_way.write_json(PROGRESS, told)
        assert status_of(half_way).driver_gone is gone
    half_way.write_json(PROGRESS, {key: value for key, value in reused.items() if not key.startswith("pid_")})
    assert not status_of(half_way).driver_gone


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_finished_audit_may_be_silent(tmp_path):
    run = RunDirectory(tmp_path)
    with show_progress(run, total=0, done=0, stream=io.StringIO()):
        pass
    status = status_of(run, datetime.now(UTC) + timedelta(days=3))
    assert status_lines(status) == ["done: 0 of 0 shards"]


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(NoRunError, match=r"expected a run directory with progress.json, found none"):
        status_of(RunDirectory(tmp_path))


def test_half_a_file_is_named_with_what_it_lacks(half_way):
    progress = half_way.read_json("progress.json")
    half_way.write_json("progress.json", {key: progress[key] for key in ("done", "total", "failed", "host", "pid")})
    told = CliRunner().invoke(app, ["status", str(half_way.path)])
    assert told.exit_code == 2
    assert "found no eta_seconds, images_per_second, state, updated" in " ".join(told.stderr.split())
    Manifest(half_way).lost_driver()  # a run that is resumed passes over it


def test_the_command_answers_in_words_and_as_json(half_way, tmp_path):
    told = CliRunner().invoke(app, ["status", str(half_way.path)])
    assert (told.exit_code, told.stdout.splitlines()[1]) == (0, "faults: 1 corrupt_shard")
    data = json.loads(CliRunner().invoke(app, ["status", str(half_way.path), "--json"]).stdout)
    assert (data["progress"]["state"], data["failures"], data["silent"]) == ("running", {"corrupt_shard": 1}, False)
    assert CliRunner().invoke(app, ["status", str(tmp_path)]).exit_code == 2


def test_the_manifest_goes_on_where_an_earlier_driver_stopped_and_counts_lost_drivers(half_way):
    Manifest(half_way).lost_driver()
    Manifest(half_way).lost_driver()
    kinds = [(entry["kind"], entry["attempt"]) for entry in half_way.read_json("failures.json")["failures"]]
    assert kinds == [(FaultKind.CORRUPT_SHARD, 1), (FaultKind.LOST_DRIVER, 1), (FaultKind.LOST_DRIVER, 2)]


def test_a_manifest_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / "run").write_text("a file where the directory should be")
    Manifest(RunDirectory(tmp_path / "run")).corrupt_shard("doctor-0000", "cut short")
    assert "failures.json could not be written and is kept in memory" in caplog.text
