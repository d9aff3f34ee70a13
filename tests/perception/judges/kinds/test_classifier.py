"""A torchvision or timm classifier as a judge: outputs by name, sums of groups, preparation, and refused files."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.models import resnet18

from audit.config.judges import ClassifierConfig
from audit.config.sections import JudgeConfig, ModelConfig
from audit.config.settings import AuditConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.interface import Asked
from audit.perception.judges.kinds.classifier import Classifier, ClassifierJudge, _input, transform_of
from audit.perception.judges.kinds.fairface import FAIRFACE, FairFaceJudge
from audit.perception.judges.registry import judge_name, kind_of, load_judge
from audit.training.loop import seeded

OUTPUTS = ("Woman", "Man", "child", "grown-up", "elder")
GROUPS = {"gender": {"female": ["Woman"], "male": ["Man"]}, "age": {"young": ["child"], "grown": ["grown-up", "elder"]}}
AUDITED = {"gender": ("male", "female"), "age": ("young", "grown")}
MODEL = ModelConfig(source="x")


def section(**keys):
    plain = {"architecture": "torchvision/resnet18", "outputs": OUTPUTS, "groups": GROUPS, "size": 64}
    return ClassifierConfig.model_validate(plain | keys)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 50, 70), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with seeded(0):
        network = resnet18(num_classes=5)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize(("resize", "height", "width"), [(75, 64, 64), (75, 50, 70), (75, 90, 61), (60, 50, 70)])
def test_the_preparation_with_gradients_takes_the_same_pixels(resize, height, width):
    """A smooth ramp, on which a centre that begins one pixel further is another one."""
    settings = section(resize=resize)
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    ramp = torch.stack([rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2])
    image = ramp.mul(255).round().byte()
    published = transform_of(settings)(Image.fromarray(image.permute(1, 2, 0).numpy()))
    own = _input(image[None].float() / 255, settings)[0]
    assert own.shape == published.shape
    np.testing.assert_allclose(own, published, atol=0.03)


def test_groups_are_sums_of_a_softmax_over_the_outputs_of_their_attribute(weights, images):
    seen = ClassifierJudge(weights, section(), AUDITED, 0.0).perceive(images, "doctor")
    with seeded(0):
        network = resnet18(num_classes=5).eval()
    with torch.inference_mode():
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        logits = network(torch.stack([transform_of(section())(picture) for picture in pictures]))
    gender, age = logits[:, :2].softmax(1), logits[:, 2:].softmax(1)
    np.testing.assert_allclose(seen.probabilities["gender"], gender[:, [1, 0]], atol=1e-5)
    grown = torch.stack([age[:, 0], age[:, 1] + age[:, 2]], dim=1)
    np.testing.assert_allclose(seen.probabilities["age"], grown, atol=1e-5)


def test_fairface_by_this_way_gives_the_answers_of_its_own_judge(tmp_path, images):
    from torchvision.models import resnet34

    with seeded(1):
        save_file(resnet34(num_classes=18).state_dict(), tmp_path / "fairface.safetensors")
    groups = {
        "race": ("asian", "white", "black", "latino", "indian", "middle_eastern"),
        "age": ("old", "young", "adult"),
    }
    own = FairFaceJudge(tmp_path / "fairface.safetensors", groups, 0.0, races=7).perceive(images, "")
    named = {"architecture": "torchvision/resnet34", "outputs": FAIRFACE[7].outputs, "groups": FAIRFACE[7].groups}
    settings = ClassifierConfig.model_validate(named)
    found = ClassifierJudge(tmp_path / "fairface.safetensors", settings, groups, 0.0).perceive(images, "")
    for name in groups:
        assert np.array_equal(found.probabilities[name], own.probabilities[name])


def test_a_timm_model_answers_the_same_as_timm(tmp_path, images):
    with seeded(0):
        network = timm.create_model("resnet18", num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "timm.pth")
    data = timm.data.resolve_data_config({"input_size": (3, 64, 64), "crop_pct": 1.0}, model=network)
    reference = timm.data.create_transform(**data)
    settings = section(
        architecture="timm/resnet18", resize=64, interpolation=data["interpolation"], mean=data["mean"], std=data["std"]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    for picture in pictures:
        assert torch.equal(transform_of(settings)(picture), reference(picture))
    with torch.inference_mode():
        expected = network(torch.stack([reference(picture) for picture in pictures]))[:, :2].softmax(1)
    found = ClassifierJudge(tmp_path / "timm.pth", settings, {"gender": ("female", "male")}, 0.0).perceive(images, "")
    np.testing.assert_allclose(found.probabilities["gender"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("resize", "steps"),
    [(None, [transforms.Resize((64, 64))]), (80, [transforms.Resize(80), transforms.CenterCrop(64)])],
)
def test_preparation_is_torchvisions(images, resize, steps):
    published = [*steps, transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    assert torch.equal(transform_of(section(resize=resize))(picture), transforms.Compose(published)(picture))


def test_a_listed_group_that_is_not_audited_takes_its_images_out_of_the_others(weights, images):
    outputs = {"age": {"young": ["child"], "adult": ["grown-up"], "old": ["elder"]}}
    seen = ClassifierJudge(weights, section(groups=outputs), {"age": ("young", "old")}, 0.0).perceive(images, "")
    assert np.array_equal(
        seen.lies_outside("age"), 1 - seen.probabilities["age"].sum(1) > seen.probabilities["age"].max(1)
    )


def problems(source, settings, groups=AUDITED):
    judge = JudgeConfig(source=str(source), classifier=settings)
    return [
        (".".join(map(str, p.location)), p.message)
        for p in Classifier().problems(Asked(judge, ("judge",), "it", MODEL, groups))
    ]


def test_validate_refuses_what_cannot_be_loaded(weights, tmp_path):
    assert problems(weights, section()) == []
    ((where, message),) = problems(weights, section(architecture="torchvision/resnet81"))
    assert where == "judge.classifier.architecture"
    assert "found 'resnet81'; did you mean 'resnet18'?" in message
    ((_, message),) = problems(weights, section(architecture="resnet18"))
    assert "expected torchvision/NAME or timm/NAME" in message
    ((where, message),) = problems(weights, section(outputs=(*OUTPUTS, "sixth")))
    assert (where, "found 5 outputs instead of 6" in message) == ("judge.source", True)
    ((_, message),) = problems(tmp_path / "none.pth", section())
    assert "expected a file of weights, found none at" in message
    (tmp_path / "half.safetensors").write_bytes(weights.read_bytes()[:5000])
    assert len(problems(tmp_path / "half.safetensors", section())) == 1
    assert len(problems(weights, section(architecture="torchvision/resnet50"))) == 1
    ((where, message),) = problems(weights, section(architecture="torchvision/fasterrcnn_resnet50_fpn"))
    assert where == "judge.classifier.architecture"
    assert "expected a model that torchvision knows" in message


def test_loading_refuses_other_weights(weights, tmp_path):
    save_file({"fc.weight": torch.zeros(5, 512)}, tmp_path / "other.safetensors")
    judge = JudgeConfig(source=str(tmp_path / "other.safetensors"), classifier=section())
    with pytest.raises(UnfitModelError, match="expected the weights of torchvision/resnet18 with 5 outputs"):
        load_judge(judge, MODEL, AUDITED)
    with pytest.raises(UnfitModelError, match="the classifier cannot judge 'race'"):
        load_judge(JudgeConfig(source=str(weights), classifier=section()), MODEL, {"race": ("a", "b")})


def test_a_config_names_outputs_that_exist_and_each_once(weights):
    def found(groups):
        judge = {"source": str(weights), "classifier": section(groups=groups).model_dump()}
        with pytest.raises(ValueError, match="expected") as caught:
            AuditConfig.model_validate({"name": "a", "attributes": {"age": ["a", "b"]}, "judge": judge})
        (error,) = caught.value.errors()
        return error["msg"]

    assert "expected one of outputs (Woman, Man, child, grown-up, elder), found 'old'" in found(
        {"age": {"a": ["child"], "b": ["old"]}}
    )
    assert "found 'child' in a too" in found({"age": {"a": ["child"], "b": ["child"]}})


def test_other_settings_give_another_name(weights):
    one, two = (JudgeConfig(source=str(weights), classifier=section(size=size)) for size in (64, 96))
    assert isinstance(kind_of(one), Classifier)
    assert judge_name(one, MODEL) != judge_name(two, MODEL)
    assert load_judge(one, MODEL, AUDITED).signature != load_judge(two, MODEL, AUDITED).signature
