"""Tests an audit in a real MLflow store: parent, arms, metrics, tables and report, each once."""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from audit.records.quality import Measurement
from audit.records.work import BASELINE
from audit.storage.place import sqlite_uri
from audit.storage.run_directory import REPORT
from reports.html import write_report
from reports.index.story import story_of
from reports.tracking.client import TrackingError, UnreachableError
from reports.tracking.log import UNFINISHED, log_audit
from reports.tracking.metrics import headline_metrics
from reports.tracking.outbox import audit_id, read_outbox
from reports.tracking.params import MAX_PARAMS, audit_params
from reports.tracking.runs import ARM_TAG, AUDIT_ID, PARENT

mlflow = pytest.importorskip("mlflow")
EXPERIMENT = "audits"
ARM = "difflens-gender"


@pytest.fixture
def uri(migrated_database, tmp_path) -> str:
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def finished_run(store_finished, result):
    return store_finished(result)


@pytest.fixture
def client(uri):
    return mlflow.MlflowClient(tracking_uri=uri)


@pytest.fixture
def log(uri):
    """Logs a run directory and returns its address."""
    return lambda run: log_audit(run, uri=uri, experiment=EXPERIMENT).tracked


def provenance(result, **fields):
    return replace(result, provenance={**result.provenance, **fields})


def test_parent_arms_metrics_and_artifacts_read_back(client, log, result, finished_run):
    write_report(finished_run.path)
    tracked = log(finished_run)
    parent = client.get_run(tracked.run_id)
    assert parent.info.run_name == result.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[AUDIT_ID] == audit_id(result)
    assert parent.data.metrics == pytest.approx(headline_metrics(story_of(result)))
    figures = [name for name in parent.data.metrics if not name.endswith(("_low", "_high", "_n", "_by_chance", "_p"))]
    assert 30 <= len(figures) <= 50
    assert parent.data.params["sampling.guidance"] == "3.0"
    artifacts = {item.path: item.file_size for item in client.list_artifacts(tracked.run_id)}
    assert set(artifacts) == {"audit.json", "results.parquet", "report.html"}
    assert artifacts["report.html"] == finished_run.file(REPORT).stat().st_size


AWKWARD = Path(
    "a%20b", "100%", "x?mode=ro#frag&y=1", "-p+q:r;s,'t\"", "e\u0301 \U0001f600", "*[x]{y}~", "$HOME", "\\ ."
)


def test_a_database_in_a_directory_of_any_name_takes_the_audit(result, store_finished, migrated_database, tmp_path):
    directory = tmp_path / AWKWARD
    run = store_finished(result, directory)
    shutil.copy(migrated_database, directory / "mlflow.db")
    uri = sqlite_uri(directory / "mlflow.db")
    tracked = log_audit(run, uri=uri, experiment=EXPERIMENT).tracked
    with closing(sqlite3.connect(directory / "mlflow.db")) as database:
        assert database.execute("select count(*) from runs").fetchone() == (1 + len(tracked.child_run_ids),)
    artifacts = mlflow.MlflowClient(tracking_uri=uri).list_artifacts(tracked.run_id)
    assert {item.path for item in artifacts} == {"audit.json", "results.parquet", "report.html"}
    assert {path.name for path in directory.iterdir()} == {"mlflow.db", "mlartifacts", result.run_id}
    assert [path.name for path in tmp_path.iterdir()] == [AWKWARD.parts[0]]


def test_every_arm_is_a_child_with_comparable_metrics(client, log, result, finished_run):
    tracked = log(finished_run)
    children = {arm: client.get_run(run_id) for arm, run_id in tracked.child_run_ids.items()}
    assert set(children) == {BASELINE, "difflens-gender"}
    assert all(run.data.tags[PARENT] == tracked.run_id for run in children.values())
    assert all(run.data.tags[ARM_TAG] == arm for arm, run in children.items())
    name = "gender/fairness_discrepancy_rms"
    overall = {row.arm: row.mean_over_prompts.value for row in result.overall if row.attribute == "gender"}
    assert {arm: run.data.metrics[name] for arm, run in children.items()} == pytest.approx(overall)


