"""Persons are found in drawings and photographs, from left to right, each in a crop of its own."""

import numpy as np
import pytest
import torch

from audit.calibration.bundle import bundle_of
from audit.calibration.pairs import draw_pairs
from audit.calibration.world import World
from audit.config.judges import FacesConfig
from audit.config.sections import JudgeConfig, ModelConfig
from audit.perception.faces.finder import Face, FaceFinder, as_arrays
from audit.perception.persons.finder import ABOVE, SIDE, DrawnPersons, FacePersons, crops_of, finder_name, load_finder

WORLD = World.load(World.bundled_path().with_name("pairs.yaml"))
DRAWN = ModelConfig(source="rendered")


def test_each_drawn_person_is_one_square_and_an_empty_square_is_none():
    pairs = draw_pairs(WORLD, "doctor", "nurse", range(40))
    found = DrawnPersons(bundle_of(DRAWN).judge).find(pairs.images)
    assert [len(persons) for persons in found] == [1 if missing >= 0 else 2 for missing in pairs.missing]
    both = next(row for row, persons in enumerate(found) if len(persons) == 2)
    assert torch.equal(torch.cat(found[both], -1), pairs.images[both])


def test_a_picture_of_one_square_shows_one_person_and_grey_shows_none():
    square = draw_pairs(WORLD, "chef", "cashier", [1]).images[..., :64]
    finder = load_finder(FacesConfig(), DRAWN)
    assert [len(persons) for persons in finder.find(square)] == [1]
    assert finder.find(torch.full((2, 3, 64, 128), 128, dtype=torch.uint8)) == [[], []]


def test_the_name_of_the_finder_of_drawings_is_that_of_the_bundled_judge():
    assert finder_name(JudgeConfig(), DRAWN).startswith("drawings:bundled")


@pytest.mark.faces
def test_the_name_of_the_finder_of_faces_follows_the_settings():
    photographs, judge = ModelConfig(source="owner/name"), JudgeConfig(source="zero-shot")
    named = finder_name(judge, photographs)
    larger = judge.model_copy(update={"faces": FacesConfig(smallest=30)})
    assert named == finder_name(judge.model_copy(update={"faces": FacesConfig()}), photographs)
    assert named != finder_name(larger, photographs)


@pytest.mark.faces
def test_two_people_in_a_photograph_are_two_crops_that_do_not_overlap(two_people, as_batch):
    finder = FacePersons(FaceFinder(FacesConfig()))
    [found] = finder.find(as_batch(two_people))
    assert len(found) == 2
    left, right = found
    assert left.shape[1] == left.shape[2] > right.shape[1] == right.shape[2]  # the left person is larger
    faces = FaceFinder(FacesConfig())
    assert [len(faces.find(as_arrays(crop[None])[0])) for crop in found] == [1, 1]


@pytest.mark.faces
def test_a_crop_shows_hair_and_chest_and_is_grey_beyond_the_border(portrait):
    [face] = FaceFinder(FacesConfig()).find(portrait)
    [crop] = crops_of([face])
    box = face.landmarks.rect
    width = box.right() + 1 - box.left()
    top = round(box.top() - ABOVE * width)
    assert crop.shape == (round(SIDE * width),) * 2 + (3,)
    rows = slice(max(top, 0), top + len(crop))
    first = round((box.left() + box.right() + 1) / 2 - len(crop) / 2)
    np.testing.assert_array_equal(crop[rows.start - top :], portrait[rows, first : first + len(crop)])


@pytest.mark.faces
def test_noise_shows_no_person():
    noise = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert FacePersons(FaceFinder(FacesConfig())).find(noise) == [[], []]


def a_face(picture, left, top, width):
    """Return a face whose box dlib would report."""
    dlib = pytest.importorskip("dlib")
    box = dlib.rectangle(left, top, left + width - 1, top + width - 1)
    return Face(picture, dlib.full_object_detection(box, dlib.points()), 1.0, float(width * width))


@pytest.mark.faces
def test_of_two_faces_above_one_another_each_crop_has_all_of_its_own():
    picture = np.random.default_rng(0).integers(0, 100, (400, 300, 3), np.uint8)
    above, below = crops_of([a_face(picture, 100, 60, 40), a_face(picture, 104, 250, 40)])
    for crop, left, top in ((above, 100, 60), (below, 104, 250)):
        y, x = round(ABOVE * 40), (len(crop) - 40) // 2
        np.testing.assert_array_equal(crop[y : y + 40, x : x + 40], picture[top : top + 40, left : left + 40])


@pytest.mark.faces
@pytest.mark.parametrize(("left", "top"), [(-200, 20), (400, 20), (20, -400), (20, 400)])
def test_a_face_beyond_the_picture_is_a_grey_crop(left, top):
    [crop] = crops_of([a_face(np.zeros((100, 100, 3), np.uint8), left, top, 20)])
    assert (crop == 128).all()
