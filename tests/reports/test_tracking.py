"""An audit lands in a real MLflow store: parent, arms, metrics, tables, report, and nothing twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from audit.records import BASELINE
from reports.html import write_report
from reports.story import story_of
from reports.tracking import (
    ARM,
    AUDIT_ID,
    MAX_PARAMS,
    PARENT,
    TrackingError,
    audit_params,
    headline_metrics,
    log_audit,
)

mlflow = pytest.importorskip("mlflow")
EXPERIMENT = "audits"


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Path:
    """MLflow's schema takes seconds to make, so it is made once and copied."""
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(migrated_database, tmp_path) -> str:
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session")
def finished_run(run_directory) -> Path:
    write_report(run_directory.path)
    return run_directory.path


@pytest.fixture
def client(uri):
    return mlflow.MlflowClient(tracking_uri=uri)


def test_parent_arms_metrics_and_artifacts_read_back(client, uri, result, finished_run):
    tracked = log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    parent = client.get_run(tracked.run_id)
    assert parent.info.run_name == result.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[AUDIT_ID] == result.run_id
    assert parent.data.metrics == pytest.approx(headline_metrics(story_of(result)))
    assert 30 <= len(parent.data.metrics) <= 50
    assert parent.data.params["sampling.guidance"] == "3.0"
    artifacts = {item.path: item.file_size for item in client.list_artifacts(tracked.run_id)}
    assert set(artifacts) == {"audit.json", "results.parquet", "results.csv", "report.html"}
    assert artifacts["report.html"] == (finished_run / "report.html").stat().st_size


def test_every_arm_is_a_child_with_comparable_metrics(client, uri, result, finished_run):
    tracked = log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    children = {arm: client.get_run(run_id) for arm, run_id in tracked.child_run_ids.items()}
    assert set(children) == {BASELINE, "difflens-gender"}
    assert all(run.data.tags[PARENT] == tracked.run_id for run in children.values())
    assert all(run.data.tags[ARM] == arm for arm, run in children.items())
    name = "gender/fairness_discrepancy_mean"
    overall = {row.arm: row.mean_over_prompts.value for row in result.overall if row.attribute == "gender"}
    assert {arm: run.data.metrics[name] for arm, run in children.items()} == pytest.approx(overall)


def test_logging_twice_updates_the_same_runs(client, uri, result, finished_run):
    first = log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    quality = tuple(replace(row, clip_t=replace(row.clip_t, value=0.4)) for row in result.quality)
    second = log_audit(replace(result, quality=quality), finished_run, uri=uri, experiment=EXPERIMENT)
    assert second == first
    assert len(client.search_runs([first.experiment_id])) == 1 + len(first.child_run_ids)
    assert client.get_run(first.run_id).data.metrics["baseline/clip_t"] == 0.4
    assert len(client.get_metric_history(first.run_id, "baseline/clip_t")) == 2
    assert len(client.get_metric_history(first.run_id, "prompts")) == 1
    assert len(client.search_logged_models([first.experiment_id])) == 1


def test_a_logged_model_stands_for_the_weights(client, uri, result, finished_run):
    tracked = log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    model = client.get_logged_model(tracked.model_id)
    assert str(model.status) == "READY"
    assert model.params["fingerprint"] == "sha256:9d3b61"
    assert [item.model_id for item in client.get_run(tracked.run_id).inputs.model_inputs] == [tracked.model_id]
    assert {metric.key for metric in model.metrics} == set(headline_metrics(story_of(result)))


def test_two_audits_of_the_same_weights_share_the_model_and_no_run(client, uri, result, finished_run):
    first = log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    second = log_audit(replace(result, run_id="another"), finished_run, uri=uri, experiment=EXPERIMENT)
    assert second.model_id == first.model_id
    assert not {first.run_id, *first.child_run_ids.values()} & {second.run_id, *second.child_run_ids.values()}


def test_the_callers_active_run_is_left_alone(client, uri, result, finished_run):
    before = mlflow.active_run()
    log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    assert mlflow.active_run() is before


def test_artifacts_of_a_database_lie_beside_it(client, uri, result, finished_run, tmp_path):
    tracked = log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)
    kept = list((tmp_path / "mlartifacts").rglob("report.html"))
    assert [tracked.run_id in str(path) for path in kept] == [True]


@pytest.mark.parametrize("uri", ["./mlruns", "file:///srv/mlruns", "mlruns"])
def test_an_old_file_store_is_named_with_its_remedy(uri, result, finished_run):
    with pytest.raises(TrackingError, match="migrate-filestore"):
        log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)


def test_a_deleted_experiment_is_named_with_its_remedy(client, uri, result, finished_run):
    client.delete_experiment(client.create_experiment(EXPERIMENT))
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        log_audit(result, finished_run, uri=uri, experiment=EXPERIMENT)


def test_an_unreachable_server_leaves_the_results_safe_and_keeps_its_password(result, finished_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="results are safe") as caught:
        log_audit(result, finished_run, uri="http://ann:hunter2@127.0.0.1:9", experiment=EXPERIMENT)
    assert "hunter2" not in str(caught.value)


def test_an_unfinished_run_is_refused_before_the_store_is_touched(uri, result, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.html"):
        log_audit(result, tmp_path / "absent", uri=uri, experiment=EXPERIMENT)


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
