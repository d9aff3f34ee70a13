"""CLIP as a second judge: it is better than chance, keeps the config's order, and reports low confidence."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.judges import ZeroShotConfig
from audit.config.sections import JudgeConfig, ModelConfig, QualityConfig, with_clip
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.perception.embedders.clip import load_clip
from audit.perception.judges.captions import group_captions
from audit.perception.judges.kinds.zero_shot import ZeroShotJudge
from audit.perception.judges.registry import judge_name, load_judge
from audit.records.work import Status
from audit.training.captions import caption


@pytest.fixture(scope="module")
def drawings():
    noise = face_noise(range(200))
    labels = uniform_labels(noise, OCCUPATIONS[:16])
    return render(labels, noise).images, labels


@pytest.fixture(scope="module")
def clip():
    return load_clip(QualityConfig(), ModelConfig())


def test_captions_use_the_words_on_which_the_calibration_model_was_trained():
    for attribute, groups in ATTRIBUTES.items():
        assert group_captions(attribute, groups) == [caption(None, **{attribute: group}) for group in groups]
    assert group_captions("race", ("middle_eastern", "asian")) == [
        "a face photo of a middle eastern person",
        "a face photo of an asian person",
    ]


def test_it_recognises_the_drawn_groups_better_than_chance(clip, drawings):
    images, labels = drawings
    seen = ZeroShotJudge(clip, ATTRIBUTES, min_confidence=0.0).perceive(images, "doctor")
    assert seen.prompt_shown is None
    assert set(seen.statuses) == {Status.CLASSIFIED}
    for attribute, least in {"gender": 0.6, "age": 0.6, "skin_tone": 0.85}.items():
        groups = ATTRIBUTES[attribute]
        probabilities = seen.probabilities[attribute]
        assert probabilities.shape == (200, len(groups))
        assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
        assert (probabilities.argmax(1) == getattr(labels, attribute)).mean() >= least


def test_groups_are_in_the_order_of_the_config(clip, drawings):
    images = drawings[0][:20]
    straight = ZeroShotJudge(clip, {"gender": ("female", "male")}, 0.0).perceive(images, "doctor")
    reversed_ = ZeroShotJudge(clip, {"gender": ("male", "female")}, 0.0).perceive(images, "doctor")
    assert np.allclose(straight.probabilities["gender"], reversed_.probabilities["gender"][:, ::-1], atol=1e-6)


def test_probabilities_are_the_softmax_of_the_model(clip, drawings):
    judge = ZeroShotJudge(clip, {"age": ("young", "adult", "old")}, 0.0)
    embeddings = clip.images(drawings[0][:5])
    texts = np.stack([clip.text(caption(None, age=group)) for group in ("young", "adult", "old")])
    scores = np.exp(clip.logit_scale * embeddings @ texts.T)
    found = judge.perceive_embedded(embeddings).probabilities["age"]
    assert np.allclose(found, scores / scores.sum(1, keepdims=True), atol=1e-5)
    assert np.allclose(judge.perceive(drawings[0][:5], "doctor").probabilities["age"], found, atol=1e-5)
    assert clip.logit_scale > 1


def test_an_uncertain_answer_has_low_confidence_and_the_signature_has_the_settings(clip, drawings):
    strict = ZeroShotJudge(clip, ATTRIBUTES, min_confidence=1.0)
    assert Status.LOW_CONFIDENCE in strict.perceive(drawings[0], "doctor").statuses
    assert strict.signature == f"judge:zero-shot|{clip.signature}|min_confidence:1.0"


def test_a_single_group_is_refused(clip):
    with pytest.raises(ValueError, match="at least 2 groups of 'gender'"):
        ZeroShotJudge(clip, {"gender": ("female",)}, 0.0)


def test_several_captions_are_averaged_as_open_clip_averages_them(clip, drawings):
    model, tokenizer = clip._model, clip._tokenizer
    words = {"female": "a female person", "male": "a male person"}
    templates = ("a face photo of {}", "{}")
    weights = open_clip.build_zero_shot_classifier(model, tokenizer, list(words.values()), templates)
    captions = {group: [template.format(text) for template in templates] for group, text in words.items()}
    settings = ZeroShotConfig.model_validate({"captions": {"gender": captions}})
    embeddings = clip.images(drawings[0][:10])
    found = ZeroShotJudge(clip, {"gender": ("female", "male")}, 0.0, settings).perceive_embedded(embeddings)
    expected = softmax(clip.logit_scale * embeddings @ weights.numpy(), axis=1)
    np.testing.assert_allclose(found.probabilities["gender"], expected, atol=1e-4)


def test_a_temperature_divides_the_cosines_and_changes_no_answer(clip, drawings):
    embeddings = clip.images(drawings[0][:20])
    plain = ZeroShotJudge(clip, {"gender": ("female", "male")}, 0.0)
    soft = ZeroShotJudge(clip, {"gender": ("female", "male")}, 0.0, ZeroShotConfig(temperature=0.5))
    sure, unsure = (judge.perceive_embedded(embeddings).probabilities["gender"] for judge in (plain, soft))
    assert np.array_equal(sure.argmax(1), unsure.argmax(1))
    cosines = np.log(sure[:, 0] / sure[:, 1]) / clip.logit_scale
    np.testing.assert_allclose(np.log(unsure[:, 0] / unsure[:, 1]), cosines / 0.5, atol=1e-4)
    assert "|temperature:0.5|" in soft.signature
    assert plain.temperature == pytest.approx(1 / clip.logit_scale)


def test_a_captioned_group_that_is_not_audited_takes_its_images_out_of_the_others(clip, drawings):
    images = drawings[0]
    settings = ZeroShotConfig(captions={"age": {"adult": "a face photo of an adult person"}})
    judge = ZeroShotJudge(clip, {"age": ("young", "old")}, 0.0, settings)
    seen, everyone = judge.perceive(images, ""), ZeroShotJudge(clip, ATTRIBUTES, 0.0).perceive(images, "")
    adult = everyone.codes("age") == ATTRIBUTES["age"].index("adult")
    assert 20 < adult.sum() < 180
    assert np.array_equal(seen.lies_outside("age"), adult)


def test_it_decides_an_audit_with_the_clip_model_of_the_quality_figures(clip):
    config = AuditConfig(name="audit", judge=JudgeConfig(source="zero-shot"))
    assert config.second_opinions == ()
    request = MeasurementRequest.of(config)
    assert request.judge.zero_shot.clip == "bundled"
    assert load_judge(request.judge, request.model, ATTRIBUTES, clip).clip is clip
    alone = load_judge(request.judge, request.model, ATTRIBUTES)
    assert alone.signature == load_judge(request.judge, request.model, ATTRIBUTES, clip).signature
    own = with_clip(JudgeConfig(source="zero-shot", zero_shot=ZeroShotConfig(temperature=1)), QualityConfig())
    assert judge_name(own, ModelConfig()) != judge_name(request.judge, ModelConfig())
    assert "zero_shot" not in config.model_dump()["judge"]


def test_the_preparation_of_any_shape_is_open_clips_own(clip):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 90, 130), dtype=torch.uint8, generator=generator)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**clip._model.visual.preprocess_cfg), False
    )
    pictures = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    with torch.inference_mode():
        expected = clip._model.encode_image(pictures, normalize=True).numpy()
    np.testing.assert_allclose(clip.images(images), expected, atol=1e-6)
