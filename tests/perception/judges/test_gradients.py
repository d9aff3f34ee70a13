"""Judges with gradients: they answer as they do for an audit, and a picture can be moved towards a group."""

import pytest
import torch
from safetensors.torch import save_file

from audit.calibration.bundle import BUNDLED
from audit.config.sections import JudgeConfig, ModelConfig, QualityConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.perception.embedders.clip import load_clip
from audit.perception.judges.interface import GradientJudge
from audit.perception.judges.registry import KINDS, kind_of, load_judge
from audit.records.work import Prompt

GENDER = {"gender": ("male", "female")}


def resnet(path):
    from torchvision.models import resnet34

    with torch.random.fork_rng():
        torch.default_generator.manual_seed(3)
        network = resnet34(num_classes=18)
    save_file(network.state_dict(), path)
    return str(path)


def classifier(path, **settings):
    plain = {
        "architecture": "torchvision/resnet34",
        "outputs": [f"c{column}" for column in range(18)],
        "groups": {"gender": {"female": ["c1", "c4"], "male": ["c2"]}},
        "size": 64,
        **settings,
    }
    return {"source": resnet(path), "classifier": plain}


JUDGES = {
    "bundled": lambda _: {"source": "bundled"},
    "zero-shot": lambda _: {"source": "zero-shot"},
    "fairface": lambda path: {"source": resnet(path / "res34_multi_7.safetensors")},
    "classifier": lambda path: classifier(path / "own.safetensors"),
    "classifier, cropped": lambda path: classifier(path / "own.safetensors", resize=72),
}


@pytest.fixture(scope="module")
def images():
    generator = load_generator(ModelConfig(), SamplingConfig(steps=10))
    return generator.generate(Prompt("nurse", "a face photo of a nurse", "nurse"), range(4))


@pytest.mark.parametrize("name", JUDGES)
def test_the_answers_are_those_of_the_audit_and_have_gradients(name, images, tmp_path):
    config = JudgeConfig(min_confidence=0.0, **JUDGES[name](tmp_path))
    clip = load_clip(QualityConfig(clip=str(BUNDLED / "clip")), ModelConfig())
    judge = load_judge(config, ModelConfig(), GENDER, clip)
    assert kind_of(config).has_gradients
    assert isinstance(judge, GradientJudge)
    pictures = (images.float() / 255).requires_grad_(True)
    logs = judge.with_gradients(pictures, "gender")
    expected = torch.from_numpy(judge.perceive(images, "nurse").probabilities["gender"])
    torch.testing.assert_close(logs.exp().detach(), expected, atol=2e-2, rtol=2e-2)
    (gradient,) = torch.autograd.grad(logs[:, 0].sum(), pictures)
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())
    moved = (pictures + 1e-3 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).detach()
    assert bool((judge.with_gradients(moved, "gender")[:, 0] > logs[:, 0]).all())


def test_kinds_without_gradients_say_so():
    assert {kind.name for kind in KINDS if not kind.has_gradients} == {
        kind.name for kind in KINDS if type(kind).__name__ in ("Vqa", "AgeAndGender", "Labels")
    }
