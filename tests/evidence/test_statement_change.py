"""Tests that the statement of a finished run is replaced without touching anything else."""

import pytest
import yaml
from typer.testing import CliRunner

from audit.config.errors import ConfigErrors
from audit.evidence.statement_change import read_statement, with_statement
from ray_jobs.cli.commands import app


def file_of(tmp_path, **keys):
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def test_the_section_is_read_from_a_whole_config_and_from_a_file_of_its_own(tmp_path):
    said = {"responsible": "Ada Example", "valid_until": "2027-01-31"}
    assert read_statement(file_of(tmp_path, statement=said)) == said
    assert read_statement(file_of(tmp_path, name="audit", seed=3, statement=said)) == said


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "audit"}, "statement: expected a value, found none"),
        ({"statement": {"responsable": "Ada"}}, "did you mean 'responsible'"),
        ({"statement": {"valid_until": "soon"}}, "statement.valid_until: expected a date"),
    ],
)
def test_mistakes_are_reported_with_their_place(tmp_path, keys, message):
    with pytest.raises(ConfigErrors, match=message):
        read_statement(file_of(tmp_path, **keys))


def test_secrets_in_a_statement_are_hidden(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "tokentokentoken")
    assert read_statement(file_of(tmp_path, statement={"role": "uses tokentokentoken"})) == {"role": "uses ***"}


def test_an_empty_statement_takes_the_section_away():
    assert with_statement({"name": "a", "statement": {"role": "x"}}, {}) == {"name": "a"}


def test_report_replaces_the_statement_and_no_other_file(tmp_path, make_run):
    run = make_run()
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    answer = CliRunner().invoke(
        app, ["report", str(run.path), "--statement", str(file_of(tmp_path, statement={"responsible": "Ada Example"}))]
    )
    assert answer.exit_code == 0, answer.output
    assert "Ada Example" in run.read_bytes("report.html").decode()
    assert run.read_json("audit.json")["config"]["statement"] == {"responsible": "Ada Example"}
    assert run.read_json("config.json")["statement"] == {"responsible": "Ada Example"}
    changed = {path.name for path in run.path.rglob("*") if path.is_file() and before.get(path) != path.read_bytes()}
    assert changed == {"audit.json", "config.json", "report.html"}


def test_a_mistake_in_the_file_is_a_message_and_changes_nothing(tmp_path, make_run):
    run = make_run()
    answer = CliRunner().invoke(app, ["report", str(run.path), "--statement", str(file_of(tmp_path, name="audit"))])
    assert answer.exit_code == 2
    assert "statement: expected a value" in answer.output
    assert "statement" not in run.read_json("audit.json")["config"]
