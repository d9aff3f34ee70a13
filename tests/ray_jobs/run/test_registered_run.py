"""A run keeps its protocol and its random samples, and a change of gates or of the statement makes no image again."""

import json

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import FilesRequest, MeasurementRequest
from audit.evidence.adherence import KEY
from audit.evidence.protocol import ProtocolError
from audit.evidence.samples import SAMPLES
from audit.storage.run_directory import PROTOCOL, RunDirectory
from ray_jobs.cli.evidence.register import planned_protocol
from ray_jobs.run.audit import default_run_id, run_audit, stored_config

pytestmark = pytest.mark.usefixtures("in_this_process")

GATE = {"name": "half", "measure": "share:female", "attribute": "gender", "prompt": "nurse", "min": 0.2}


def registered(config):
    protocol = planned_protocol(
        stored_config(config), MeasurementRequest.of(config), FilesRequest.of(config), config.gates
    )
    return json.dumps(protocol.as_data()).encode()


def departures(outcome):
    return [one["what"] for one in outcome.result.provenance[KEY]["departures"]]


def changed(config, **sections):
    return AuditConfig.model_validate({**config.model_dump(), **sections})


def shard_times(outcome):
    return {file.name: file.stat().st_mtime_ns for file in (outcome.run_path / "shards").glob("*.parquet")}


def test_a_registered_audit_is_kept_to_until_a_gate_changes(audit, cluster):
    config = audit(gates=[GATE])
    protocol = registered(config)
    first = run_audit(config, protocol=protocol)
    assert departures(first) == []
    assert (first.run_path / PROTOCOL).read_bytes() == protocol
    before = shard_times(first)
    looser = run_audit(changed(config, gates=[GATE | {"min": 0.1}], statement={"role": "auditor"}))
    assert looser.run_path == first.run_path
    assert departures(looser) == ["gate half loosened (min)"]
    assert shard_times(looser) == before
    assert "auditor" in (looser.run_path / "report.html").read_text()
    with pytest.raises(ProtocolError, match="which this run has kept"):
        run_audit(config, protocol=registered(changed(config, gates=[])))


def test_a_protocol_that_comes_after_the_images_is_a_departure(audit, cluster):
    config = audit(gates=[GATE])
    run_audit(config)
    late = registered(config)
    assert "registered after the first shard was made" in departures(run_audit(config, protocol=late))


def test_the_random_samples_are_kept_in_the_run(audit, cluster):
    config = audit(report={"images_per_prompt": 1, "random_samples": 3})
    run = RunDirectory(run_audit(config).run_path)
    record = run.read_json(SAMPLES)
    assert record["run_id"] == default_run_id(config)
    for prompt, drawn in record["drawn"].items():
        kept = {int(path.name[:5]) for path in (run.path / "images" / prompt).iterdir()}
        assert len(drawn) == 3
        assert kept == {0, *drawn}
