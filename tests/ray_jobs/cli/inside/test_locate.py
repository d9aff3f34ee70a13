"""The command ``locate`` maps a model whose lens or edits name modules that the model does not have."""

import pytest
import yaml
from typer.testing import CliRunner

from ray_jobs.cli.commands import app
from ray_jobs.cluster import connection


class ReachedError(OSError):
    """The command has begun to work."""


@pytest.mark.parametrize("hookpoint", ["mid_block", "mid_block@x", "transformer_blocks.1"])
def test_no_hookpoint_of_the_lens_stops_a_map(hookpoint, tmp_path, monkeypatch):
    def reached(*_):
        raise ReachedError("the map is about to be made")

    monkeypatch.setattr(connection, "connect", reached)
    path = tmp_path / "audit.yaml"
    edit = {"name": "m", "method": "difflens", "attribute": "gender", "strength": 1}
    keys = {"name": "trial", "model": {"source": "calibration-wide"}, "mitigations": [edit]}
    path.write_text(yaml.safe_dump(keys | {"lens": {"hookpoint": hookpoint}}))
    answer = CliRunner().invoke(app, ["locate", str(path), "--output", str(tmp_path / "runs")])
    assert "the map is about to be made" in answer.output + str(answer.exception)
    assert "lens.hookpoint" not in answer.output
