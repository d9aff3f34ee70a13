"""BLIP as a judge: closed-set scores, preparation, and what is refused before it is loaded."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BlipForQuestionAnswering, BlipProcessor

from audit.config.judges import VqaConfig
from audit.config.sections import JudgeConfig, ModelConfig, SecondOpinionConfig
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.perception.judges.interface import Asked
from audit.perception.judges.kinds.vqa import Vqa, VqaJudge
from audit.perception.judges.registry import judge_name, kind_of, load_judge, load_second_judges
from audit.records.work import Status
from benchmarks.tiny_blip import save_tiny_blip
from tests.pretended_gpu import pretended_gpu

GENDER = {"question": "is the person a woman or a man?", "answers": {"female": "woman", "male": "man"}}
AGE = {"question": "how old is the person?", "answers": {"young": "young", "adult": "middle aged", "old": "old"}}
GROUPS = {"gender": ("female", "male")}


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return save_tiny_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 40, 56), dtype=torch.uint8, generator=generator)


def section(**keys):
    return VqaConfig.model_validate({"questions": {"gender": GENDER}} | keys)


def test_probabilities_are_the_softmax_of_the_log_probabilities_of_the_answers(blip, images):
    """The loss of transformers' own forward pass, image by image, is the reference."""
    found = VqaJudge(blip, section(), GROUPS, 0.0).perceive(images, "doctor").probabilities["gender"]
    model, processor = BlipForQuestionAnswering.from_pretrained(blip).eval(), BlipProcessor.from_pretrained(blip)
    for image, shares in zip(images, found, strict=True):
        inputs = processor(Image.fromarray(image.permute(1, 2, 0).numpy()), GENDER["question"], return_tensors="pt")
        scores = []
        for answer in ("woman", "man"):
            labels = processor.tokenizer(answer, return_tensors="pt").input_ids
            labels[:, 0] = model.decoder_start_token_id
            with torch.no_grad():
                loss = model(**inputs, labels=labels).loss
            scores.append(-float(loss) * (labels.shape[1] - 1))
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(shares, expected, atol=2e-4)
    assert found.std(axis=0).min() > 0


def test_answers_are_matched_to_groups_by_name(blip, images):
    straight = VqaJudge(blip, section(), {"gender": ("female", "male")}, 0.0).perceive(images, "")
    turned = VqaJudge(blip, section(), {"gender": ("male", "female")}, 0.0).perceive(images, "")
    assert np.array_equal(straight.probabilities["gender"], turned.probabilities["gender"][:, ::-1])


def test_a_sum_needs_answers_of_one_length_and_a_mean_does_not(blip, images):
    with pytest.raises(UnfitModelError, match=r"same number of tokens for age.*'middle aged' has 2.*score: mean"):
        VqaJudge(blip, section(questions={"age": AGE}), {"age": ("young", "old")}, 0.0)
    judge = VqaJudge(blip, section(questions={"age": AGE}, score="mean"), {"age": ("young", "old")}, 0.0)
    seen = judge.perceive(images, "")
    assert "score:mean" in judge.signature
    assert seen.probabilities["age"].shape == (5, 2)
    best = np.array([seen.probabilities["age"][i].max() for i in range(5)])
    assert np.array_equal(seen.lies_outside("age"), best < 1 - seen.probabilities["age"].sum(axis=1))


def test_an_unknown_word_is_refused(blip):
    unknown = section(questions={"gender": GENDER | {"answers": {"female": "woman", "male": "bloke"}}})
    with pytest.raises(UnfitModelError, match="found an unknown one in 'bloke'"):
        VqaJudge(blip, unknown, GROUPS, 0.0)


def test_pictures_are_prepared_as_the_processor_prepares_them(blip, images):
    judge = VqaJudge(blip, section(), GROUPS, 0.0)
    taken = []
    judge._network.vision_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: taken.append(kwargs["pixel_values"]), with_kwargs=True
    )
    judge.perceive(images, "")
    processor = BlipProcessor.from_pretrained(blip)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    assert torch.equal(taken[0], processor(pictures, return_tensors="pt").pixel_values)


