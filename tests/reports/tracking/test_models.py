"""A comparison of models in a real MLflow store: one run, with the audits of the models below it."""

import shutil

import pytest

from audit.results.models.compare import compare_models
from audit.storage.run_directory import RunDirectory
from reports.models.files import write_files
from reports.tracking.client import UnreachableError
from reports.tracking.handover import Letter, Messenger
from reports.tracking.models import AUDIT_OF, COMPARISON_TAG, log_models
from reports.tracking.outbox import Outbox, TrackedRun
from reports.tracking.runs import PARENT
from tests.model_runs import three_models

mlflow = pytest.importorskip("mlflow")
EXPERIMENT = "audits"


@pytest.fixture
def uri(migrated_database, tmp_path):
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(uri):
    return mlflow.MlflowClient(tracking_uri=uri)


@pytest.fixture
def comparison(tmp_path, client, uri):
    """Three finished runs, of which two are in this store, and their comparison."""
    runs = three_models(tmp_path)
    experiment = client.create_experiment(EXPERIMENT, artifact_location=str(tmp_path / "artifacts"))
    for name, place in (("first", uri), ("second", uri), ("even", "http://elsewhere")):
        run_id = client.create_run(experiment).info.run_id
        tracked = TrackedRun(place, experiment, run_id, {}, "m-1")
        Outbox(name, place, EXPERIMENT, {}, tracked=tracked).write(runs[name])
    place = tmp_path / "models" / "trial-1"
    write_files(compare_models("trial", runs), place)
    return RunDirectory(place)


def own_run(client, place):
    [experiment] = [e.experiment_id for e in client.search_experiments() if e.name == EXPERIMENT]
    runs = client.search_runs([experiment])
    [found] = [run for run in runs if run.data.tags.get(COMPARISON_TAG) == place.path.name]
    return found, {run.info.run_id: run for run in runs}


def test_the_audits_of_this_store_are_nested_below_one_run(comparison, client, uri):
    assert log_models(comparison, uri=uri, experiment=EXPERIMENT).startswith(uri)
    run, runs = own_run(client, comparison)
    links = {name: value for name, value in run.data.tags.items() if name.startswith(AUDIT_OF)}
    assert sorted(links) == [f"{AUDIT_OF}first", f"{AUDIT_OF}second"]
    for audit in links.values():
        assert runs[audit].data.tags[PARENT] == run.info.run_id
        assert runs[audit].data.metrics["cost/images"] == 240
    assert run.info.status == "FINISHED"
    assert "first is more skewed than even: gender" in run.data.tags["mlflow.note.content"]


def test_figures_of_all_models_and_differences_are_metrics(comparison, client, uri):
    log_models(comparison, uri=uri, experiment=EXPERIMENT)
    run, _ = own_run(client, comparison)
    metrics = run.data.metrics
    first, even = (metrics[f"{name}/baseline/gender/fairness_discrepancy_rms"] for name in ("first", "even"))
    assert first > even
    assert metrics["even/baseline/gender/place_last"] == 1
    assert metrics["first - even/baseline/gender/established"] == 1
    assert metrics["first - second/baseline/gender/established"] == 0
    assert metrics["first/cost/seconds_per_image"] == 0.25
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"models.html", "models.json", "figures.csv", "differences.csv"} <= files


def test_a_second_time_nothing_is_added(comparison, client, uri):
    first = log_models(comparison, uri=uri, experiment=EXPERIMENT)
    assert log_models(comparison, uri=uri, experiment=EXPERIMENT) == first
    run, _ = own_run(client, comparison)
    assert len(client.get_metric_history(run.info.run_id, "first/cost/images")) == 1


def test_the_process_that_sends_audits_sends_comparisons_too(comparison, client, uri):
    with Messenger(120) as messenger:
        receipt = messenger.deliver(Letter(comparison.path, uri, EXPERIMENT))
        assert receipt.problem == ""
        run, _ = own_run(client, comparison)
        assert receipt.url.endswith(run.info.run_id)


def test_a_store_that_does_not_answer_is_a_problem_and_no_crash(comparison, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnreachableError):
        log_models(comparison, uri="http://127.0.0.1:9", experiment=EXPERIMENT)
