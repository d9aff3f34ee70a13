"""Tests protocols: they cannot be changed or replaced, and a run lists every departure from the one it kept."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from typer.testing import CliRunner

from audit.evidence.adherence import KEY, keep_protocol, with_adherence
from audit.evidence.departures import Made, departures
from audit.evidence.protocol import Protocol, ProtocolError, known_fingerprint
from audit.storage.run_directory import MODEL_FINGERPRINT, PROVENANCE
from ray_jobs.cli.commands import app
from reports.export.audit_json import read_audit_json
from reports.figures.evidence.protocol import protocol_section

EARLY, LATE = "2020-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"
GATE = {"name": "half", "measure": "share:female", "attribute": "gender", "prompt": "nurse", "min": 0.1}


def bytes_of(protocol):
    return json.dumps(protocol.as_data()).encode()


@pytest.fixture(scope="module")
def found(made_run, small_config, protocol_for):
    """Returns the departures of the made run, by what departs, from the protocol of a config."""
    result = read_audit_json(made_run)
    provenance = made_run.read_json(PROVENANCE)

    def of(made=None, fields=None, **sections):
        protocol = protocol_for(small_config(**sections), **({"registered": EARLY} | (fields or {})))
        version = provenance["versions"]["difflens-audit"]
        usual = Made(
            provenance["created"], provenance["created"], 0, provenance[MODEL_FINGERPRINT], version, protocol.files
        )
        listed = departures(protocol, replace(usual, **(made or {})), result)
        return {one.what: (one.registered, one.found) for one in listed}

    return of


def test_a_run_that_kept_to_its_protocol_has_no_departure(found):
    assert found() == {}


@pytest.mark.parametrize(
    ("sections", "what", "values"),
    [
        ({"gates": [GATE | {"min": 0.2}]}, "gate half loosened (min)", ("0.2", "0.1")),
        ({"gates": [GATE | {"min": 0.05}]}, "gate half tightened (min)", ("0.05", "0.1")),
        ({"gates": [GATE | {"level": "warn"}]}, "gate half tightened (level)", ("warn", "fail")),
        ({"gates": [GATE | {"prompt": "doctor"}]}, "gate half changed (prompt)", ("doctor", "nurse")),
        ({"seed": 4}, "another seed", ("4", "3")),
        ({"judge": {"min_confidence": 0.9}}, "judge.min_confidence", ("0.9", "0.5")),
        (
            {"prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 20, "attribution": False}},
            "images per prompt of doctor, nurse",
            ("20", "12"),
        ),
        (
            {"prompts": {"occupations": ["nurse"], "images_per_prompt": 12, "attribution": False}},
            "prompt doctor added",
            ("", "doctor"),
        ),
        ({"statement": {"population": "everyone"}}, "statement.population", ("everyone", "")),
    ],
)
def test_each_change_is_a_departure_with_both_values(found, sections, what, values):
    assert found(**sections) == {what: values}


def test_a_gate_that_is_added_or_removed_is_listed_in_full(found):
    [(what, (before, after))] = found(gates=[]).items()
    assert (what, before) == ("gate half added", "")
    assert json.loads(after)["min"] == 0.1
    names = found(gates=[GATE, GATE | {"name": "other"}])
    assert list(names) == ["gate other removed"]


def test_a_removed_prompt_and_fewer_images_are_listed(found):
    more = {"occupations": ["doctor", "nurse", "judge"], "images_per_prompt": 12, "attribution": False}
    assert found(prompts=more) == {"prompt judge removed": ("a face photo of a judge", "")}


def test_other_weights_another_version_and_another_file_are_listed(found):
    assert found({"fingerprint": "sha256:other"})["another model (fingerprint of its weights)"][1] == "sha256:other"
    assert found({"version": "9.9.9"})["another version of difflens-audit"][1] == "9.9.9"
    files = {"judge.confusion": "00"}
    assert "judge.confusion: a file with other content" in found({"files": {"judge.confusion": "11"}}, {"files": files})


def test_other_targets_are_listed_by_their_shares(found):
    listed = found(targets={"gender": {"female": 0.3, "male": 0.7}})
    assert listed["target of gender for nurse"] == ('{"female": 0.3, "male": 0.7}', '{"female": 0.5, "male": 0.5}')


def test_keys_that_decide_nothing_may_differ(found):
    sections = {"workers": {"count": 7}, "report": {"images_per_prompt": 9}, "statement": {"responsible": "Ada"}}
    assert found(tracking={"enabled": False, "experiment": "other"}, output="elsewhere", **sections) == {}


def test_weights_that_were_not_there_are_no_departure(found):
    assert found({"fingerprint": "sha256:any"}, {"model_fingerprint": None}) == {}


def test_a_protocol_after_the_first_shard_is_a_departure_and_one_before_it_is_not(found):
    after = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    assert "registered after the first shard was made" in found({"finished_before": 2}, {"registered": after})
    same = {"finished_before": 2, "begun": after}
    assert "registered after the first shard was made" in found(same, {"registered": after}), "not known to be earlier"
    assert found({"finished_before": 2}, {"registered": EARLY}) == {}
    assert list(found({}, {"registered": LATE})) == ["registered later than the run got it (a clock is wrong)"]


def test_a_protocol_survives_its_file_and_any_change_of_it_is_found(small_config, protocol_for):
    protocol = protocol_for(small_config())
    assert Protocol.of_bytes(bytes_of(protocol), "p") == protocol
    for old, new in ((b'"seed": 3', b'"seed": 4'), (b'"min": 0.1', b'"min": 0.2'), (b'"registered"', b'"Registered"')):
        assert old in bytes_of(protocol)
        with pytest.raises(ProtocolError, match="found one that was changed since"):
            Protocol.of_bytes(bytes_of(protocol).replace(old, new), "p")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": "difflens-audit protocol 2"}', b"\xff"])
def test_another_file_is_no_protocol(data):
    with pytest.raises(ProtocolError, match="p: expected a protocol"):
        Protocol.of_bytes(data, "p")


def test_a_run_keeps_its_first_protocol(make_run, small_config, protocol_for):
    run, first = make_run(), bytes_of(protocol_for(small_config(), registered=EARLY))
    keep_protocol(run, first, {})
    keep_protocol(run, first, {})
    with pytest.raises(ProtocolError, match="which this run has kept"):
        keep_protocol(run, bytes_of(protocol_for(small_config(gates=[]))), {})


def test_a_late_protocol_and_a_loosened_gate_are_on_the_first_screen(make_run, small_config, protocol_for, finish_run):
    run = make_run()
    keep_protocol(run, bytes_of(protocol_for(small_config(gates=[GATE | {"min": 0.3}]))), {})
    finish_run(small_config(), run)
    first = run.read_bytes("report.html").decode().partition('<section aria-labelledby="occupations">')[0]
    for words in ("2 departures from the protocol", "registered after the first shard was made", "half loosened (min)"):
        assert words in first
    listed = run.read_json("audit.json")["provenance"][KEY]["departures"]
    assert [one["what"] for one in listed] == ["registered after the first shard was made", "gate half loosened (min)"]


def test_without_a_protocol_nothing_is_added(made_run):
    result = read_audit_json(made_run)
    assert with_adherence(made_run, result) == result
    assert protocol_section(result.provenance) is None


def test_weights_that_no_commit_names_have_no_fingerprint(small_config, hub):
    assert known_fingerprint(small_config(model={"source": "nobody/nothing"}, sampling=SIZES).model) is None
    assert known_fingerprint(small_config().model).startswith("sha256:")


SIZES = {"steps": 2, "guidance": 2.0, "batch": 2}


def config_file(tmp_path, config):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def test_register_writes_beside_the_config_once(tmp_path, small_config):
    path = config_file(tmp_path, small_config())
    answer = CliRunner().invoke(app, ["register", str(path), "--json"])
    assert answer.exit_code == 0, answer.output
    written = Protocol.of_bytes((tmp_path / "small.protocol.json").read_bytes(), "p")
    assert json.loads(answer.output)["sha256"] == written.sha256
    assert [(prompt.id, prompt.images) for prompt in written.prompts] == [("doctor", 12), ("nurse", 12)]
    assert written.power["gates"][0]["gate"] == "half"
    assert written.config["gates"][0]["min"] == 0.1
    again = CliRunner().invoke(app, ["register", str(path)])
    assert again.exit_code == 2
    assert "a protocol is not replaced" in again.output


def test_a_protocol_names_no_secret(tmp_path, small_config, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", "hush-hush-hush")
    alerts = {"webhook": "https://hooks.example.test/services/T1/B2", "secret_env": "HOOK_SECRET"}
    tracking = {"enabled": False, "uri": "postgresql://ann:hunter2-hunter2@127.0.0.1:1/mlflow"}
    config = small_config(alerts=alerts, tracking=tracking, statement={"role": "knows hush-hush-hush"})
    CliRunner().invoke(app, ["register", str(config_file(tmp_path, config))])
    text = (tmp_path / "small.protocol.json").read_text()
    assert not [secret for secret in ("hush-hush-hush", "hunter2", "T1/B2") if secret in text]


def test_run_refuses_a_changed_protocol_before_it_makes_anything(tmp_path, small_config):
    path = config_file(tmp_path, small_config(output=str(tmp_path / "runs")))
    CliRunner().invoke(app, ["register", str(path)])
    protocol = tmp_path / "small.protocol.json"
    protocol.write_text(protocol.read_text().replace('"min": 0.1', '"min": 0.01'))
    answer = CliRunner().invoke(app, ["run", str(path)])
    assert answer.exit_code == 2
    assert "changed since" in answer.output
    assert not (tmp_path / "runs").exists()
