"""Tests gates on a real run of the command line: the exit code of each verdict; new gates need no new images."""

import xml.etree.ElementTree as ET

import pytest
import yaml
from typer.testing import CliRunner

from audit.storage.run_directory import JUNIT, MODEL_CARD, SUMMARY, TABLE
from ray_jobs.cli.commands import app

pytestmark = pytest.mark.usefixtures("in_this_process")

# The rendered doctor is male in 85 of 100 pictures.
PASSES = {"name": "some-women", "measure": "share:female", "attribute": "gender", "min": 0.01}
FAILS = {"name": "balanced", "measure": "fairness_discrepancy", "attribute": "gender", "prompt": "doctor", "max": 0.1}
UNDECIDED = {"name": "exactly", "measure": "share:male", "attribute": "gender", "prompt": "doctor", "max": 0.85}

WITHOUT_DATA = {"name": "on-the-whole", "measure": "fairness_discrepancy", "attribute": "gender", "max": 0.1}
"""A gate on a mean over prompts, in an audit with one prompt."""


@pytest.fixture(scope="module")
def audit(tmp_path_factory, cluster):
    """Runs the CLI on one audit with the given gates; returns the exit code and the run directory."""
    directory = tmp_path_factory.mktemp("gated")

    def run(*gates, occupations=("doctor",)):
        config = {
            "name": "gated",
            "model": {"source": "rendered"},
            "prompts": {"occupations": list(occupations), "images_per_prompt": 64, "attribution": False},
            "sampling": {"batch": 32},
            "quality": {"clip": "none", "features": "none"},
            "tracking": {"enabled": False},
            "workers": {"count": 1},
            "gates": list(gates),
        }
        path = directory / "audit.yaml"
        path.write_text(yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["run", str(path), "--output", str(directory / "runs")])
        [found] = (directory / "runs").glob("gated-*")
        return result.exit_code, found

    return run


@pytest.mark.parametrize(
    ("gates", "code", "words", "cases"),
    [
        ([], 0, "", []),
        ([PASSES], 0, "pass", [None]),
        ([PASSES, FAILS], 1, "fail", [None, "failure"]),
        ([{**FAILS, "level": "warn"}], 0, "warn", ["warning, fail"]),
        ([PASSES, UNDECIDED], 5, "inconclusive", [None, "error"]),
        ([PASSES, WITHOUT_DATA], 5, "a mean over prompts needs at least two", [None, "error"]),
        ([FAILS, WITHOUT_DATA], 1, "fail", ["failure", "error"]),
    ],
)
def test_a_verdict_decides_the_exit_code_and_what_junit_shows(audit, gates, code, words, cases):
    found, run = audit(*gates)
    assert found == code
    assert words in (run / SUMMARY).read_text().lower()
    assert [shown(case) for case in ET.parse(run / JUNIT).getroot().iter("testcase")] == cases


def shown(case):
    """Return what a build shows of a gate: the tag that breaks it, the start of a warning, or nothing."""
    [child] = case
    if child.tag != "system-out":
        return child.tag
    return child.text.partition(":")[0] if child.text.startswith("warning") else None


def test_new_gates_are_judged_on_the_images_that_are_there(audit):
    _, run = audit(PASSES)
    times = {path: path.stat().st_mtime_ns for path in (run / "shards").glob("*.parquet")}
    assert audit(FAILS) == (1, run)
    assert {path: path.stat().st_mtime_ns for path in (run / "shards").glob("*.parquet")} == times


def test_the_exports_are_written_beside_the_report(audit):
    _, run = audit(FAILS)
    assert "balanced" in (run / SUMMARY).read_text()
    assert (run / TABLE).read_text().startswith("prompt_id,arm,attribute,group")
    assert "model-index" in (run / MODEL_CARD).read_text()