def test_a_headline_metric_has_its_bounds_and_n_beside_it(client, log, result, finished_run):
    tracked = log(finished_run)
    metrics = client.get_run(tracked.run_id).data.metrics
    overall = {(row.arm, row.attribute): row for row in result.overall}
    mean = overall[ARM, "gender"].mean_over_prompts
    name = f"{ARM}/gender/fairness_discrepancy_rms"
    logged = [metrics[f"{name}{end}"] for end in ("", "_low", "_high", "_n")]
    assert logged == pytest.approx([mean.value, mean.low, mean.high, mean.n])
    shift = next(item for item in result.shifts if item.attribute == "age")
    name = f"{ARM}/age/share_shift"
    logged = [metrics[f"{name}{end}"] for end in ("", "_low", "_high", "_n", "_by_chance", "_p")]
    assert logged == pytest.approx([shift.value, shift.low, shift.high, shift.pairs, shift.floor, shift.p_value])
    assert f"{ARM}/fid_to_baseline_low" not in metrics, "FID has no interval"
    for name in ("clip_t", "clip_i", "kid_to_baseline", "prompt_shown", "gender/unclassified_share"):
        value, low, high, n = (metrics[f"{ARM}/{name}{end}"] for end in ("", "_low", "_high", "_n"))
        assert low <= value <= high
        assert n == 1024


def test_comparisons_of_paired_images_are_metrics_of_their_arm(result):
    psnr = Measurement(21.5, 64, "metric:psnr|peak:255|n:64", 21.1, 21.9)
    quality = (result.quality[0], replace(result.quality[1], psnr=psnr))
    metrics = headline_metrics(story_of(replace(result, quality=quality)))
    assert [metrics[f"{ARM}/psnr{end}"] for end in ("", "_low", "_high", "_n")] == [21.5, 21.1, 21.9, 64]
    assert not [name for name in metrics if name.endswith(("lpips", "dino_i")) or name == "baseline/psnr"]


def test_the_verdict_is_a_column_of_the_list_of_runs(client, log, result, store_finished, verdict):
    verdicts = (verdict("fail", arm=BASELINE), verdict("pass", arm=ARM))
    tracked = log(store_finished(replace(result, verdicts=verdicts)))
    rows = client.search_runs([tracked.experiment_id])
    shown = {run.data.tags[ARM_TAG]: run.data.tags["verdict"] for run in rows}
    assert shown == {"": "fail", BASELINE: "fail", ARM: "pass"}
    passed = log(store_finished(replace(result, verdicts=verdicts[1:])))
    assert passed.run_id == tracked.run_id
    assert client.get_run(tracked.run_id).data.tags["verdict"] == "pass", "a verdict may change, a parameter could not"


def test_logging_again_updates_the_same_runs(client, log, result, finished_run, store_finished):
    first = log(finished_run)
    quality = tuple(replace(row, clip_t=replace(row.clip_t, value=0.4)) for row in result.quality)
    second = log(store_finished(replace(result, quality=quality)))
    assert second == first
    assert len(client.search_runs([first.experiment_id])) == 1 + len(first.child_run_ids)
    assert client.get_run(first.run_id).data.metrics["baseline/clip_t"] == 0.4
    assert len(client.get_metric_history(first.run_id, "baseline/clip_t")) == 2
    assert len(client.get_metric_history(first.run_id, "prompts")) == 1
    assert len(client.search_logged_models([first.experiment_id])) == 1


def test_what_the_store_has_is_not_sent_again(log, uri, finished_run, tmp_path):
    log(finished_run)
    [kept] = (tmp_path / "mlartifacts").rglob("audit.json")
    kept.unlink()
    finished_run.file(REPORT).write_text("rendered again")
    log(finished_run)
    [report] = (tmp_path / "mlartifacts").rglob("report.html")
    assert report.read_text() == "rendered again"
    assert not kept.exists()


def test_a_store_that_lost_the_audit_gets_all_of_it_again(client, log, finished_run):
    first = log(finished_run)
    for run_id in (first.run_id, *first.child_run_ids.values()):
        client.delete_run(run_id)
    second = log(finished_run)
    assert second.run_id != first.run_id
    assert len(client.list_artifacts(second.run_id)) == 3


def test_runs_without_an_outbox_are_found_by_their_tag_and_doubles_are_binned(client, log, result, finished_run):
    first = log(finished_run)
    finished_run.file("outbox.json").unlink()
    double = client.create_run(first.experiment_id, tags={AUDIT_ID: audit_id(result), ARM_TAG: ""}).info.run_id
    second = log(finished_run)
    stays, goes = sorted([first.run_id, double])
    assert second.run_id == stays
    assert client.get_run(goes).info.lifecycle_stage == "deleted"
    assert {client.get_run(child).data.tags[PARENT] for child in second.child_run_ids.values()} == {stays}


