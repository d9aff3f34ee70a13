"""Gates on a real run of the command line: each verdict has its exit code, and no image is made twice for them."""

import xml.etree.ElementTree as ET

import pytest
import yaml
from typer.testing import CliRunner

from audit.store import JUNIT, MODEL_CARD, SUMMARY, TABLE
from ray_jobs.cli import app

# The rendered doctor is male in 85 of 100 pictures.
PASSES = {"name": "some-women", "measure": "share:female", "attribute": "gender", "min": 0.01}
FAILS = {"name": "balanced", "measure": "fairness_discrepancy", "attribute": "gender", "prompt": "doctor", "max": 0.1}
UNDECIDED = {"name": "exactly", "measure": "share:male", "attribute": "gender", "prompt": "doctor", "max": 0.85}


@pytest.fixture(scope="module")
def audit(tmp_path_factory, cluster):
    """Runs the CLI on one audit under the gates that are given; returns the exit code, and where the run lies."""
    directory = tmp_path_factory.mktemp("gated")

    def run(*gates, occupations=("doctor",)):
        config = {
            "name": "gated",
            "model": {"source": "rendered"},
            "prompts": {"occupations": list(occupations), "images_per_prompt": 64, "attribution": False},
            "sampling": {"batch": 32},
            "quality": {"clip": "none", "features": "none"},
            "tracking": {"enabled": False},
            "gates": list(gates),
        }
        path = directory / "audit.yaml"
        path.write_text(yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["run", str(path), "--output", str(directory / "runs")])
        [found] = (directory / "runs").glob("gated-*")
        return result.exit_code, found

    return run


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        ([], 0),
        ([PASSES], 0),
        ([PASSES, FAILS], 1),
        ([{**FAILS, "level": "warn"}], 0),
        ([PASSES, UNDECIDED], 5),
    ],
)
def test_a_verdict_decides_the_exit_code(audit, gates, code):
    assert audit(*gates)[0] == code


def test_new_gates_are_judged_on_the_images_that_are_there(audit):
    _, run = audit(PASSES)
    times = {path: path.stat().st_mtime_ns for path in (run / "shards").glob("*.parquet")}
    assert audit(FAILS) == (1, run)
    assert {path: path.stat().st_mtime_ns for path in (run / "shards").glob("*.parquet")} == times


def test_junit_tells_a_failure_from_a_doubt(audit):
    _, run = audit(PASSES, FAILS, UNDECIDED)
    suite = ET.parse(run / JUNIT).getroot()
    outcome = {
        case.get("name").split(":")[0].split(" ")[0]: [child.tag for child in case] for case in suite.iter("testcase")
    }
    assert sum("failure" in tags for tags in outcome.values()) == 1
    assert len(outcome) == 3


def test_the_exports_lie_beside_the_report(audit):
    _, run = audit(FAILS)
    assert "balanced" in (run / SUMMARY).read_text()
    assert (run / TABLE).read_text().startswith("prompt_id,arm,attribute,group")
    assert "model-index" in (run / MODEL_CARD).read_text()
