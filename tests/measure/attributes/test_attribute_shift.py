"""A shift of the shares is distinguished from chance, for the edited attribute and the others."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from audit.measure.attributes import attribute_shift as module
from audit.measure.attributes.attribute_shift import attribute_shift, pair_tables, shift_matrix
from audit.measure.attributes.contingency import RESAMPLES
from audit.measure.discrepancy import fairness
from audit.records.attributes import Attribute

GENDER = Attribute("gender", ("female", "male"))
AGE = Attribute("age", ("young", "adult", "old"))


def tables_of(before, after, groups):
    """Return the pairs of a single prompt."""
    return pair_tables(before, after, np.zeros(len(before), dtype=int), 1, groups)


def test_the_shift_is_the_mean_total_variation_of_the_prompts():
    before = [np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, -1])]
    after = [np.array([0, 1, 1, 1, 1]), np.array([1, 1, 1, 0])]
    tables = [tables_of(b, a, 2)[0] for b, a in zip(before, after, strict=True)]
    expected = [
        fairness.total_variation((0.4, 0.6), (0.2, 0.8)),
        fairness.total_variation((2 / 3, 1 / 3), (0.25, 0.75)),
    ]
    assert attribute_shift(tables)[0] == pytest.approx(np.mean(expected))


def test_floor_and_p_value_equal_the_enumeration_of_all_swaps():
    before = [[0, 0, 1, 0], [1, 2, 0, -1]]
    after = [[1, 0, 2, 2], [1, 0, 2, 2]]
    pairs = [(b, a) for rows in zip(before, after, strict=True) for b, a in zip(*rows, strict=True)]
    values = []
    for swap in itertools.product((False, True), repeat=len(pairs)):
        swapped = np.array([(a, b) if s else (b, a) for (b, a), s in zip(pairs, swap, strict=True)])
        prompts = [swapped[:4], swapped[4:]]
        shares = [
            [np.bincount(column[column >= 0], minlength=3) / (column >= 0).sum() for column in rows.T]
            for rows in prompts
        ]
        values.append(np.mean([fairness.total_variation(*pair) for pair in shares]))
    value, floor, p = attribute_shift(np.concatenate([tables_of(b, a, 3) for b, a in zip(before, after, strict=True)]))
    assert value == pytest.approx(values[0])
    assert floor == pytest.approx(np.mean(values), abs=4 * np.std(values) / math.sqrt(RESAMPLES))
    exact = np.mean(np.array(values) >= value - 1e-9)
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / RESAMPLES))


def test_an_arm_without_changes_has_no_shift_and_no_floor():
    same = np.array([0, 1, 1, 0, -1])
    assert attribute_shift(tables_of(same, same, 2)) == (0, 0, 1)


def test_pairs_are_counted_by_prompt():
    tables = pair_tables([0, 1, -1, 1], [1, 1, 0, -1], [2, 0, 0, 2], 3, 2)
    assert tables.tolist() == [
        [[0, 0, 0], [0, 1, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
    ]


def test_many_prompts_with_fewer_swaps_give_the_same_result(monkeypatch):
    rng = np.random.default_rng(6)
    before, after = rng.integers(0, 2, (2, 40 * 10))
    tables = pair_tables(before, after, np.repeat(np.arange(40), 10), 40, 2)
    often = attribute_shift(tables)
    monkeypatch.setattr(module, "SWAPPED_TABLES", 0)
    seldom = attribute_shift(tables)
    assert seldom[0] == often[0]
    assert seldom[1] == pytest.approx(often[1], rel=0.02)
    assert seldom[2] == pytest.approx(often[2], abs=4 * math.sqrt(0.25 / 999))
    assert seldom[2] * 1000 == pytest.approx(round(seldom[2] * 1000))  # 999 swaps and the observed arms


def test_the_test_of_a_shift_keeps_its_level():
    rng = np.random.default_rng(5)
    arms = rng.integers(0, 3, (150, 2, 2, 16))  # two prompts of 16 images, no change between the arms
    p_values = [
        attribute_shift(np.concatenate([tables_of(b, a, 3) for b, a in zip(*run, strict=True)]))[2] for run in arms
    ]
    assert (np.array(p_values) <= 0.1).sum() <= stats.binom.ppf(0.999, 150, 0.1)


def test_the_matrix_distinguishes_the_edited_attribute_from_the_others():
    rng = np.random.default_rng(2)
    prompts = np.repeat([0, 1], 60)
    gender, age = (rng.random(120) < 0.8).astype(int), rng.integers(0, 3, 120)
    edited = {
        "gender": np.where(rng.random(120) < 0.5, 1 - gender, gender),
        "age": rng.permuted(age.reshape(2, 60), axis=1).ravel(),
    }
    shifts = shift_matrix({"gender": gender, "age": age}, {"balanced": edited}, prompts, (GENDER, AGE))
    on_gender, on_age = shifts
    assert (on_gender.arm, on_gender.attribute, on_gender.prompts, on_gender.pairs) == ("balanced", "gender", 2, 120)
    assert on_gender.value > 2 * on_gender.floor
    assert on_gender.p_value < 0.01
    assert on_age.value == 0 < on_age.floor  # the same ages, assigned to other images
    assert on_age.p_value == 1
    assert shifts == shift_matrix({"gender": gender, "age": age}, {"balanced": edited}, prompts, (GENDER, AGE))


def test_a_prompt_without_a_classified_image_in_an_arm_is_excluded():
    shifts = shift_matrix(
        {"gender": [0, 1, -1, -1], "age": [-1] * 4},
        {"arm": {"gender": [1, 1, 0, 0], "age": [0] * 4}},
        [0, 0, 1, 1],
        (GENDER, AGE),
    )
    assert [(shift.attribute, shift.value, shift.prompts, shift.pairs) for shift in shifts] == [("gender", 0.5, 1, 2)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pair_tables([0], [0, 1], [0], 1, 2), "same images in both arms"),
        (lambda: attribute_shift(tables_of([-1], [0], 2)), "no prompt has a classified image"),
        (lambda: attribute_shift([[1, 2]]), "square table"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
