"""Tests targets on a real run: other targets are measured on the existing images, and named in the report."""

import pytest
import yaml
from typer.testing import CliRunner

from audit.storage.run_directory import AUDIT, REPORT, RunDirectory
from ray_jobs.cli.commands import app
from reports.export.audit_json import read_audit_json

pytestmark = pytest.mark.usefixtures("in_this_process")

EVEN = "prompt,attribute,group,share,source\ndoctor,gender,Women,0.5,\ndoctor,gender,Men,0.5,\n"
PLANTED = "prompt,attribute,group,share,source\ndoctor,gender,Women,0.15,planted\ndoctor,gender,Men,0.85,planted\n"


@pytest.fixture(scope="module")
def audit(tmp_path_factory, cluster):
    """Runs the CLI on an audit with the given targets file; returns the exit code, the output and the run."""
    directory = tmp_path_factory.mktemp("held")

    def run(text):
        (directory / "labour.csv").write_text(text)
        target = {"csv": str(directory / "labour.csv"), "categories": {"Women": "female", "Men": "male"}}
        config = {
            "name": "held",
            "model": {"source": "rendered"},
            "prompts": {"occupations": ["doctor"], "images_per_prompt": 64, "attribution": False},
            "sampling": {"batch": 32},
            "targets": {"gender": target},
            "quality": {"clip": "none", "features": "none"},
            "tracking": {"enabled": False},
            "workers": {"count": 1},
            "gates": [
                {"name": "near", "measure": "fairness_discrepancy", "attribute": "gender", "prompt": "each", "max": 0.3}
            ],
        }
        (directory / "audit.yaml").write_text(yaml.safe_dump(config))
        output = directory / "runs"
        result = CliRunner().invoke(app, ["run", str(directory / "audit.yaml"), "--output", str(output)])
        return result.exit_code, result.output, [RunDirectory(path) for path in output.glob("held-*")]

    return run


def test_the_same_images_are_compared_with_other_targets_and_the_report_names_them(audit):
    skewed, _, [run] = audit(EVEN)
    times = {path: path.stat().st_mtime_ns for path in run.file("shards").glob("*.parquet")}
    on_target, _, again = audit(PLANTED)
    assert (skewed, on_target, again) == (1, 0, [run])  # the rendered doctor is male in 85 of 100 pictures
    assert {path: path.stat().st_mtime_ns for path in run.file("shards").glob("*.parquet")} == times
    assert read_audit_json(run).targets["gender"].origins == ("planted",)
    assert "labour.csv" in run.file(REPORT).read_text()
    assert "The file names these sources: planted" in run.file(REPORT).read_text()


def test_a_mistaken_file_stops_the_run_before_any_work_with_the_line_in_it(audit):
    _, _, [run] = audit(EVEN)
    before = run.file(AUDIT).read_bytes()
    code, output, _ = audit(EVEN.replace("Men,0.5", "Men,50"))
    assert code == 2
    assert "labour.csv:3:19: share: expected a share from 0 to 1, found '50'; write 0.5 for 50\u00a0%" in output
    assert run.file(AUDIT).read_bytes() == before
