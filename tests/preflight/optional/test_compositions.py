"""``compose`` is refused before work starts, with the place and the remedy; a config without pairs is not checked."""

import pytest

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.perception.faces.files import GET_LIBRARIES
from audit.planning.plan import prompt_text
from audit.preflight.optional import compositions
from audit.preflight.prompt_lengths import model_reader
from audit.preflight.readiness import check_composed

PAIRS = [["doctor", "nurse"]]
TEMPLATE = "photo of {a} {occupation}"
CLIP = str(bundle_of(ModelConfig()).clip)


def problems(**changes):
    config = AuditConfig(**{"name": "x", "compositions": {"pairs": PAIRS}, **changes})
    return {".".join(map(str, one.location)): one.message for one in check_composed(config)}


def test_the_bundled_worlds_are_ready_and_nothing_is_checked_without_pairs():
    assert problems() == problems(model={"source": "rendered"}) == {}
    assert problems(compositions={}, quality={"clip": "none"}) == {}


def test_an_occupation_that_the_world_does_not_know_is_named_in_its_place():
    found = problems(compositions={"pairs": [["doctor", "nurse"], ["doctor", "secretary"]]})
    assert list(found) == ["compositions.pairs.1.1"]
    assert "found 'secretary'" in found["compositions.pairs.1.1"]


def test_persons_are_matched_by_clip_which_must_be_named():
    message = problems(quality={"clip": "none"})["quality.clip"]
    assert "expected a CLIP model (bundled, a directory, " in message
    assert "matches persons with their occupations" in message


def test_a_table_of_labels_cannot_judge_a_person():
    found = problems(judge={"source": "labels.csv"})
    assert "each person is cut out and judged" in found["judge.source"]


def test_a_model_without_text_and_pictures_that_exist_are_refused():
    without = problems(model={"source": "calibration-unconditional"}, prompts="none")
    assert "a model that takes text" in without["compositions.pairs"]
    exist = problems(model={"source": "images", "folder": "pictures", "drawings": True})
    assert "can be sampled here, found 'images'" in exist["compositions.pairs"]


def test_a_text_that_the_model_would_cut_off_is_refused():
    found = problems(compositions={"pairs": PAIRS, "template": "a photo " * 40 + "of {a_first} and {a_second}"})
    assert list(found) == ["compositions.template"]


@pytest.mark.parametrize("source", ["calibration", "rendered"])
def test_a_text_that_clip_would_cut_off_is_refused_before_images_are_sampled(source):
    """Each text by which persons are matched names a group, so it is longer than the prompt."""
    reader = model_reader(ModelConfig())
    template = max(
        (template for k in range(20) if not reader.refusal(prompt_text(template := "a " * k + TEMPLATE, "doctor"))),
        key=len,
    )
    found = problems(model={"source": source}, compositions={"pairs": PAIRS, "alone": template})
    assert list(found) == ["compositions.alone"]
    assert "CLIP matches persons" in found["compositions.alone"]


@pytest.mark.faces
def test_persons_of_photographs_need_dlib(monkeypatch):
    settings = {
        "model": {"source": "owner/name"},
        "prompts": {"occupations": ["doctor"]},
        "sampling": {"steps": 2, "guidance": 3.0},
        "judge": {"source": "zero-shot"},
        "quality": {"clip": CLIP, "features": "none"},
    }
    assert problems(**settings) == {}
    monkeypatch.setattr(compositions, "finder_problems", lambda _faces: iter([("detector", f"run: {GET_LIBRARIES}")]))
    assert "persons are found by their faces" in problems(**settings)["compositions.pairs"]
