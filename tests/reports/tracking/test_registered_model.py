"""Tests that a registered version has its latest audit's verdict, and its alias moves only if every gate passes."""

import shutil
from dataclasses import replace

import pytest

from audit.config.sections import RegisteredModelConfig
from reports.tracking.client import TrackingError
from reports.tracking.log import log_audit
from reports.tracking.outbox import read_outbox

mlflow = pytest.importorskip("mlflow")
MODEL = "faces"
ALIAS = "audited"


@pytest.fixture
def uri(migrated_database, tmp_path):
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(uri):
    """A registry with two versions of one model."""
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model(MODEL)
    for _ in range(2):
        client.create_model_version(MODEL, "s3://models/faces")
    return client


@pytest.fixture
def audited(uri, client, result, store_finished, verdict, tmp_path):
    """Logs an audit of a version with gates of these verdicts and returns the outcome."""

    def log(*kinds, version=1, alias=ALIAS, day=5, levels=(), **provenance):
        gates = [verdict(kind, level=level) for kind, level in zip(kinds, levels or ["fail"] * len(kinds), strict=True)]
        known = {**result.provenance, "created": f"2026-01-0{day}T03:00:00+00:00", **provenance}
        run = store_finished(replace(result, verdicts=tuple(gates), provenance=known), tmp_path / f"{day}-{version}")
        registered = RegisteredModelConfig(name=MODEL, version=version, alias=alias)
        return log_audit(run, uri=uri, experiment="audits", registered=registered)

    return log


def aliases(client):
    return {alias: str(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}


def test_a_version_gets_the_verdict_and_the_way_back_to_the_audit(client, audited, result):
    tracked = audited("pass", "fail").tracked
    tags = client.get_model_version(MODEL, "1").tags
    assert tags["difflens.verdict"] == "fail"
    assert tags["difflens.gates_passed"] == "1 of 2"
    assert tags["difflens.model_fingerprint"] == result.provenance["model_fingerprint"]
    assert client.get_run(tags["difflens.mlflow_run_id"]).info.run_name == result.run_id
    assert tags["difflens.mlflow_run_id"] == tracked.run_id
    assert client.get_model_version(MODEL, "2").tags == {}


def test_an_alias_moves_if_every_gate_passes(client, audited):
    assert audited("pass", "pass").note.endswith("alias audited now points to it")
    assert aliases(client) == {ALIAS: "1"}
    assert audited("pass", version=2, day=6).note.endswith("alias audited now points to it")
    assert aliases(client) == {ALIAS: "2"}


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        ((), {}),
        (("pass", "fail"), {}),
        (("pass", "inconclusive"), {}),
        (("pass", "fail"), {"levels": ["fail", "warn"]}),
        (("pass",), {"unfinished_shards": ["doctor-1"]}),
    ],
    ids=["no gates", "a failure", "too few images", "a warning", "missing shards"],
)
def test_an_alias_stays_otherwise(client, audited, kinds, options):
    audited("pass")
    note = audited(*kinds, version=2, day=6, **options).note
    assert note.endswith("was not moved, since not every gate passes")
    assert aliases(client) == {ALIAS: "1"}


def test_no_alias_is_created_without_a_name(client, audited):
    audited("pass", alias=None)
    assert aliases(client) == {}


def test_an_audit_that_is_sent_late_does_not_overwrite_a_newer_one(client, audited):
    audited("fail", version=1, day=7)
    assert audited("pass", version=1, day=6).note == "faces version 1 keeps the tags of a later audit"
    assert client.get_model_version(MODEL, "1").tags["difflens.verdict"] == "fail"
    audited("pass", version=2, day=8)
    assert "stays at version 2, which was audited later" in audited("pass", version=1, day=7).note
    assert aliases(client) == {ALIAS: "2"}


def test_a_hand_that_moved_the_alias_is_not_overruled_by_telling_again(client, audited):
    audited("pass")
    client.set_registered_model_alias(MODEL, ALIAS, "2")
    assert audited("pass").left == ()
    assert aliases(client) == {ALIAS: "2"}


def test_other_weights_under_the_same_version_are_refused_and_the_rest_is_sent(client, audited, tmp_path, result):
    audited("pass")
    with pytest.raises(TrackingError, match="expected faces version 1 to have the audited weights"):
        audited("pass", day=6, model_fingerprint="sha256:other")
    [experiment] = client.search_experiments(filter_string="name = 'audits'")
    assert len(client.search_runs([experiment.experiment_id])) == 6
    assert client.get_model_version(MODEL, "1").tags["difflens.audited"].startswith("2026-01-05")


def test_a_missing_version_is_reported_and_everything_else_is_sent(client, uri, result, store_finished):
    run = store_finished(result)
    with pytest.raises(TrackingError, match="version=9"):
        log_audit(run, uri=uri, experiment="audits", registered=RegisteredModelConfig(name=MODEL, version=9))
    assert read_outbox(run).left == ("registered_model",)
