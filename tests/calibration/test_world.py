"""Faces follow the planted table, a face depends only on its seed, and an invalid table is refused."""

from dataclasses import fields

import numpy as np
import pytest
import yaml

from audit.calibration.world import (
    ATTRIBUTES,
    OCCUPATIONS,
    Labels,
    World,
    draw_labels,
    face_noise,
    planted_labels,
    uniform_labels,
)

CONTRAST = World.bundled_path().with_name("contrast.yaml")
N = 4_000
FOUR_SIGMA = 4 * np.sqrt(0.25 / N)


@pytest.fixture(scope="module")
def noise():
    return face_noise(range(N))


def assert_same(first: Labels, second: Labels):
    for field in fields(Labels):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def table(**changes):
    """A valid table of one occupation, with changes to the occupation's entry."""
    entry = {
        "gender": {"female": 0.3, "male": 0.7},
        "age": {"young": 0.2, "adult": 0.5, "old": 0.3},
        "skin_tone": {"light": 0.25, "medium": 0.25, "tan": 0.25, "dark": 0.25},
    }
    return {"name": "test", "occupations": {"doctor": entry | changes}}


def load(tmp_path, document) -> World:
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump(document))
    return World.load(path)


@pytest.mark.parametrize("path", [World.bundled_path(), CONTRAST], ids=lambda path: path.stem)
def test_faces_of_every_occupation_have_the_planted_shares(path, noise):
    world = World.load(path)
    for occupation in world.occupations:
        labels = draw_labels(world, occupation, noise)
        for attribute, groups in ATTRIBUTES.items():
            drawn = np.bincount(getattr(labels, attribute), minlength=len(groups)) / N
            planted = list(world.share(occupation, attribute).values())
            np.testing.assert_allclose(drawn, planted, atol=FOUR_SIGMA)


def test_faces_have_the_planted_joint_distribution_of_dependent_attributes(noise):
    world = World.bundled()
    labels = draw_labels(world, "doctor", noise)
    drawn = np.zeros((2, 3, 4))
    np.add.at(drawn, (labels.gender, labels.age, labels.skin_tone), 1 / N)
    np.testing.assert_allclose(drawn, world.joint("doctor"), atol=FOUR_SIGMA)
    young_among = drawn.sum(axis=2)[:, 0] / drawn.sum(axis=(1, 2))
    assert young_among[0] > 0.5 > 0.2 > young_among[1]


def test_planted_dependence_does_not_change_the_marginals():
    stated = yaml.safe_load(World.bundled_path().read_text())["occupations"]
    world = World.bundled()
    dependent = [name for name, entry in stated.items() if "together" in entry]
    assert len(dependent) >= 2
    for occupation in stated:
        for attribute in ATTRIBUTES:
            assert world.share(occupation, attribute) == pytest.approx(stated[occupation][attribute], abs=1e-9)
    for occupation in dependent:
        independent = np.einsum("i,j,k->ijk", *(list(world.share(occupation, a).values()) for a in ATTRIBUTES))
        assert np.abs(world.joint(occupation) - independent).sum() > 0.1


def test_odds_of_a_combination_are_kept_by_the_fit(tmp_path):
    joint = (
        load(tmp_path, table(together=[{"gender": "female", "age": "young", "odds": 8}])).joint("doctor").sum(axis=2)
    )
    assert joint[0, 0] * joint[1, 1] / (joint[0, 1] * joint[1, 0]) == pytest.approx(8)


def test_the_bundled_world_is_skewed_mildly_skewed_and_at_parity():
    world = World.bundled()
    male = np.array([world.share(occupation, "gender")["male"] for occupation in world.occupations])
    skew = np.abs(male - 0.5)
    assert len(world.occupations) >= 16
    assert (skew >= 0.35).sum() >= 5
    assert ((skew > 0.1) & (skew <= 0.2)).sum() >= 3
    assert (skew == 0).sum() >= 3


def test_glasses_and_background_follow_the_table(noise):
    world = World.bundled()
    assert draw_labels(world, "librarian", noise).glasses.mean() == pytest.approx(0.85, abs=FOUR_SIGMA)
    assert draw_labels(world, "nurse", noise).glasses.mean() == pytest.approx(0.2, abs=FOUR_SIGMA)
    assert (draw_labels(world, "pilot", noise).background == 1).mean() == pytest.approx(0.75, abs=FOUR_SIGMA)


