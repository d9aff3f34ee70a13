"""An audit whose results lie in an object store gives the rows of one on a disk, whatever store and driver do."""

import os
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.storage.place import ObjectPath, place_of
from audit.storage.run_directory import FAILURES, PROGRESS, REPORT, RESULTS, RunDirectory
from benchmarks.s3_server import BUCKET, seeded_faults
from ray_jobs.cli.commands import app
from ray_jobs.run.audit import plan, run_audit

SMALL = {"occupations": ["doctor", "nurse"], "images_per_prompt": 24}
"""With batches of 4: 12 shards."""


@pytest.fixture(scope="module")
def local(make_audit, cluster, tmp_path_factory):
    """The audit on a disk, by two workers: its config, and the bytes of its rows."""
    config = make_audit(tmp_path_factory.mktemp("local"), prompts=SMALL, workers={"count": 2})
    outcome = run_audit(config, run_id="same")
    return config, RunDirectory(outcome.run_path).read_bytes(RESULTS)


def stored(config, prefix, **sections):
    """The same audit into the store."""
    return AuditConfig(**{**config.model_dump(), **sections, "output": f"s3://{BUCKET}/{prefix}"})


def answer_of(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def whole(local, s3_server):
    """The audit in the store, by one worker: its config, what came out, and what was asked of the store meanwhile."""
    config = stored(local[0], "whole", workers={"count": 1})
    asked = len(s3_server.requests)
    outcome = run_audit(config, run_id="same")
    return config, outcome, s3_server.requests[asked:]


def test_one_worker_gives_the_rows_of_two_on_a_disk_and_the_run_is_as_whole(s3, local, whole):
    _, rows = local
    _, outcome, _ = whole
    run = RunDirectory(outcome.run_path)
    assert run.path == ObjectPath("s3", f"{BUCKET}/whole/same")
    assert run.read_bytes(RESULTS) == rows
    assert outcome.complete
    assert run.read_json(PROGRESS)["state"] == "done"
    assert "data:image/webp" in run.read_bytes(REPORT).decode()  # the images kept for it are read from the store


def test_shards_are_listed_three_times_whatever_their_number_and_each_is_put_once(whole):
    config, _, requests = whole
    listings = [request for request in requests if "same%2Fshards%2F" in request.query]
    assert len(listings) == 3  # is the run new, what is to do, what is done
    puts = [r.path for r in requests if r.method == "PUT" and r.path.endswith(".parquet") and "/shards/" in r.path]
    assert len(puts) == len(set(puts)) == len(plan(config))
    assert not [request for request in requests if request.method == "HEAD"]


def test_a_finished_run_is_read_where_it_lies(s3, whole, tmp_path):
    _, outcome, _ = whole
    run = RunDirectory(outcome.run_path)
    assert "done: 12 of 12 shards" in answer_of("status", run.path).output
    assert answer_of("report", run.path).output == f"Report: {run.path}/report.html\n"
    compared = answer_of("compare", run.path, run.path)
    assert compared.exit_code == 0, compared.output
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    synced = answer_of("sync", run.path.parent, "--uri", database)
    assert (synced.exit_code, "items sent" in synced.output) == (0, True), synced.output
    assert "already up to date" in answer_of("sync", run.path, "--uri", database).output
    assert (tmp_path / "mlartifacts").is_dir()


def test_a_store_that_stumbles_changes_no_row_of_two_workers_and_no_shard_is_done_twice(s3, local):
    config, rows = local
    s3.fault = seeded_faults(11, 0.15, kinds=(500, 503, 0.1))
    outcome = run_audit(stored(config, "stumbling"), run_id="same")
    run = RunDirectory(outcome.run_path)
    assert len(s3.faults) > 10
    s3.fault = lambda _request: None
    assert outcome.complete
    assert run.read_bytes(RESULTS) == rows
    assert not run.has(FAILURES)
    assert s3.finishes("stumbling/same") == Counter(shard.id for shard in plan(config))


def test_a_driver_killed_half_way_goes_on_and_no_finished_shard_is_done_again(s3, local, tmp_path):
    config, rows = local
    config = stored(config, "killed", workers={"count": 1})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    program = (
        "import sys; from audit.config.settings import AuditConfig; from ray_jobs.run.audit import run_audit\n"
        "run_audit(AuditConfig.model_validate_json(open(sys.argv[1]).read()), run_id='same')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = RunDirectory(place_of(config.output) / "same")
    shard_files = f"{run.path.key.partition('/')[2]}/shards/"
    s3.fault = lambda request: 0.2 if request.method == "PUT" and shard_files in request.path else None  # a half-way
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "config.json")], env=environment) as driver:
        while len(finished := s3.keys(shard_files)) < 3:
            assert driver.poll() is None
            time.sleep(0.05)
        started = psutil.Process(driver.pid).children(recursive=True)
        [worker] = [process for process in started if "ShardWorker" in process.name()]
        driver.kill()
    worker.wait(60)  # it may still put what it was at
    while s3.under_way:
        time.sleep(0.05)
    for process in filter(psutil.Process.is_running, started):
        process.kill()  # Ray's agents would stay
    before = run.finished()
    s3.fault = lambda _request: None
    s3.served.clear()
    assert len(finished) <= len(before) < len(plan(config))
    assert RunDirectory(run_audit(config, run_id="same").run_path).read_bytes(RESULTS) == rows
    assert s3.finishes("killed/same") == Counter({shard.id for shard in plan(config)} - before)
    assert [entry["kind"] for entry in run.read_json(FAILURES)["failures"]] == ["lost_driver"]