def copied(blip, directory):
    directory.mkdir()
    for path in blip.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def without_a_tensor(directory):
    state = load_file(directory / "model.safetensors")
    del state["text_decoder.cls.predictions.transform.dense.weight"]
    save_file(state, directory / "model.safetensors")


def without_weights(directory):
    (directory / "model.safetensors").unlink()


def another_model(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"architectures": ["BlipForConditionalGeneration"]}))


def a_million_layers(directory):
    config = json.loads((directory / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 10**6
    (directory / "config.json").write_text(json.dumps(config))


def half_a_file(directory):
    data = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(data[: len(data) // 2])


def no_tokenizer(directory):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_tensor, "found no text_decoder.cls.predictions.transform.dense.weight"),
        (without_weights, "expected model.safetensors next to config.json"),
        (another_model, "found BlipForConditionalGeneration"),
        (a_million_layers, "vision_config.num_hidden_layers of at most 83 stored tensors, found 1000000"),
        (half_a_file, "model.safetensors"),
        (no_tokenizer, "expected|unknown"),
    ],
)
def test_a_damaged_directory_is_refused_by_validate_and_when_loading(blip, tmp_path, damage, message):
    directory = copied(blip, tmp_path / "blip")
    damage(directory)
    judge = JudgeConfig(source=str(directory), vqa=section())
    asked = Asked(judge, ("judge",), "the judge", ModelConfig(source="x"), GROUPS)
    assert [problem.location[0] for problem in Vqa().problems(asked)] == ["judge"]
    with pytest.raises(UnfitModelError, match=message):
        load_judge(judge, ModelConfig(source="x"), GROUPS)


def test_code_beside_the_weights_is_refused(blip, tmp_path):
    directory = copied(blip, tmp_path / "blip")
    (directory / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(UntrustedModelError, match="code"):
        VqaJudge(directory, section(), GROUPS, 0.0)


def test_validate_reports_answers_at_their_question_and_accepts_a_hub_id(blip):
    model = ModelConfig(source="x")
    ages = JudgeConfig(source=str(blip), vqa=section(questions={"age": AGE}))
    asked = Asked(ages, ("judge",), "the judge", model, {"age": ("young", "old")})
    assert [problem.location for problem in Vqa().problems(asked)] == [("judge", "vqa", "questions", "age")]
    hub = JudgeConfig(source="owner/blip", vqa=section())
    assert list(Vqa().problems(Asked(hub, ("judge",), "the judge", model, GROUPS))) == []
    wrong = JudgeConfig(source="./blip", vqa=section())
    (problem,) = Vqa().problems(Asked(wrong, ("judge",), "the judge", model, GROUPS))
    assert "expected a directory of a BLIP model or owner/name on the hub" in problem.message


def test_it_is_a_judge_and_a_second_opinion(blip, images):
    model = ModelConfig(source="x")
    judge = JudgeConfig(source=str(blip), vqa=section(), min_confidence=1.0)
    assert isinstance(kind_of(judge), Vqa)
    assert set(load_judge(judge, model, GROUPS).perceive(images, "").statuses) == {Status.LOW_CONFIDENCE}
    opinion = SecondOpinionConfig(name="blip", source=str(blip), vqa=section())
    assert isinstance(load_second_judges([opinion], model, GROUPS, None)["blip"], VqaJudge)
    other = section(questions={"gender": GENDER | {"question": "is the person a man or a woman?"}})
    assert judge_name(judge, model) != judge_name(judge.model_copy(update={"vqa": other}), model)


def test_it_gives_the_same_answers_on_a_gpu(blip, images):
    judge = JudgeConfig(source=str(blip), vqa=section(), min_confidence=0.0)
    here = load_judge(judge, ModelConfig(source="x"), GROUPS).perceive(images, "")
    with pretended_gpu():
        there = load_judge(judge, ModelConfig(source="x"), GROUPS)
        assert {parameter.device.type for parameter in there._network.parameters()} == {"cuda"}
        found = there.perceive(images, "")
    np.testing.assert_allclose(found.probabilities["gender"], here.probabilities["gender"], atol=1e-6)
