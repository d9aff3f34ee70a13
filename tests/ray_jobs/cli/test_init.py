"""Tests ``init``: the config is valid, only a terminal is asked, and no file is lost."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from audit.config.file import read_config
from ray_jobs.cli.commands import app
from ray_jobs.run.exit_codes import ExitCode


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls the program in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_without_a_terminal_nothing_is_asked_and_the_file_passes_validate(call, tmp_path):
    answer = call("init")
    assert answer.exit_code == ExitCode.PASS
    assert "difflens-audit validate audit.yaml" in answer.stdout
    assert read_config(tmp_path / "audit.yaml").model.source == "calibration"
    checked = call("validate", "audit.yaml")
    assert checked.exit_code == ExitCode.PASS, checked.stderr
    assert checked.stdout.startswith("audit.yaml is valid: ")


def test_every_option_is_in_the_file(call, tmp_path):
    options = ("--model", "owner/name", "--judge", "face.pt", "--races", "4", "--name", "mine")
    answer = call("init", "my audit.yaml", *options, "--occupation", "doctor", "--occupation", "nurse: night", "--json")
    assert json.loads(answer.stdout) == {"config": "my audit.yaml"}
    config = read_config(tmp_path / "my audit.yaml")
    assert (config.name, config.model.source, config.judge.source, config.judge.races) == (
        "mine",
        "owner/name",
        "face.pt",
        4,
    )
    assert config.prompts.occupations == ("doctor", "nurse: night")
    assert list(config.attributes) == ["gender", "age", "race"]


@pytest.mark.parametrize(
    ("judge", "attributes"), [("face.pt", ["gender", "age"]), ("multi_7_x.pt", ["gender", "age", "race"])]
)
def test_race_is_audited_only_if_the_checkpoint_names_its_races(call, tmp_path, judge, attributes):
    assert call("init", "--model", "./sd", "--judge", judge).exit_code == ExitCode.PASS
    assert list(read_config(tmp_path / "audit.yaml").attributes) == attributes


def test_a_file_is_replaced_only_by_force(call, tmp_path):
    (tmp_path / "audit.yaml").write_text("mine")
    refused = call("init")
    assert refused.exit_code == ExitCode.USAGE
    assert "--force" in refused.stderr
    assert (tmp_path / "audit.yaml").read_text() == "mine"
    assert call("init", ".", "--force").exit_code == ExitCode.PASS
    assert read_config(tmp_path / "audit.yaml").name == "audit"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "owner/name"), "FairFace checkpoint"),
        (("--races", "5"), "expected 7 or 4, found 5"),
        (("--occupation", "doctor", "--occupation", "doctor"), "more than once"),
        (("--name", "a b"), "letters, digits"),
        (("--model", "a\nb", "--judge", "x.pt"), "model.source: expected one line of text"),
        (("--model", "x" * 600, "--judge", "x.pt"), "model.source: expected 500 or fewer characters"),
        (("absent/audit.yaml",), "expected a directory"),
    ],
)
def test_a_mistaken_answer_leaves_no_file(call, tmp_path, options, words):
    answer = call("init", *options)
    assert answer.exit_code == ExitCode.USAGE
    assert words in " ".join(answer.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_is_asked_for_what_no_option_says(tmp_path):
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "ray_jobs", "init", "--model", "calibration"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment)
    os.close(theirs)
    os.write(ours, b"\ndoctor, police officer\n")
    assert program.wait(timeout=300) == ExitCode.PASS
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert "Model" not in said
    assert said.index("Judge") < said.index("Occupations") < said.index("Wrote audit.yaml")
    assert read_config(tmp_path / "audit.yaml").prompts.occupations == ("doctor", "police officer")