def test_a_resumed_audit_stays_one_run_and_is_failed_until_complete(client, log, result, store_finished):
    broken = log(store_finished(provenance(result, unfinished_shards=["doctor-1"])))
    assert client.get_run(broken.run_id).info.status == "FAILED"
    assert client.get_run(broken.run_id).data.tags[UNFINISHED] == "1"
    assert log(store_finished(provenance(result, unfinished_shards=[]))) == broken
    assert client.get_run(broken.run_id).info.status == "FINISHED"


def test_a_late_telling_keeps_the_time_of_the_audit(client, log, result, store_finished):
    run = store_finished(provenance(result, created="2026-01-05T03:00:00+00:00"))
    os.utime(run.file("audit.json"), (1_767_585_600, 1_767_585_600))  # an hour later
    info = client.get_run(log(run).run_id).info
    assert (info.start_time, info.end_time) == (1_767_582_000_000, 1_767_585_600_000)


def test_the_same_config_on_another_day_is_another_audit(client, log, result, store_finished, tmp_path):
    days = [provenance(result, created=f"2026-01-0{day}T03:00:00+00:00") for day in (5, 6)]
    first, second = (log(store_finished(day, tmp_path / day.provenance["created"])) for day in days)
    assert second.model_id == first.model_id
    assert not {first.run_id, *first.child_run_ids.values()} & {second.run_id, *second.child_run_ids.values()}


def test_a_logged_model_represents_the_weights(client, log, result, finished_run):
    tracked = log(finished_run)
    model = client.get_logged_model(tracked.model_id)
    assert str(model.status) == "READY"
    assert model.params["fingerprint"] == "sha256:9d3b61"
    assert [item.model_id for item in client.get_run(tracked.run_id).inputs.model_inputs] == [tracked.model_id]
    assert {metric.key for metric in model.metrics} == set(headline_metrics(story_of(result)))


def test_a_logged_model_that_was_left_half_made_is_finished(client, log, finished_run):
    experiment = client.create_experiment(EXPERIMENT)
    half = client.create_logged_model(experiment, name="half", tags={"difflens.model_fingerprint": "sha256:9d3b61"})
    assert log(finished_run).model_id == half.model_id
    assert str(client.get_logged_model(half.model_id).status) == "READY"


def test_the_callers_active_run_is_left_alone(log, finished_run):
    before = mlflow.active_run()
    log(finished_run)
    assert mlflow.active_run() is before


def test_artifacts_of_a_database_are_stored_beside_it(log, finished_run, tmp_path):
    tracked = log(finished_run)
    kept = list((tmp_path / "mlartifacts").rglob("report.html"))
    assert [tracked.run_id in str(path) for path in kept] == [True]


@pytest.mark.parametrize("uri", ["./mlruns", "file:///srv/mlruns", "mlruns"])
def test_an_old_file_store_is_named_with_its_remedy(uri, finished_run):
    with pytest.raises(TrackingError, match="migrate-filestore"):
        log_audit(finished_run, uri=uri, experiment=EXPERIMENT)


def test_a_deleted_experiment_is_named_with_its_remedy(client, log, finished_run):
    client.delete_experiment(client.create_experiment(EXPERIMENT))
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        log(finished_run)


def test_an_unreachable_server_leaves_everything_in_the_outbox_and_keeps_its_password(finished_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        UnreachableError, match=r"no connection \(Connection refused\)\. The results are safe"
    ) as caught:
        log_audit(finished_run, uri="http://ann:hunter2@127.0.0.1:9", experiment=EXPERIMENT)
    assert "hunter2" not in f"{caught.value}{finished_run.file('outbox.json').read_text()}"
    outbox = read_outbox(finished_run)
    assert outbox.left == tuple(outbox.items)


def test_an_unfinished_run_is_refused_before_the_store_is_touched(uri, finished_run):
    finished_run.file(REPORT).unlink()
    with pytest.raises(FileNotFoundError, match=r"report\.html"):
        log_audit(finished_run, uri="http://127.0.0.1:9", experiment=EXPERIMENT)


def test_parameters_fix_the_results_and_hold_no_secret(result):
    config = {
        **result.config,
        "model": {"source": "https://ann:hunter2@example.test/model?token=abc"},
        "many": {str(number): number for number in range(200)},
    }
    params = audit_params(replace(result, config=config))
    assert params["model.source"] == "https://***@example.test/model?token=***"
    assert not [key for key in params if key.startswith(("tracking", "report", "workers", "output"))]
    assert len(params) == MAX_PARAMS
