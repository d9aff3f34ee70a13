"""The command ``compose`` finds what is planted, resumes, and says so where no two people are found."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from audit.calibration.bundle import bundle_of
from audit.calibration.world import World
from audit.config.sections import ModelConfig
from benchmarks.tiny_families import save_chroma
from ray_jobs.cli.commands import app
from reports.compositions.files import composition_frames, read_compositions

CONFIG = Path("configs/compositions.yaml")
WORLD = World.load(World.bundled_path().with_name("pairs.yaml"))


def call(*arguments):
    return CliRunner().invoke(app, ["compose", *map(str, arguments)])


def overrides(output, **others):
    values = {"output": output, "tracking.enabled": "false", "workers.count": 1} | others
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def composed(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("composed")
    answer = call(CONFIG, *overrides(directory), "--json")
    assert answer.exit_code == 0, answer.output
    return directory, json.loads(answer.stdout)


def test_joint_shares_are_those_that_are_planted(composed):
    """Each planted share is in its interval, widened by half of its width: 8 intervals of 95 % need not all cover."""
    _, plain = composed
    for names in WORLD.pairs:
        planted = WORLD.pair(*names).joint["gender"]
        own = [one for one in plain["cells"] if one["pair"] == "-and-".join(names) and one["attribute"] == "gender"]
        for cell, share in zip(own, planted.ravel(), strict=True):
            low, high = cell["share"]["low"], cell["share"]["high"]
            assert low - (high - low) / 2 <= share <= high + (high - low) / 2


def test_what_is_planted_is_found_and_nothing_where_nothing_is(composed):
    _, plain = composed

    def found(rows):
        return {(one["pair"], one["attribute"]) for one in plain[rows] if one["found"]}

    assert ("doctor-and-nurse", "gender") in found("company")
    assert ("chef-and-cashier", "gender") not in found("company")
    assert ("chef-and-cashier", "gender") in found("alike")
    assert ("doctor-and-nurse", "gender") in found("reversals")
    assert not any("teacher" in pair for rows in ("company", "alike", "reversals") for pair, _ in found(rows))


def test_pictures_of_one_person_are_counted_and_are_in_no_group(composed):
    _, plain = composed
    doctor, chef, _ = plain["pairs"]
    assert 0.02 < doctor["people"][1] / doctor["images"] < 0.2  # planted: .1
    assert doctor["people"][1] + doctor["people"][2] == doctor["images"]
    assert doctor["apart"] == doctor["classified"]["gender"] == doctor["people"][2]
    assert chef["people"][2] == chef["images"]
    known = [one for one in plain["matchings"] if not one["attribute"]]
    assert all(one["right"]["value"] == 1 for one in known)


def test_it_resumes_and_its_files_hold_the_same_figures(composed, cluster):
    directory, plain = composed
    page = Path(plain["page"])
    written = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    again = call(CONFIG, *overrides(directory), "--json")
    assert "to do" not in again.stderr
    assert json.loads(again.stdout)["page"] == str(page)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == written
    found = read_compositions(str(page.parent))
    assert json.loads(json.dumps(found.as_data()))["company"] == plain["company"]
    for name, frame in composition_frames(found).items():
        assert len(pd.read_parquet(page.with_name(f"{name}.parquet"))) == len(frame) > 0
    text = page.read_text()
    assert "the doctor is male and the nurse female" in text
    assert "doctor (left)" in text


def test_without_pairs_there_is_nothing_to_compose(tmp_path):
    answer = call("configs/rendered.yaml", *overrides(tmp_path))
    assert answer.exit_code == 2
    assert "expected pairs of occupations such as [doctor, nurse], found none" in answer.output


def test_mistakes_are_refused_with_their_lines(tmp_path):
    plain = yaml.safe_load(CONFIG.read_text())
    plain["compositions"] |= {"template": "a photo of {a_first}", "pairs": [["nurse", "nurse"]]}
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(plain))
    answer = call(path, *overrides(tmp_path))
    assert answer.exit_code == 2
    assert "compositions.template: expected a text with {a_first} or {first}" in answer.output
    assert "expected two different occupations, found 'nurse' twice" in answer.output


@pytest.mark.faces
@pytest.mark.parametrize("model", ["stable diffusion", "black box"])
def test_pictures_of_random_weights_show_no_two_people_and_have_no_shares(cluster, tiny_pipeline, tmp_path, model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(squeezenet1_1(num_classes=2).state_dict(), tmp_path / "judge.safetensors")
    source = tiny_pipeline if model == "stable diffusion" else save_chroma(tmp_path / "chroma")
    config = {
        "name": "random",
        "model": {"source": str(source)},
        "prompts": {"occupations": ["doctor"], "images_per_prompt": 2},
        "sampling": {"steps": 1, "batch": 4, "guidance": 3.0}
        | ({"height": 32, "width": 32} if model == "black box" else {}),
        "attributes": {"gender": ["female", "male"]},
        "judge": {
            "source": str(tmp_path / "judge.safetensors"),
            "min_confidence": 0.0,
            "classifier": {
                "architecture": "torchvision/squeezenet1_1",
                "outputs": ["woman", "man"],
                "groups": {"gender": {"female": ["woman"], "male": ["man"]}},
            },
        },
        "quality": {"clip": str(bundle_of(ModelConfig()).clip), "features": "none"},
        "second_opinions": [],
        "compositions": {"pairs": [["doctor", "nurse"]], "images": 8},
    }
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(config))
    answer = call(path, *overrides(tmp_path / "runs"))
    assert answer.exit_code == 0, answer.output
    said = "In none of the 8 images of “a photo of a doctor and a nurse” were two people found"
    assert said in answer.stdout
    assert "%" not in answer.stdout.split("Page:")[0]
    page = answer.stdout.split("Page: ")[1].split()[0]
    assert said in Path(page).read_text()
    found = read_compositions(str(Path(page).parent))
    assert found.cells == found.reversals == found.alike == ()
    assert {one.share for one in found.company} == {None}
