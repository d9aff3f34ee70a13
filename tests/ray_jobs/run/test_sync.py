"""``sync`` hands over what an outage kept, twice as well as once, and its exit code says whether MLflow has it."""

import json
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from audit.config.sections import TrackingConfig
from audit.config.slices import MeasurementRequest
from audit.planning.targets import AuditTargets
from audit.storage.provenance import collect_provenance
from audit.storage.run_directory import CONFIG, OUTBOX, PROVENANCE, REPORT, RunDirectory
from ray_jobs.cli.commands import app
from ray_jobs.run.audit import plan
from ray_jobs.run.summary import Comparison, summarise_run
from ray_jobs.run.sync import runs_in
from ray_jobs.run.sync import sync as hand_over
from ray_jobs.run.track import letter_of, track, warn_of_outage
from ray_jobs.run.worker import ShardWorker, WorkerSettings
from reports.export.files import write_exports
from reports.html import write_report
from reports.tracking.outbox import read_outbox

mlflow = pytest.importorskip("mlflow")
DOWN = "http://127.0.0.1:9"


def sync(*arguments):
    answer = CliRunner().invoke(app, ["sync", *map(str, arguments)])
    assert "Traceback" not in answer.output
    return answer


@pytest.fixture(scope="module")
def template(make_audit, tmp_path_factory):
    """A small finished audit that was never told to anybody."""
    output = tmp_path_factory.mktemp("synced")
    config = make_audit(output, tracking={"enabled": True, "uri": DOWN}, prompts={"occupations": ["doctor", "nurse"]})
    run = RunDirectory(Path(config.output) / "small")
    run.create(config.model_dump(mode="json"), collect_provenance("sha256:0"))
    threads, request = torch.get_num_threads(), MeasurementRequest.of(config)
    worker = ShardWorker(WorkerSettings(request, config.report, str(run.path), None, str(output)))
    shards = plan(config)
    for shard in shards:
        worker.do(shard)
    torch.set_num_threads(threads)
    write_exports(run, summarise_run(request, shards, run, Comparison(AuditTargets())))
    write_report(run.path)
    return config, run


@pytest.fixture
def make_run(template, tmp_path):
    """Returns a maker of copies of the finished audit, begun on a day of 2026-01."""

    def make(name="small", day=5):
        path = shutil.copytree(template[1].path, tmp_path / "runs" / name)
        run = RunDirectory(path)
        created = f"2026-01-0{day}T03:00:00+00:00"
        run.write_json(PROVENANCE, {**run.read_json(PROVENANCE), "created": created})
        audit = run.read_json("audit.json")
        run.write_json(
            "audit.json", {**audit, "run_id": name, "provenance": {**audit["provenance"], "created": created}}
        )
        return run

    return make


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def parents(store):
    client = mlflow.MlflowClient(tracking_uri=store)
    [experiment] = client.search_experiments(filter_string="name = 'difflens-audit'")
    runs = client.search_runs([experiment.experiment_id])
    return sorted(run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags)


def test_a_server_that_is_down_is_infrastructure_and_the_next_store_gets_it_once(make_run, store):
    run = make_run()
    outage = sync(run.path)
    assert outage.exit_code == 4
    assert f"small: not in MLflow: expected {DOWN} to accept the audit, found no connection" in outage.stderr
    told, again = sync(run.path, "--uri", store), sync(run.path, "--uri", store)
    assert (told.exit_code, again.exit_code) == (0, 0)
    assert told.stdout.startswith("small: 10 items sent, sqlite:///")
    assert again.stdout.startswith("small: already up to date, sqlite:///")
    assert parents(store) == ["small"]


def test_a_directory_of_runs_is_told_oldest_first_without_the_unfinished(make_run, store):
    for name, day in (("b", 5), ("a", 6), ("unfinished", 7)):
        run = make_run(name, day)
    run.file(REPORT).unlink()
    answer = sync(run.path.parent, run.path.parent / "a", "--uri", store, "--json")
    data = json.loads(answer.stdout)
    assert [(Path(row["run"]).name, bool(row["url"])) for row in data["runs"]] == [
        ("b", True),
        ("a", True),
        ("unfinished", False),
    ]
    assert data["runs"][2]["skipped"] == "unfinished: found no report.html"
    assert (answer.exit_code, parents(store)) == (0, ["a", "b"])


def test_other_runs_for_a_store_that_does_not_answer_are_not_tried(make_run):
    for day, name in enumerate("abc", start=1):
        run = make_run(name, day)
    synced = list(hand_over([run.path.parent]))
    assert ["not tried" in one.receipt.problem for one in synced] == [False, True, True]
    assert not (run.path.parent / "c" / OUTBOX).exists()


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: path.mkdir(), "found a directory without runs"),
        (lambda path: path.touch(), "found a file"),
        (lambda path: RunDirectory(path).write_json(CONFIG, {}), "found no audit.json and no results.parquet and no"),
    ],
)
def test_what_is_no_finished_run_is_a_usage_error(tmp_path, prepare, found):
    prepare(tmp_path / "it")
    answer = sync(tmp_path / "it")
    assert answer.exit_code == 2
    assert found in answer.stderr


def test_an_address_that_no_store_can_have_is_a_usage_error(make_run):
    answer = sync(make_run().path, "--uri", "mlruns")
    assert answer.exit_code == 2
    assert "mlflow migrate-filestore" in answer.output


def test_tracking_that_is_switched_off_stays_off_unless_a_store_is_named(make_run):
    run = make_run()
    config = run.read_json(CONFIG)
    run.write_json(CONFIG, {**config, "tracking": {**config["tracking"], "enabled": False}})
    answer = sync(run.path)
    assert (answer.exit_code, answer.stdout) == (
        0,
        "small: skipped, tracking is switched off in its config; name a store with --uri\n",
    )


def test_a_run_named_twice_is_told_once(make_run):
    run = make_run()
    assert len(runs_in([run.path, run.path.parent, run.path.parent / "." / run.path.name])) == 1


def test_without_an_address_the_store_lies_beside_the_runs(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "one")
    assert letter_of(run, TrackingConfig()).uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert letter_of(run, TrackingConfig(uri="http://there")).uri == "http://there"
    assert letter_of(run, TrackingConfig(uri="http://there"), uri="http://here").uri == "http://here"


def test_an_outage_at_the_end_of_an_audit_is_a_warning_that_names_the_remedy(template, make_run, caplog):
    config, run = template[0], make_run()
    assert track(config.tracking, run) is None
    assert "the audit is not in MLflow: expected http://127.0.0.1:9" in caplog.text
    assert f"difflens-audit sync {run.path}" in caplog.text


def test_a_server_that_says_nothing_costs_the_end_of_an_audit_its_bound_and_no_more(make_audit, make_run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = make_audit(tmp_path, tracking={"uri": uri, "timeout_seconds": 2})
        run = make_run()
        began = time.monotonic()
        assert track(config.tracking, run) is None
        took = time.monotonic() - began
    assert 2 <= took < 2 + 20  # a processor that does other things as well
    outbox = read_outbox(run)
    assert outbox.problem == "the tracking store took more than 2 s"
    assert outbox.left == tuple(outbox.items)


def test_an_outage_at_the_start_of_an_audit_is_told_at_once(template, caplog):
    warn_of_outage(template[0].tracking, template[0].tracking_uri).join()
    assert "expected a tracking server at 127.0.0.1:9, found none (Connection refused)" in caplog.text
    assert "the audit continues" in caplog.text
