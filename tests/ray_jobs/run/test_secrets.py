"""A password in a config goes to a server and nowhere else: not into the run directory, the log or the answer."""

import io
import json
import logging
from dataclasses import asdict

import pytest

from audit.storage.run_directory import CONFIG, PROVENANCE
from ray_jobs.cli.answers import show_log
from ray_jobs.cli.doctor import check_tracking
from ray_jobs.cluster.connection import Cluster
from ray_jobs.run.audit import default_run_id, open_run
from ray_jobs.run.progress.display import Progress

SECRET = "hunter2-hunter2"
TRACKING = {"uri": f"postgresql://ann:{SECRET}@127.0.0.1:1/mlflow"}


@pytest.fixture
def config(audit):
    return audit(tracking=TRACKING)


def test_the_run_directory_holds_no_secret(config, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret-in-the-name")
    config = config.model_copy(update={"name": "secret-in-the-name"})
    run = open_run(config, "run", Cluster(1, 0, local=True))
    stored = "".join(path.read_text() for path in run.path.rglob("*") if path.is_file())
    assert SECRET not in stored
    assert "secret-in-the-name" not in stored
    assert run.read_json(CONFIG)["tracking"]["uri"] == "postgresql://***@127.0.0.1:1/mlflow"
    assert PROVENANCE in {path.name for path in run.path.iterdir()}


def test_a_run_goes_on_with_its_redacted_config(config):
    first = open_run(config, "run", Cluster(1, 0, local=True))
    assert open_run(config, "run", Cluster(1, 0, local=True)).path == first.path
    assert default_run_id(config) == default_run_id(config.model_copy(update={"tracking": config.tracking}))


def test_the_doctor_and_a_failed_shard_name_no_secret(config):
    assert SECRET not in json.dumps(asdict(check_tracking(config)))
    run = open_run(config, "run", Cluster(1, 0, local=True))
    told = io.StringIO()
    Progress(run, total=1, done=0, stream=told).failed("nurse-0000", f"OSError: s3://KEY:{SECRET}@bucket\n\x1b[2J")
    assert "nurse-0000 failed: OSError: s3://***@bucket" in told.getvalue()
    assert "\x1b" not in told.getvalue()


def test_the_log_of_a_command_names_no_secret(capsys):
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        show_log()
        logging.getLogger("ray_jobs.run.audit").warning("no answer from %s", TRACKING["uri"])
    finally:
        root.handlers = before
    assert "no answer from postgresql://***@127.0.0.1:1/mlflow" in capsys.readouterr().err