def test_a_store_that_fails_for_good_ends_with_one_message_and_keeps_what_is_finished(s3, whole, tmp_path, monkeypatch):
    config, outcome, _ = whole
    (tmp_path / "audit.yaml").write_text(config.model_dump_json())
    monkeypatch.setattr("audit.storage.object_store.TRIES", 2)
    s3.fault = lambda request: 503 if request.method == "PUT" and "results.parquet" in request.path else None
    answer = answer_of("run", tmp_path / "audit.yaml", "--run-id", "same")
    assert answer.exit_code == 4
    assert "2 failed attempts, the last with SlowDown" in answer.stderr
    assert "Traceback" not in answer.output + answer.stderr
    assert len(RunDirectory(outcome.run_path).finished()) == len(plan(config))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("s3://no-such-bucket/runs", "expected the bucket 'no-such-bucket'"),
        ("s3://key:hunter2secret@bucket/runs", "set credentials in the environment"),
        ("memory://bucket/runs", "which only one process can"),
    ],
)
def test_a_store_that_is_not_there_is_found_before_anything_is_made(s3, local, tmp_path, output, message):
    config, _ = local
    (tmp_path / "audit.yaml").write_text(config.model_dump_json())
    for command in ("validate", "run"):
        answer = answer_of(command, tmp_path / "audit.yaml", "--output", output)
        assert answer.exit_code == 2
        assert message in answer.stderr
        assert "hunter2" not in answer.stderr
    doctor = answer_of("doctor", tmp_path / "audit.yaml", "--set", f"output={output}")
    assert doctor.exit_code in (2, 4)
    assert "hunter2" not in doctor.output


def test_results_in_a_store_need_a_tracking_store_of_their_own(s3, local, tmp_path):
    config, _ = local
    (tmp_path / "audit.yaml").write_text(config.model_dump_json())
    answer = answer_of(
        "validate", tmp_path / "audit.yaml", "--output", f"s3://{BUCKET}/a", "--set", "tracking.enabled=true"
    )
    assert (answer.exit_code, "tracking.uri" in answer.stderr) == (2, True)


def test_no_credential_is_anywhere_in_a_run(s3, whole):
    _, outcome, _ = whole
    run = RunDirectory(outcome.run_path)
    for key in s3.keys(run.path.key.partition("/")[2]):
        data = s3.objects.get_object(BUCKET, key).value
        assert b"secret-of-nobody" not in data, key
        assert b"key-of-nobody" not in data, key
