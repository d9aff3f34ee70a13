"""The command ``explore``: a page with tables, the same for any number of workers, and a config from a screen."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from audit.calibration.bundle import bundle_of
from audit.config.file import read_config
from audit.config.sections import ModelConfig
from benchmarks.tiny_families import save_chroma
from ray_jobs.cli.commands import app
from tests.weight_files import FAIRFACE, write_header

SHIPPED = next(bundle_of(ModelConfig()).lenses.iterdir())
AUDIT = {
    "name": "trial",
    "prompts": {"occupations": ["doctor", "nurse", "pilot", "judge"]},
    "explore": {
        "seeds": 2,
        "check_prompts": 3,
        "check_images": 4,
        "descriptors": ["farmer"],
        "modifiers": ["old"],
        "names": 1,
    },
    "attributes": {"gender": ["female", "male"]},
    "tracking": {"enabled": False},
    "sampling": {"batch": 8},
    "lens": {"path": str(SHIPPED)},
}


def written(directory, **changes):
    directory.mkdir(exist_ok=True)
    path = directory / "audit.yaml"
    path.write_text(yaml.safe_dump(AUDIT | {"output": str(directory / "runs")} | changes))
    return path


def call(*arguments):
    return CliRunner().invoke(app, ["explore", *map(str, arguments)])


@pytest.fixture(scope="module")
def explored(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("explored")
    answer = call(written(directory), "--workers", "1", "--json")
    assert answer.exit_code == 0, answer.output
    return directory, json.loads(answer.stdout)


def test_prompts_have_scores_on_the_axis_of_an_attribute(explored):
    _, plain = explored
    values = {score["prompt"]: score["value"] for score in plain["scores"]}
    assert values["nurse"] < 0 < values["pilot"]
    assert plain["hookpoint"] == "up_blocks.0"
    assert plain["checked"][0]["rho"] > 0
    assert {(move["prompt"], move["modifier"]) for move in plain["moves"]} == {(name, "old") for name in values}
    assert "scores" in Path(plain["exploration"]).read_text()


def test_the_strongest_feature_of_each_group_of_the_lens_is_named(explored):
    _, plain = explored
    named = {(one["attribute"], one["group"]) for one in plain["names"]}
    assert {("gender", "female"), ("gender", "male")} <= named
    assert all(
        one["word"] in ("female", "male", "farmer", "doctor", "nurse", "pilot", "judge") for one in plain["names"]
    )


def test_it_is_made_once_and_equal_for_any_number_of_workers(explored, cluster, tmp_path):
    directory, plain = explored
    again = json.loads(call(directory / "audit.yaml", "--json").stdout)
    alone = ("--set", "explore.names=0", "--set", "explore.check_prompts=0")
    assert again["exploration"] == plain["exploration"]
    for count in ("2", "3"):
        other = json.loads(call(written(tmp_path / count), "--workers", count, *alone, "--json").stdout)
        for name in ("scores.csv", "moves.csv", "similarities.csv"):
            one, several = (Path(of["exploration"]).with_name(name).read_bytes() for of in (plain, other))
            assert one == several


def test_a_screen_writes_the_config_of_an_audit_of_its_ends(cluster, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\ufeff# occupations\ndoctor\nnurse\n\npilot\nnurse\njudge\nastronaut\n", encoding="utf-8")
    config = written(tmp_path, mitigations=[{"name": "p", "method": "prompt", "attribute": "gender"}])
    alone = ("--workers", "1", "--set", "explore.names=0", "--set", "explore.check_prompts=0")
    answer = call(config, "--screen", names, "--keep", "1", *alone, "--json")
    assert answer.exit_code == 0, answer.output
    plain = json.loads(answer.stdout)
    assert plain["seeds"] == 1
    assert len(plain["scores"]) == 5
    audit = read_config(plain["screened"])
    values = {score["prompt"]: score["value"] for score in plain["scores"]}
    assert audit.prompts.occupations == (min(values, key=values.get), max(values, key=values.get))
    assert audit.mitigations[0].method == "prompt"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"# nothing\n\n", "at least one name"),
    ],
)
def test_a_file_without_names_is_refused(tmp_path, content, message):
    names = tmp_path / "names.txt"
    if content is not None:
        names.write_bytes(content)
    answer = call(written(tmp_path), "--screen", names)
    assert answer.exit_code == 2
    assert message in answer.output


@pytest.mark.parametrize("source", ["rendered", "calibration-unconditional"])
def test_a_model_without_text_inside_is_refused(tmp_path, source):
    prompts = {"occupations": "none"} if source != "rendered" else AUDIT["prompts"]
    answer = call(written(tmp_path, model={"source": source}, prompts=prompts))
    assert answer.exit_code == 2
    assert "expected a model" in answer.output


def test_a_black_box_is_refused(tmp_path):
    write_header(tmp_path / "fairface.safetensors", FAIRFACE)
    config = written(
        tmp_path,
        model={"source": str(save_chroma(tmp_path / "chroma"))},
        sampling={"steps": 1, "guidance": 1.0},
        judge={"source": str(tmp_path / "fairface.safetensors")},
        quality={"clip": "none", "features": "none"},
        lens={},
    )
    answer = call(config)
    assert answer.exit_code == 2
    assert "it is a black box; name another model" in answer.output


@pytest.mark.parametrize(
    ("open_set", "changes", "message"),
    [
        ({"images": 8}, {}, "expected at least 3 prompts and 16 images of each, found 4 and 8"),
        ({"images": 16}, {"prompts": {"occupations": ["doctor", "nurse"]}}, "found 2 and 16"),
        ({"images": 16}, {"quality": {"clip": "none", "features": "none"}}, "expected a network that embeds images"),
        ({"images": 16, "vocabulary": "missing.txt"}, {}, "cannot be read"),
    ],
)
def test_an_open_set_that_cannot_be_found_is_refused(tmp_path, open_set, changes, message):
    answer = call(written(tmp_path, explore={"open_set": open_set}, **changes))
    assert answer.exit_code == 2
    assert message in " ".join(answer.output.split())


def test_an_open_set_and_stress_are_sampled_and_shown(cluster, tmp_path):
    explore = {
        "seeds": 1,
        "check_prompts": 0,
        "modifiers": ["old"],
        "open_set": {"images": 16},
        "stress": {"images": 4},
    }
    config = written(tmp_path, explore=explore, sampling={"steps": 2, "batch": 8}, lens={})
    answer = call(config, "--workers", "1", "--json")
    assert answer.exit_code == 0, answer.output
    plain = json.loads(answer.stdout)
    assert plain["open_set"]["images"] == 16
    assert "pictures" not in plain["open_set"]
    assert [one["kind"] for one in plain["stress"]["conditions"]] == ["plain", "descriptor"]
    page = Path(plain["exploration"])
    assert "What no attribute names" in page.read_text()
    assert page.with_name("findings.csv").exists()
    assert page.with_name("stress.csv").exists()


def test_pictures_are_placed_on_the_axes_and_resumed(cluster, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(128, 40, (333, 250, 3)).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side, as a phone saves it
    Image.fromarray(noise).save(folder / "pho_to [bold]é.jpg", quality=80, exif=exif)
    Image.fromarray(noise[:, :, 0]).save(folder / "grey.png")
    explore = {"seeds": 2, "check_prompts": 0, "pictures": {"folder": str(folder), "images": 8, "step": 1}}
    config = written(tmp_path, explore=explore, sampling={"steps": 2, "batch": 8}, lens={})
    answer = call(config, "--workers", "1", "--json")
    assert answer.exit_code == 0, answer.output
    plain = json.loads(answer.stdout)
    assert [one["picture"] for one in plain["pictures"]["scores"]] == ["grey.png", "pho_to [bold]é.jpg"]
    page = Path(plain["exploration"])
    assert "noised to the level of step 1" in page.read_text()
    assert len(page.with_name("pictures.csv").read_text().splitlines()) == 3
    again = call(config, "--workers", "1")
    assert "pho_to [bold]é.jpg" in again.output
    assert page.parent.name in again.output.replace("\n", "")
