"""The command ``concepts``: a page on the workers, the same after a resume, and models that cannot be read."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from ray_jobs.cli.commands import app
from ray_jobs.cli.inside.concepts import _request
from ray_jobs.run import parts
from ray_jobs.run.inside.concepts import _trials

AUDIT = {
    "name": "trial",
    "prompts": {"occupations": ["doctor", "nurse"]},
    "attributes": {"gender": ["female", "male"]},
    "tracking": {"enabled": False},
    "sampling": {"batch": 6, "steps": 5},
    "lens": {"attributes": ["gender"]},
    "concepts": {
        "blocks": ["mid_block.attentions.0"],
        "steps": 5,
        "images": 6,
        "expansion": 1,
        "k": 2,
        "sae_steps": 2,
    },
}


def written(directory, **changes):
    path = directory / "audit.yaml"
    path.write_text(yaml.safe_dump(AUDIT | {"output": str(directory / "runs")} | changes))
    return path


def call(*arguments):
    return CliRunner().invoke(app, ["concepts", *map(str, arguments)])


@pytest.fixture(scope="module")
def measured(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("concepts")
    answer = call(written(directory), "--workers", "1", "--json")
    assert answer.exit_code == 0, answer.output
    return directory, json.loads(answer.stdout)


def test_a_page_has_the_layout_at_every_recorded_step(measured):
    _, plain = measured
    assert plain["parts"] == ["hair", "face", "dress", "headgear", "background"]
    assert plain["steps"] == [0, 1, 2, 3, 4]
    assert (plain["images"], plain["measured"]) == (12, 4)
    assert plain["stages"] is None
    assert "Layout before it is visible" in Path(plain["page"]).read_text()


def test_run_again_nothing_is_computed_and_the_result_is_the_same(measured, cluster, monkeypatch):
    directory, plain = measured
    monkeypatch.setattr(parts, "run_on_pool", None)
    answer = call(written(directory), "--workers", "1", "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == plain


def test_every_step_gets_the_seed_of_the_config():
    """A step that lost it would go on with the images of seed 0, and nobody would see that."""
    plain = AUDIT | {"concepts": AUDIT["concepts"] | {"stages": {}}, "seed": 7}
    config = AuditConfig.model_validate(plain)
    other, own = (
        _request("x", config.concepts, DissectionRequest.of(config), config.quality, seed) for seed in (0, config.seed)
    )
    made = own.recording, own.dictionaries("d", "n"), _trials(own, config.concepts.stages, "d", "n")
    assert [one.seed for one in made] == [7, 7, 7]
    assert own.as_data() != other.as_data()


REFUSED = [
    ({"model": {"source": "rendered"}}, "expected a model with a network"),
    ({"concepts": {"blocks": ["mid"]}}, "expected a module that returns a map, found 'mid'"),
    ({"concepts": {"segmenter": {"source": "somewhere"}}}, "expected the parts to ask"),
    ({"concepts": {"stages": {"attributes": ["age"]}}}, "expected audited attributes (gender), found age"),
    ({"concepts": {"stages": {"styles": ["oil " * 30 + "paint"]}}}, "concepts.stages: expected at most 20 tokens"),
    ({"concepts": {"stages": {"styles": ["oil"]}}, "quality": {"clip": "none"}}, "expected CLIP, which says whether"),
    ({"concepts": {"segmenter": {"source": "somewhere", "parts": {"hair": "hair"}}}}, "expected a directory with a"),
    ({"sampling": {"steps": 4}}, "sampling.steps: expected at least 5 steps"),
    ({"concepts": {"steps": 2}}, "found none in middle with 2 of 5 steps"),
    ({"concepts": {"steps": 1}}, "expected at least 2, found 1"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_read_is_refused_in_words(tmp_path, changes, message):
    answer = call(written(tmp_path, **changes))
    assert answer.exit_code == 2
    assert message in " ".join(answer.output.split())
    assert "Traceback" not in answer.output
