"""The command ``hookpoints``: addresses and shapes are those that a model's hooks see."""

import json

import pytest
import torch
import yaml
from typer.testing import CliRunner

from audit.config.fields import UNCONDITIONAL
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from ray_jobs.cli.commands import app


@pytest.fixture
def ask(tmp_path):
    def run(source, *options):
        path = tmp_path / "audit.yaml"
        path.write_text(yaml.safe_dump({"name": "trial", "model": {"source": str(source)}}))
        return CliRunner().invoke(app, ["hookpoints", str(path), *options])

    return run


def test_shapes_are_those_that_an_observer_sees(ask, tiny_pipeline):
    rows = {row["path"]: row for row in json.loads(ask(tiny_pipeline, "--json").stdout)["hookpoints"]}
    assert {"down_blocks.0", "mid_block", "up_blocks.1.resnets.0"} <= rows.keys()
    generator, seen = load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=1)), {}
    observers = {path: lambda _step, h, path=path: seen.setdefault(path, list(h.shape[1:])) for path in rows}
    generator.sample(["a doctor"] * 2, [0, 1], observers=observers)
    assert seen == {path: row["shape"] for path, row in rows.items()}
    assert all(row["bytes"] == 2 * torch.Size(row["shape"]).numel() for row in rows.values())


def test_all_lists_modules_inside_of_blocks_too(ask, tiny_pipeline):
    few, every = (
        json.loads(ask(tiny_pipeline, *options, "--json").stdout)["hookpoints"] for options in ([], ["--all"])
    )
    assert len(few) < len(every)
    assert "mid_block.resnets.0.conv1" in {row["path"] for row in every}


def test_the_table_names_the_middle_of_the_unconditional_model(ask):
    done = ask(UNCONDITIONAL)
    assert done.exit_code == 0
    [line] = [line for line in done.output.splitlines() if line.startswith("mid_block ")]
    assert line.split() == ["mid_block", "128", "×", "4", "×", "4", "4.1"]


@pytest.mark.parametrize(
    ("source", "message"), [("rendered", "a model with a network"), ("owner/name", "on this machine")]
)
def test_a_model_without_a_network_here_is_refused(ask, source, message):
    done = ask(source)
    assert done.exit_code == 2
    assert message in done.output
