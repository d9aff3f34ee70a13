"""The finder sees faces in photographs and in nothing else, and its chips are dlib's own."""

import os

import numpy as np
import pytest

from audit.calibration.labels import OCCUPATIONS, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.judges import FacesConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.faces.files import LANDMARKS, path_of
from audit.perception.faces.finder import FaceFinder, as_arrays, finder_problems

pytestmark = pytest.mark.faces


@pytest.fixture(scope="module")
def finder():
    return FaceFinder(FacesConfig())


def test_a_portrait_shows_one_face_with_its_score(finder, portrait):
    [face] = finder.find(portrait)
    assert face.score == pytest.approx(1.164, abs=0.01)
    assert face.area == pytest.approx(91 * 91, rel=0.05)
    assert "FairFace alignment, HOG detector" in finder.signature


def test_without_the_threshold_the_mission_badge_is_a_face_too(portrait):
    faces = FaceFinder(FacesConfig(threshold=0.0)).find(portrait)
    assert [face.score > 1 for face in faces] == [True, False]
    assert 0.07 < faces[1].score < 0.25
    assert FaceFinder(FacesConfig(threshold=2.0)).find(portrait) == ()


def test_small_faces_are_found_after_enlarging_and_other_pictures_are_not(finder, small_faces):
    found = [bool(finder.find(picture)) for picture in small_faces[::4]]  # faces first, then other pictures
    assert sum(found[:25]) >= 20
    assert sum(found[25:]) == 0


def test_noise_grey_and_drawings_show_no_face(finder):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    grey = np.full((512, 512, 3), 128, np.uint8)
    assert finder.find(noise) == finder.find(grey) == ()
    drawn = face_noise(range(128))
    drawings = as_arrays(render(uniform_labels(drawn, OCCUPATIONS[:16]), drawn).images)
    assert drawings[0].shape == (64, 64, 3)
    assert [finder.find(picture) for picture in drawings] == [()] * 128


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (3, 3000, 3), (2000, 5, 3)])
def test_pictures_of_unusual_shapes_show_no_face(finder, shape):
    assert finder.find(np.zeros(shape, np.uint8)) == ()


def test_chips_equal_those_of_fairface_s_script_to_the_grey_level(finder, portrait, two_people):
    import dlib

    landmarks = dlib.shape_predictor(str(path_of(LANDMARKS, None)))
    for picture in (portrait, two_people):
        height, width = picture.shape[:2]
        searched = picture
        if max(height, width) > 800:
            searched = dlib.resize_image(picture, rows=int(800 * height / width), cols=800)
        boxes = dlib.get_frontal_face_detector().run(searched, 1, 0.25)[0]
        shapes = dlib.full_object_detections()
        for box in sorted(boxes, key=lambda box: -box.area()):
            shapes.append(landmarks(searched, box))
        expected = dlib.get_face_chips(searched, shapes, size=300, padding=0.25)
        found = finder.find(picture)
        assert len(found) == len(expected) > 0
        for face, chip in zip(found, expected, strict=True):
            np.testing.assert_array_equal(face.chip(), chip)


def test_the_largest_face_comes_first_and_small_ones_can_be_left_out(finder, two_people):
    first, second = finder.find(two_people)
    assert first.area > second.area
    [only] = FaceFinder(FacesConfig(smallest=85)).find(two_people)  # pixels of the picture, which is searched at 800
    assert only.area == first.area


def test_without_upsampling_small_faces_are_missed(finder, portrait):
    small = np.ascontiguousarray(portrait[::2, ::2])
    assert len(finder.find(small)) == 1
    assert FaceFinder(FacesConfig(upsample=0)).find(small) == ()


def test_a_file_that_is_no_detector_is_refused(tmp_path):
    wrong = tmp_path / "mmod.dat"
    wrong.write_bytes(b"no detector" * 100)
    with pytest.raises(UnfitModelError, match="expected dlib's CNN face detector as published"):
        FaceFinder(FacesConfig(detector="cnn", weights=str(wrong)))
    settings = FacesConfig(detector="cnn", weights=str(tmp_path / "none.dat"))
    assert [key for key, _ in finder_problems(settings)] == ["weights"]


@pytest.mark.skipif("MMOD_WEIGHTS" not in os.environ, reason="name dlib's mmod_human_face_detector.dat in MMOD_WEIGHTS")
def test_the_cnn_detector_gives_the_chips_of_fairface_s_script(portrait):
    import dlib

    weights = os.environ["MMOD_WEIGHTS"]
    [face] = FaceFinder(FacesConfig(detector="cnn", weights=weights)).find(portrait)
    enlarged = dlib.resize_image(portrait, rows=800, cols=800)
    [found] = dlib.cnn_face_detection_model_v1(weights)(enlarged, 1)
    shapes = dlib.full_object_detections()
    shapes.append(dlib.shape_predictor(str(path_of(LANDMARKS, None)))(enlarged, found.rect))
    np.testing.assert_array_equal(face.chip(), dlib.get_face_chips(enlarged, shapes, size=300, padding=0.25)[0])
    assert face.score == found.confidence
