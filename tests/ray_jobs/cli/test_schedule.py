"""Tests the schedule commands: readable errors, hidden secrets, and failed gates distinguished from crashes."""

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from audit.storage.object_store import StorageError
from ray_jobs.cli.commands import app
from ray_jobs.run.exit_codes import ExitCode, at_gates
from ray_jobs.schedule import slot

WEEKLY = ("--cron", "0 3 * * 1")


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def config_file(tmp_path):
    def write(**sections):
        path = tmp_path / "weekly.yaml"
        fixed = {"name": "weekly", "model": {"source": "rendered"}, "output": str(tmp_path / "runs")}
        path.write_text(yaml.safe_dump(fixed | sections))
        return path

    return write


@pytest.fixture
def audit_ends(monkeypatch):
    """Let the audits of this test end with the given exit code."""

    def end(code):
        monkeypatch.setattr(
            slot.Order, "command", lambda self, due: [sys.executable, "-c", f"raise SystemExit({code})"]
        )

    return end


@pytest.mark.parametrize(
    ("code", "instead", "expected"),
    [(0, 0, 0), (1, 0, 0), (5, 0, 0), (1, None, 1), (5, 7, 7), (2, 0, 2), (3, 0, 3), (4, 0, 4)],
)
def test_only_what_gates_decided_is_replaced(code, instead, expected):
    assert at_gates(ExitCode(code), instead) == expected


@pytest.mark.parametrize("verb", ["run", "once", "manifests"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cron", "0 3 * *"), "expected five fields"),
        (("--cron", "0 3 1 * 1"), "expected days of the month or weekdays, found both"),
        ((*WEEKLY, "--time-zone", "Mars/Olympus"), "expected a time zone of the IANA database"),
    ],
)
def test_a_mistyped_date_is_a_usage_error_without_a_traceback(config_file, tmp_path, verb, options, message):
    image = ("--image", "x", "--output", tmp_path / "out") if verb == "manifests" else ()
    answer = call("schedule", verb, config_file(), *options, *image)
    assert (answer.exit_code, message in answer.output) == (2, True), answer.output
    assert not isinstance(answer.exception, ValueError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["run", "once", "manifests"])
def test_a_config_error_is_reported_with_its_line(config_file, verb):
    answer = call("schedule", verb, config_file(seeds=1), *WEEKLY, *(("--image", "x") if verb == "manifests" else ()))
    assert answer.exit_code == 2
    assert "weekly.yaml:5:1: seeds:" in answer.output


def test_kubernetes_needs_an_image_and_systemd_does_not(config_file, tmp_path):
    assert "expected a container image" in call("schedule", "manifests", config_file(), *WEEKLY).output
    answer = call(
        "schedule", "manifests", config_file(), *WEEKLY, "--kind", "systemd", "--output", tmp_path / "out", "--json"
    )
    assert answer.exit_code == 0
    assert [path.rpartition(".")[2] for path in json.loads(answer.stdout)["files"]] == ["service", "timer"]


def test_all_kinds_are_written_apart(config_file, tmp_path):
    call("schedule", "manifests", config_file(), *WEEKLY, "--image", "x", "--kind", "all", "--output", tmp_path / "out")
    found = sorted(path.relative_to(tmp_path / "out").parts[0] for path in (tmp_path / "out").rglob("*.*"))
    assert sorted(set(found)) == ["cronjob", "raycronjob", "rayjob", "systemd"]


def test_a_missing_webhook_secret_is_reported_before_the_audit(config_file, monkeypatch):
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    alerts = {"webhook": "https://example.com/hook", "secret_env": "HOOK_SECRET"}
    answer = call("schedule", "once", config_file(alerts=alerts), *WEEKLY)
    assert answer.exit_code == 2
    assert "alerts.secret_env: expected the webhook's secret in the environment variable HOOK_SECRET" in answer.output


@pytest.mark.parametrize(("code", "state", "expected"), [(0, "done", 0), (3, "failed", 3), (1, "failed", 1)])
def test_once_ends_as_the_audit_did_and_a_crash_is_never_zero(config_file, audit_ends, code, state, expected):
    audit_ends(code)
    answer = call("schedule", "once", config_file(), *WEEKLY, "--gate-exit-code", "0", "--json")
    shown = json.loads(answer.stdout)
    assert (shown["state"], shown["exit_code"], answer.exit_code) == (state, expected, expected)


def test_a_slot_and_a_name_are_not_both_wanted_and_a_slot_has_a_zone(config_file):
    answer = call("run", config_file(), "--slot", "2026-01-05T03:00:00+00:00", "--run-id", "mine")
    assert (answer.exit_code, "found both" in answer.output) == (2, True)
    for slot_time in ("2026-01-05T03:00:00", "monday"):
        answer = call("run", config_file(), "--slot", slot_time)
        assert (answer.exit_code, "expected a time with its zone" in answer.output) == (2, True)


def test_without_apscheduler_the_message_names_the_remedy(config_file, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = call("schedule", "once", config_file(), *WEEKLY)
    assert (answer.exit_code, "pip install 'difflens-audit[schedule]'" in answer.output) == (2, True)


def test_an_unavailable_store_is_reported_without_a_traceback(config_file, monkeypatch):
    def away(_journal):
        raise StorageError("the store is away")

    monkeypatch.setattr("audit.results.comparison.slots.Journal.last_slot", away)
    answer = call("schedule", "run", config_file(), *WEEKLY)
    assert (answer.exit_code, answer.stderr) == (ExitCode.INFRASTRUCTURE, "the store is away\n")


def test_manifests_need_no_apscheduler(config_file, tmp_path):
    program = "import sys; sys.modules['apscheduler'] = None\nfrom ray_jobs.cli.commands import app\napp(sys.argv[1:])"
    command = ["schedule", "manifests", config_file(), *WEEKLY, "--image", "x", "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
