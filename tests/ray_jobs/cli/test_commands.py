"""Tests the command line: fast help, readable errors, and exit codes for scripts."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version

import pytest
import yaml
from typer.testing import CliRunner

from audit.config.file import read_config
from audit.measure.inference.intervals import share_estimate
from audit.preflight.work import Work
from audit.records.work import Prompt
from ray_jobs.cli.commands import app
from ray_jobs.cli.options import overrides_of
from ray_jobs.cli.terminal import outcome_as_data, show_outcome, show_work
from ray_jobs.run.exit_codes import ExitCode, exit_code

HEAVY = (
    "torch",
    "ray",
    "mlflow",
    "diffusers",
    "transformers",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "yaml",
    "rich",
)


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def config_file(tmp_path, audit):
    """Write the small rendered audit to a file."""

    def write(**sections):
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(audit(**sections).model_dump(mode="json")))
        return path

    return write


@pytest.mark.parametrize(
    "name",
    [
        "compositions",
        "concepts",
        "lenses",
        "mlartifacts",
        "mlflow.db",
        "schedule",
        "..",
        "a b",
        "a%20b",
        "-x",
        "a/b",
        "x" * 101,
    ],
)
def test_a_reserved_run_name_is_refused(config_file, name):
    answer = call("run", config_file(), f"--run-id={name}")
    assert answer.exit_code == ExitCode.USAGE
    assert "expected" in answer.output


@pytest.mark.parametrize("name", ["a%20b?#", "e\u0301\U0001f600", "-x", "[x]: {y} & *z '\""])
def test_an_output_of_the_command_line_is_taken_as_it_is(config_file, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answer = call("validate", config_file(), f"--output={name}")
    assert answer.exit_code == ExitCode.PASS, answer.output
    [override] = overrides_of(None, name)
    assert read_config(config_file(), [override]).output == name


def test_the_file_s_name_does_not_act_on_the_terminal(config_file):
    path = config_file()
    renamed = path.rename(path.with_name("a%20\x1b[2J\u202eb?.yaml"))
    answer = call("validate", renamed)
    assert answer.exit_code == ExitCode.PASS
    assert answer.output.startswith(r"a%20\x1b[2J\u202eb?.yaml is valid")


@pytest.fixture
def mistaken_file(tmp_path, untrained_world):
    """A config with two errors; the rest is valid."""
    path = tmp_path / "audit.yaml"
    path.write_text(
        f"name: trial\nmodel: {{source: rendered, world: {untrained_world}}}\nseed: -1\n"
        "sampling:\n  stepz: 3\nquality: {clip: none}\n"
    )
    return path


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom ray_jobs.cli.commands import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")
    assert all(
        verb in done.stdout for verb in ("run", "plan", "validate", "dissect", "report", "sync", "calibrate", "doctor")
    )


def test_no_command_is_a_question_for_help():
    answer = call()
    assert (answer.exit_code, "Commands:" in answer.output) == (2, True)


@pytest.mark.parametrize(
    "arguments", [["runn"], ["run"], ["run", "x.yaml", "--workers", "0"], ["run", "x", "--no-such"]]
)
def test_a_mistyped_command_is_a_usage_error_without_a_traceback(arguments):
    answer = call(*arguments)
    assert answer.exit_code == ExitCode.USAGE
    assert "Traceback" not in answer.output


def test_a_run_name_cannot_leave_the_output_directory(config_file):
    answer = call("run", config_file(), "--run-id", "../elsewhere")
    assert answer.exit_code == ExitCode.USAGE
    assert "found '../elsewhere'" in answer.output


@pytest.mark.parametrize("command", ["run", "plan", "validate", "dissect", "doctor"])
def test_every_command_reports_all_config_errors(command, mistaken_file):
    path = mistaken_file
    answer = call(command, path, "--set", "lens.k=0")
    assert answer.exit_code == ExitCode.USAGE
    assert [line.split(": expected")[0] for line in answer.stderr.splitlines()] == [
        f"{path}:3:7: seed",
        f"{path}:5:3: sampling.stepz",
        "--set lens.k",
        "3 mistakes in the config",
    ]


def test_a_mistaken_config_ends_a_real_process_with_code_2_and_no_traceback(tmp_path):
    code = "from ray_jobs.cli.commands import app; app()"
    command = [sys.executable, "-c", code, "run", str(tmp_path / "absent.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith(f"{tmp_path / 'absent.yaml'}: expected a readable YAML file")


def test_validate_summarises_a_valid_config(config_file):
    answer = call("validate", config_file())
    assert answer.exit_code == ExitCode.PASS
    assert answer.stdout == "small.yaml is valid: 2 prompts, 20 images, 6 shards, arm baseline\n"
    assert json.loads(call("validate", config_file(), "--json").stdout) == {"valid": True, "errors": [], "warnings": []}


def test_validate_as_json_gives_places(mistaken_file):
    path = mistaken_file
    answer = call("validate", path, "--json", "--set", "judge.source=x.pt")
    errors = json.loads(answer.stdout)["errors"]
    assert answer.exit_code == ExitCode.USAGE
    assert errors[0] == {
        "file": str(path),
        "line": 3,
        "column": 7,
        "where": "seed",
        "message": "expected at least 0, found -1",
    }
    assert (errors[-1]["file"], errors[-1]["line"]) == ("--set judge.source", None)


def test_plan_counts_images_shards_and_calls(tmp_path):
    path = tmp_path / "audit.yaml"
    path.write_text(
        "name: trial\nprompts: {occupations: [chef, artist], images_per_prompt: 70}\nmodel: {source: owner/name}\n"
        "mitigations: [{name: m, attribute: age}]\n"
    )
    data = json.loads(call("plan", path, "--json").stdout)
    assert data["prompts"][1] == {"id": "artist", "text": "a face photo of an artist", "occupation": "artist"}
    assert (data["arms"], data["images"], data["shards"]) == (["baseline", "m"], 280, 6)
    made = 2 * 3 * 32  # in each arm: the last shard of a prompt is padded to the batch
    assert data["unet_calls"] == 2 * made * 25 * 2
    twice = "mitigations=[{name: m, attribute: age, strength: 1, reverse_step: asymmetric}]"
    assert json.loads(call("plan", path, "--json", "--set", twice).stdout)["unet_calls"] == 3 * made * 25 * 2
    answer = call("plan", path)
    assert answer.exit_code == ExitCode.PASS
    assert "2 prompts, 280 images, 6 shards, arms baseline and m" in answer.stdout
    assert "Detected with a probability of 80\xa0%, corrected for 6 tests" in answer.stdout


def test_plan_prints_required_images_and_detectable_departures(tmp_path):
    path = tmp_path / "audit.yaml"
    path.write_text(
        "name: trial\nprompts: {occupations: [chef, artist], images_per_prompt: 70}\nmodel: {source: owner/name}\n"
        "attributes: {gender: [female, male]}\n"
        "gates: [{name: women, measure: 'share:female', attribute: gender, prompt: chef, min: 0.3}]\n"
    )
    power = json.loads(call("plan", path, "--json").stdout)["power"]
    [gender] = power["detectable"]
    assert (power["tests"], gender["n"]) == (2, 70)
    assert 0.15 < gender["share"] < 0.25
    [need] = power["gates"]
    assert 30 < need["images"] < 70
    wrong = path.read_text().replace("prompt: chef", "prompt: cheff")
    path.write_text(wrong)
    assert "did you mean 'chef'" in call("plan", path).stderr


def test_a_plan_of_many_prompts_stays_short(capsys):
    prompts = tuple(Prompt(f"p{number}", "text", "occupation") for number in range(1000))
    show_work(Work(prompts, ("baseline",), images_per_prompt=4, shards_per_prompt=1, unet_calls=8))
    printed = capsys.readouterr().out
    assert "… and 960 more prompts" in printed
    assert len(printed.splitlines()) < 50


@pytest.mark.parametrize("command", [["run"], ["validate"], ["submit"], ["schedule", "run"], ["schedule", "once"]])
def test_an_option_has_the_same_help_in_every_command(command):
    shown = " ".join(call(*command, "--help").output.split())
    assert "Replace a value of the config; can be repeated." in shown
    assert "Where runs are kept: a path or s3://bucket/prefix." in shown


def test_output_and_workers_go_before_the_file(config_file, tmp_path):
    (tmp_path / "taken").touch()
    answer = call("validate", config_file(), "--output", tmp_path / "taken", "--workers", 3)
    assert answer.exit_code == ExitCode.USAGE
    assert answer.stderr.startswith("--set output: expected a directory, found the file")


@pytest.mark.parametrize(
    ("made", "found"), [(None, "nothing"), ((), "no run"), (("config.json",), "an unfinished run")]
)
def test_a_report_needs_a_finished_run(made, found, tmp_path):
    run = tmp_path / "run"
    if made is not None:
        run.mkdir()
    for name in made or ():
        (run / name).touch()
    answer = call("report", run)
    assert answer.exit_code == ExitCode.USAGE
    assert f"found {found}" in answer.stderr


def test_hand_labels_become_confusion_matrices(tmp_path):
    labels, confusion = tmp_path / "labels.csv", tmp_path / "confusion.json"
    rows = {"gender,female,female": 90, "gender,female,male": 10, "gender,male,male": 95, "gender,male,female": 5}
    labels.write_text("attribute,truth,perceived\n" + "".join(f"{row}\n" * count for row, count in rows.items()))
    shown = call("calibrate", labels, "--output", confusion)
    assert shown.exit_code == ExitCode.PASS, shown.output
    assert json.loads(confusion.read_text())["gender"] == [[90, 10], [5, 95]]
    assert "92.5\xa0%" in shown.stdout
    assert f"Confusion matrices: {confusion}" in shown.stdout
    found = json.loads(call("calibrate", labels, "--output", confusion, "--json").stdout)
    gender = found["attributes"]["gender"]
    assert (found["confusion"], gender["groups"], gender["correctable"]) == (str(confusion), ["female", "male"], True)
    assert gender["accuracy"] == asdict(share_estimate(185, 200))
    assert gender["recall"] == {"female": asdict(share_estimate(90, 100)), "male": asdict(share_estimate(95, 100))}
    assert gender["condition_number"] == pytest.approx(1.18, abs=0.01)


def test_a_judge_that_guesses_cannot_be_corrected_and_is_reported(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("attribute,truth,perceived\n" + "g,a,a\ng,a,b\ng,b,a\ng,b,b\n")
    assert "g cannot be corrected" in call("calibrate", labels, "--output", tmp_path / "c.json").stdout
    found = json.loads(call("calibrate", labels, "--output", tmp_path / "c.json", "--json").stdout)
    assert (found["attributes"]["g"]["condition_number"], found["attributes"]["g"]["correctable"]) == (None, False)


def test_invalid_labels_are_reported_together_and_nothing_is_written(tmp_path, config_file):
    labels = tmp_path / "labels.csv"
    labels.write_text("attribute,truth,perceived\ngender,femal,female\ngender,male\n")
    answer = call("calibrate", labels, "--config", config_file(), "--output", tmp_path / "confusion.json")
    assert answer.exit_code == ExitCode.USAGE
    lines = answer.stderr.splitlines()
    assert lines[0].startswith(f"{labels}:2:8: truth: expected a group of gender (female, male), found 'femal'")
    assert lines[1].startswith(f"{labels}:3:1: expected 3 values")
    assert lines[2:] == ["2 mistakes in the labels"]
    assert not (tmp_path / "confusion.json").exists()


@pytest.mark.parametrize("output", [".", "absent/confusion.json"])
def test_calibrate_writes_into_an_existing_directory_only(tmp_path, output):
    answer = call("calibrate", tmp_path / "labels.csv", "--output", tmp_path / output)
    assert answer.exit_code == ExitCode.USAGE
    assert "directory" in answer.stderr


def test_an_audit_is_printed_on_the_terminal_and_as_json(cluster, config_file):
    path = config_file()
    shown = call("run", path, "--run-id", "first")
    assert shown.exit_code == ExitCode.PASS, shown.output
    assert "Fairness discrepancy" in shown.stdout
    assert "Report" in shown.stdout
    again = call("run", path, "--run-id", "first", "--json")
    data = json.loads(again.stdout)
    assert (data["run_id"], data["verdict"], data["exit_code"], data["incomplete"]) == ("first", "none", 0, [])
    assert {row["attribute"] for row in data["overall"]} == {"gender", "age", "skin_tone"}
    rendered = call("report", data["run_path"], "--json")
    assert json.loads(rendered.stdout) == {"report": data["report"]}
    other = call("run", path, "--run-id", "first", "--set", "seed=8")
    assert other.exit_code == ExitCode.USAGE
    assert "contains another run: seed was 7" in other.stderr


def test_missing_shards_are_named_with_the_way_on(cluster, audit, capsys):
    from ray_jobs.run.audit import run_audit

    outcome = replace(run_audit(audit()), incomplete=("doctor-0001",))
    show_outcome(outcome, again="difflens-audit run small.yaml")
    printed = capsys.readouterr().out
    assert "1 shard is missing: doctor-0001" in printed
    assert "To retry, run: difflens-audit run small.yaml" in printed
    assert outcome_as_data(outcome)["incomplete"] == ["doctor-0001"]


def test_no_cluster_at_the_address_is_an_infrastructure_failure(config_file, monkeypatch):
    import ray_jobs.run.audit
    from ray_jobs.cluster.connection import ClusterError

    def unreachable(*_arguments, **_options):
        raise ClusterError("expected a Ray cluster at there, found none")

    # The tests' own cluster is connected in this process, so that an address would not be looked at.
    monkeypatch.setattr(ray_jobs.run.audit, "connect", unreachable)
    answer = call("run", config_file(), "--address", "there")
    assert answer.exit_code == ExitCode.INFRASTRUCTURE
    assert answer.stderr == "expected a Ray cluster at there, found none\n"


@pytest.mark.parametrize(
    ("verdict", "complete", "expected"),
    [
        ("pass", True, 0),
        ("warn", True, 0),
        ("none", True, 0),
        ("fail", True, 1),
        ("inconclusive", True, 5),
        ("fail", False, 3),
    ],
)
def test_the_exit_code_follows_the_verdict_of_a_complete_audit(verdict, complete, expected):
    assert exit_code(verdict, complete=complete) == expected


def test_the_version_is_the_installed_one():
    try:
        installed = version("difflens-audit")
    except PackageNotFoundError:
        pytest.skip("difflens-audit is not installed here, only on the path")
    assert call("--version").stdout == f"difflens-audit {installed}\n"
