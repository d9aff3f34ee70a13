"""Any judge can be a second judge, for a selection of the attributes."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet34

from audit.calibration.networks import DrawingNetwork
from audit.calibration.world import ATTRIBUTES, OCCUPATIONS
from audit.config.sections import ModelConfig, QualityConfig, SecondOpinionConfig
from audit.perception.embedders.clip import load_clip
from audit.perception.judges.kinds.bundled import CalibrationJudge
from audit.perception.judges.kinds.fairface import FairFaceJudge
from audit.perception.judges.kinds.zero_shot import ZeroShotJudge
from audit.perception.judges.registry import load_second_judges
from audit.records.work import Status

IMAGES = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip():
    return load_clip(QualityConfig(), ModelConfig())


@pytest.fixture(scope="module")
def fairface(tmp_path_factory):
    """A checkpoint with FairFace's shape and random weights."""
    path = tmp_path_factory.mktemp("fairface") / "fairface.safetensors"
    save_file(resnet34(num_classes=18).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    DrawingNetwork({**ATTRIBUTES, "occupation": OCCUPATIONS, "face": ("absent", "present")}).save(directory / "judge")
    return ModelConfig(source="rendered", world=str(directory))


def load(opinions, model=None, clip=None, attributes=ATTRIBUTES):
    return load_second_judges(opinions, model or ModelConfig(), attributes, clip)


def test_each_source_gives_its_judge_under_the_configured_name(clip, fairface, world):
    opinions = (
        SecondOpinionConfig(name="clip"),
        SecondOpinionConfig(name="fairface", source=fairface, attributes=["gender", "age"]),
        SecondOpinionConfig(name="drawn", source="bundled", attributes=["skin_tone"]),
    )
    judges = load(opinions, world, clip)
    kinds = {"clip": ZeroShotJudge, "fairface": FairFaceJudge, "drawn": CalibrationJudge}
    assert {name: type(judge) for name, judge in judges.items()} == kinds
    asked = {name: list(judge.perceive(IMAGES, "doctor").probabilities) for name, judge in judges.items()}
    assert asked == {"clip": list(ATTRIBUTES), "fairface": ["gender", "age"], "drawn": ["skin_tone"]}


def test_a_best_guess_counts_unless_a_confidence_is_required(clip):
    guess, strict = SecondOpinionConfig(name="guess"), SecondOpinionConfig(name="strict", min_confidence=1.0)
    judges = load((guess, strict), clip=clip)
    statuses = {name: set(judge.perceive(IMAGES, "doctor").statuses) for name, judge in judges.items()}
    assert statuses == {"guess": {Status.CLASSIFIED}, "strict": {Status.LOW_CONFIDENCE}}


def test_zero_shot_without_a_clip_model_is_refused():
    with pytest.raises(ValueError, match=r"a zero-shot judge needs a CLIP model, found none; set quality\.clip"):
        load((SecondOpinionConfig(name="clip"),))


def test_a_judge_that_does_not_know_the_attribute_is_refused(fairface):
    with pytest.raises(ValueError, match="FairFace cannot judge 'skin_tone'"):
        load((SecondOpinionConfig(name="fairface", source=fairface),))