def test_a_face_depends_only_on_its_seed():
    world = World.bundled()
    together = draw_labels(world, "doctor", face_noise([7, 8, 9]))
    alone = draw_labels(world, "doctor", face_noise([9]))
    np.testing.assert_array_equal(face_noise([7, 8, 9])[2:], face_noise([9]))
    assert_same(together[np.array([2])], alone)


def test_another_occupation_keeps_the_details_without_planted_shares(noise):
    world = World.bundled()
    doctor, nurse = draw_labels(world, "doctor", noise), draw_labels(world, "nurse", noise)
    np.testing.assert_array_equal(doctor.smile, nurse.smile)
    np.testing.assert_array_equal(doctor.hair_style, nurse.hair_style)
    assert (doctor.gender != nurse.gender).mean() == pytest.approx(0.75, abs=FOUR_SIGMA)  # monotone coupling


def test_uniform_faces_are_uniform_and_independent(noise):
    labels = uniform_labels(noise, ("nurse", "pilot"))
    assert set(labels.occupation) == {OCCUPATIONS.index("nurse"), OCCUPATIONS.index("pilot")}
    for attribute, groups in ATTRIBUTES.items():
        drawn = np.bincount(getattr(labels, attribute)) / N
        np.testing.assert_allclose(drawn, np.full(len(groups), 1 / len(groups)), atol=FOUR_SIGMA)
    assert abs(np.corrcoef(labels.gender, labels.age)[0, 1]) < 4 / np.sqrt(N)


def test_only_old_faces_have_grey_hair_and_only_men_have_beards(noise):
    labels = planted_labels(World.bundled(), noise)
    np.testing.assert_array_equal(labels.hair_colour == 4, labels.age == 2)
    assert not labels.beard[labels.gender == 0].any()
    assert labels.beard[labels.gender == 1].mean() == pytest.approx(0.4, abs=0.05)


def test_labels_can_be_joined_and_split(noise):
    labels = uniform_labels(noise, OCCUPATIONS)
    assert_same(Labels.concatenate([labels[:10], labels[10:]]), labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gender": {"female": 0.4, "male": 0.7}}, r"gender: expected shares .* add up to 1, found .* add up to 1\.1"),
        ({"gender": {"female": -0.1, "male": 1.1}}, "expected shares from 0 to 1"),
        ({"gender": {"femal": 0.3, "male": 0.7}}, "found 'femal'; did you mean 'female'"),
        ({"gender": None}, "gender: expected a table of names and values, found None"),
        ({"age": {"young": "many"}}, "young: expected a number, found 'many'"),
        ({"glases": 0.5}, "found 'glases'; did you mean 'glasses'"),
        ({"glasses": 1.5}, "expected a probability between 0 and 1, found 1.5"),
        ({"background": {"pink": 1.0}}, "expected group to be one of sage, .* found 'pink'"),
        ({"together": {"gender": "female"}}, "expected a list of combinations"),
        ({"together": [{"gender": "female", "odds": 3}]}, "expected groups of two attributes and odds above 0"),
        ({"together": [{"gender": "female", "age": "young", "odds": 0}]}, "odds above 0"),
        ({"together": [{"gender": "female", "age": "yuong", "odds": 2}]}, "did you mean 'young'"),
    ],
)
def test_an_invalid_table_is_refused_with_a_remedy(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, table(**changes))


def test_an_unknown_or_missing_occupation_is_refused(tmp_path):
    document = table()
    document["occupations"]["docter"] = document["occupations"].pop("doctor")
    with pytest.raises(ValueError, match="found 'docter'; did you mean 'doctor'"):
        load(tmp_path, document)
    with pytest.raises(ValueError, match="occupations: expected a table"):
        load(tmp_path, {"name": "empty"})


def test_a_file_with_invalid_yaml_is_refused(tmp_path):
    path = tmp_path / "world.yaml"
    path.write_text("name: [unclosed")
    with pytest.raises(ValueError, match=r"world\.yaml:1:16: expected YAML"):
        World.load(path)


def test_unknown_occupations_and_attributes_and_empty_inputs_are_refused(noise):
    world = World.bundled()
    with pytest.raises(ValueError, match="found 'docter'; did you mean 'doctor'"):
        draw_labels(world, "docter", noise)
    with pytest.raises(ValueError, match="found 'sex'"):
        world.share("doctor", "sex")
    with pytest.raises(ValueError, match="expected at least one seed"):
        face_noise([])
    with pytest.raises(ValueError, match="expected at least one part"):
        Labels.concatenate([])
