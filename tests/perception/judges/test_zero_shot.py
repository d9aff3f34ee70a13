"""CLIP as a second judge: it is better than chance, keeps the config's order, and reports low confidence."""

import numpy as np
import pytest

from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.sections import ModelConfig, QualityConfig
from audit.perception.embedders.clip import load_clip
from audit.perception.judges.captions import group_captions
from audit.perception.judges.kinds.zero_shot import ZeroShotJudge
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
