"""Pictures of two people follow the planted joint table, in random order, and an impossible table is refused."""

import numpy as np
import pytest
import torch
import yaml

from audit.calibration.labels import OCCUPATIONS
from audit.calibration.pairs import draw_pairs
from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels, face_noise
from audit.models.generator import RenderedGenerator
from audit.records.work import PairPrompt, Prompt, derive_seed

N = 1500
PAIRS = World.load(World.bundled_path().with_name("pairs.yaml"))
ENTRY = {
    "gender": {"female": 0.3, "male": 0.7},
    "age": {"young": 0.2, "adult": 0.5, "old": 0.3},
    "skin_tone": {"light": 0.25, "medium": 0.25, "tan": 0.25, "dark": 0.25},
}


@pytest.fixture(scope="module")
def drawn():
    return {names: draw_pairs(PAIRS, *names, range(N)) for names in (("doctor", "nurse"), ("chef", "cashier"))}


def joint(pairs, attribute, size):
    first, second = (getattr(labels, attribute) for labels in pairs.people)
    return np.bincount(first * size + second, minlength=size * size).reshape(size, size) / N


def test_both_persons_follow_the_planted_table(drawn):
    for names, pairs in drawn.items():
        planted = PAIRS.pair(*names).joint["gender"]
        assert np.abs(joint(pairs, "gender", 2) - planted).max() < 4 * np.sqrt(0.25 / N)


def test_what_is_not_planted_is_drawn_for_each_person_alone_given_the_groups(drawn):
    pairs = drawn["chef", "cashier"]
    together = joint(pairs, "age", 3)
    independent = np.outer(together.sum(1), together.sum(0))
    assert np.abs(together - independent).max() < 4 * np.sqrt(0.25 / N)
    doctor = drawn["doctor", "nurse"].people[0]
    women = PAIRS.joint("doctor")[1] / PAIRS.joint("doctor")[1].sum()  # men, by age and skin tone
    men = doctor.gender == 1
    shares = np.bincount(doctor.age[men], minlength=3) / men.sum()
    assert np.abs(shares - women.sum(axis=1)).max() < 4 * np.sqrt(0.25 / men.sum())


def test_the_first_person_is_on_either_side_and_some_pictures_show_one_person(drawn):
    pairs = drawn["doctor", "nurse"]
    assert abs(pairs.left.mean() - 0.5) < 4 * np.sqrt(0.25 / N)
    assert abs((pairs.missing >= 0).mean() - 0.1) < 4 * np.sqrt(0.09 / N)
    assert set(np.unique(pairs.missing)) == {-1, 0, 1}
    assert (drawn["chef", "cashier"].missing == -1).all()


def test_a_square_is_the_drawing_of_its_person_and_depends_on_the_seed_alone(drawn):
    pairs = drawn["doctor", "nurse"]
    row = int(np.flatnonzero((pairs.missing < 0) & (pairs.left == 1))[0])
    noise = face_noise([derive_seed(row, "person", 1)])
    nurse = render(pairs.people[1][np.array([row])], noise).images[0]
    assert pairs.images.shape == (N, 3, 64, 128)
    assert torch.equal(pairs.images[row, :, :, :64], nurse)
    assert torch.equal(draw_pairs(PAIRS, "doctor", "nurse", [row]).images[0], pairs.images[row])
    empty = int(np.flatnonzero((pairs.missing == 0) & (pairs.left == 0))[0])
    assert pairs.images[empty, :, :, :64].flatten(1).float().std(1).max() == 0


def test_the_reverse_order_has_the_transposed_table_and_an_unplanted_pair_none():
    forward, backward = PAIRS.pair("doctor", "nurse"), PAIRS.pair("nurse", "doctor")
    np.testing.assert_array_equal(forward.joint["gender"], backward.joint["gender"].T)
    assert backward.alone == forward.alone
    assert PAIRS.pair("teacher", "librarian").joint == {}


def test_the_generator_draws_a_pair_for_a_prompt_of_two_and_one_face_for_others():
    generator = RenderedGenerator(PAIRS, "table")
    pair = PairPrompt("doctor-and-nurse", "a doctor and a nurse", "doctor and nurse", "doctor", "nurse")
    assert generator.generate(pair, [1, 2]).shape == (2, 3, 64, 128)
    assert generator.generate(Prompt("doctor", "a doctor", "doctor"), [1, 2]).shape == (2, 3, 64, 64)


def test_groups_that_are_given_leave_other_worlds_as_they_are():
    noise = face_noise(range(64))
    world = World.bundled()
    plain, given = draw_labels(world, "nurse", noise), draw_labels(world, "nurse", noise, {"age": np.full(64, 2)})
    assert (given.age == 2).all()
    np.testing.assert_array_equal(plain.gender, given.gender)
    assert world.pairs == {}


def table(tmp_path, **pair):
    occupations = {name: dict(ENTRY) for name in OCCUPATIONS[:2]}
    occupations["nurse"]["gender"] = {"female": 1.0}
    path = tmp_path / "world.yaml"
    entry = {"first": "doctor", "second": "nurse"} | pair
    path.write_text(yaml.safe_dump({"name": "test", "occupations": occupations, "pairs": [entry]}))
    return World.load(path)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ({"second": "doctor"}, "two different occupations"),
        ({"second": "pilot"}, "expected occupation to be one of doctor, nurse"),
        ({"alone": 2}, "between 0 and 1"),
        ({"gender": {"female": {"female": 0.5}}}, "add up to 1, found a sum of 0.5"),
        ({"gender": {"female": {"woman": 1.0}}}, "woman"),
        ({"gender": {"female": {"male": 1.0}}}, "second shows alone too"),
        ({"hair": {}}, "hair"),
    ],
)
def test_mistakes_in_a_table_are_refused(tmp_path, pair, message):
    with pytest.raises(ValueError, match=message):
        table(tmp_path, **pair)
    assert table(tmp_path, gender={"male": {"female": 1.0}}).pair("doctor", "nurse").joint["gender"][1, 0] == 1
