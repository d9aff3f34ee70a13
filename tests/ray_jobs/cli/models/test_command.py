"""What the commands do with a file that has several models, without a cluster."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from ray_jobs.cli.commands import app
from ray_jobs.cli.models.command import _name_and_path, worst
from ray_jobs.run.exit_codes import ExitCode
from tests.model_runs import rows_of, three_models, write_run

PLAIN = {
    "name": "trial",
    "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 4, "attribution": False},
    "quality": {"clip": "none", "features": "none"},
    "models": {"trained": {"source": "calibration"}, "drawn": {"source": "rendered"}},
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"output": str(tmp_path / "runs")}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [str(run.path) for run in three_models(tmp_path_factory.mktemp("runs")).values()]


def invoke(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def test_validate_counts_the_work_of_every_model(config):
    answer = invoke("validate", config)
    assert answer.exit_code == 0, answer.output
    assert "models.yaml is valid: 2 models" in answer.stdout
    assert "trained: 2 prompts, 8 images" in answer.stdout
    assert json.loads(invoke("validate", config, "--json").stdout)["models"] == ["trained", "drawn"]


def test_a_mistake_in_one_entry_has_its_line_and_exit_code_2(config):
    answer = invoke("validate", config, "--set", "models.drawn.wrld=x")
    assert answer.exit_code == 2
    assert "did you mean 'world'?" in answer.output


def test_plan_shows_every_model_and_starts_nothing(config, tmp_path):
    answer = invoke("plan", config)
    assert answer.exit_code == 0, answer.output
    assert "16 images for 2 models" in answer.stdout
    assert json.loads(invoke("plan", config, "--json").stdout)["models"]["drawn"]["images"] == 8
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", [("--run-id", "x"), ("--slot", "2026-01-05T03:00:00+00:00")])
def test_options_of_one_run_are_refused(config, option):
    answer = invoke("run", config, *option)
    assert answer.exit_code == 2
    assert f"expected one model for {option[0]}, found 2" in answer.output


@pytest.mark.parametrize("command", ["dissect", "locate", "register", "doctor"])
def test_commands_for_one_model_say_what_to_do(config, command):
    answer = invoke(command, config)
    assert answer.exit_code == 2
    assert "expected one model, found several" in answer.output
    assert "Traceback" not in answer.output


def test_more_than_two_runs_are_compared_as_models(runs):
    answer = invoke("compare", *runs)
    assert answer.exit_code == 0, answer.output
    assert "first and second are more skewed in gender than even." in answer.stdout
    assert "the probability of any wrong statement is at most 5" in answer.stdout
    data = json.loads(invoke("compare", *runs, "--json").stdout)
    assert [model["name"] for model in data["models"]] == ["first", "second", "even"]


def test_a_name_in_a_run_cannot_control_the_terminal(tmp_path):
    hostile = "nurse\x1b[31m [bold]x"
    for number in range(3):
        write_run(tmp_path / str(number), rows_of({hostile: 0.95 - 0.45 * number}, images=60, noise=number))
    write_run(tmp_path / "3", rows_of({"\x1b]0;title\x07": 0.5}, images=4))
    answer = invoke("compare", *(tmp_path / str(number) for number in range(4)))
    assert answer.exit_code == 0, answer.output
    assert "\x1b" not in answer.output
    assert "\\x1b[31m [bold]x" in " ".join(answer.output.split())


def test_two_runs_are_compared_in_time_unless_a_page_is_asked_for(runs, tmp_path):
    assert "first → even" in invoke("compare", runs[0], runs[2]).stdout
    answer = invoke("compare", runs[0], runs[2], "--to", tmp_path / "page")
    assert "first is more skewed in gender than even." in answer.stdout
    assert "report.html" not in (tmp_path / "page" / "models.html").read_text()  # the runs are elsewhere


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one"], "expected at least two runs, found 1"),
        (["a", "b", "c", "--fail-on", "worse"], "models are not better or worse"),
        (["a", "b", "c"], "expected a finished run"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, message):
    answer = invoke("compare", *words)
    assert answer.exit_code == 2
    assert message in " ".join(answer.output.replace("│", " ").split())


def test_a_run_can_be_named_and_loses_the_hash_of_its_directory_otherwise(runs):
    data = json.loads(invoke("compare", f"small={runs[0]}", runs[1], f"large={runs[2]}", "--json").stdout)
    assert [model["name"] for model in data["models"]] == ["small", "second", "large"]
    assert _name_and_path("runs/sd15-1a2b3c4d/") == ("sd15", "runs/sd15-1a2b3c4d/")
    assert _name_and_path("s3://bucket/a=b/run") == ("run", "s3://bucket/a=b/run")


def test_one_run_twice_has_two_names(runs):
    data = json.loads(invoke("compare", runs[0], runs[0], runs[1], "--json").stdout)
    assert [model["name"] for model in data["models"]] == ["first#1", "first#2", "second"]


def test_names_of_two_runs_are_refused_with_both_remedies(runs, tmp_path):
    answer = invoke("compare", f"small={runs[0]}", f"large={runs[2]}")
    assert answer.exit_code == 2
    assert "Leave the names out, or add --to DIR" in answer.output
    answer = invoke("compare", f"small={runs[0]}", f"large={runs[2]}", "--to", tmp_path / "page")
    assert "small is more skewed in gender than large." in answer.stdout


@pytest.mark.parametrize(
    "text", ['{"ru', "[]", "{}", '{"runs": 3}', '{"runs": {"a": 3}}', '{"runs": {"a": "../secret"}}']
)
def test_a_damaged_list_of_runs_is_an_error_of_the_user(tmp_path, text):
    (tmp_path / "runs.json").write_text(text)
    answer = invoke("status", tmp_path)
    assert answer.exit_code == 2
    assert "runs.json: expected" in answer.output
    assert isinstance(answer.exception, SystemExit)


def test_the_worst_exit_code_counts():
    assert worst([ExitCode.PASS, ExitCode.INCONCLUSIVE]) is ExitCode.INCONCLUSIVE
    assert worst([ExitCode.INCONCLUSIVE, ExitCode.GATE_FAILED]) is ExitCode.GATE_FAILED
    assert worst([ExitCode.GATE_FAILED, ExitCode.INCOMPLETE, ExitCode.PASS]) is ExitCode.INCOMPLETE
    assert worst([ExitCode.PASS]) is ExitCode.PASS
