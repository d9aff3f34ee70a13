"""Planted dependences and side effects are found, and what chance alone makes is not taken for one."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import contingency

from audit.measure import fairness
from audit.measure import intersections as intersection_module
from audit.measure.intersections import (
    RESAMPLES,
    attribute_shift,
    cells_of,
    cramers_v,
    cross_tables,
    dependence,
    expected_counts,
    pair_tables,
    shift_matrix,
)
from audit.measure.intervals import share_estimate
from audit.records import Attribute

GENDER = Attribute("gender", ("female", "male"))
AGE = Attribute("age", ("young", "adult", "old"))


def codes_of(table):
    """Two columns of codes whose cross table is ``table``."""
    pairs = [at for at in np.ndindex(np.shape(table)) for _ in range(np.asarray(table)[at])]
    return tuple(np.array(pairs).T)


def cross_table(first, second, shape):
    """Count the images of a single prompt."""
    return cross_tables(first, second, np.zeros(len(first), dtype=int), (1, *shape))[0]


def cells_alone(table, attributes):
    """Return the cells of a single prompt."""
    return cells_of(table, expected_counts(table), attributes)


def tables_of(before, after, groups):
    """The pairs of a single prompt."""
    return pair_tables(before, after, np.zeros(len(before), dtype=int), 1, groups)


def g(table):
    """Return SciPy's G without a correction."""
    return stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic


# ---- cells ---------------------------------------------------------------------------------------------------------


def test_images_are_counted_by_their_combination_and_those_without_a_group_are_left_out():
    tables = cross_tables([0, 0, 1, -1, 1, 1], [2, 2, 0, 1, -1, 1], [0, 1, 1, 1, 2, 0], (3, 2, 3))
    assert tables.tolist() == [[[0, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_every_combination_has_a_cell_also_one_that_no_image_shows():
    table = np.array([[30, 10, 0], [2, 8, 14]])
    cells = cells_alone(table, (GENDER, AGE))
    assert [cell.groups for cell in cells] == list(itertools.product(GENDER.groups, AGE.groups))
    assert sum(cell.share.value for cell in cells) == pytest.approx(1)
    assert cells[0].share == share_estimate(30, 64)
    assert [cell.expected for cell in cells] == pytest.approx(contingency.expected_freq(table).ravel().tolist())
    never = cells[2]
    assert (never.groups, never.count, never.share.low) == (("female", "old"), 0, 0)
    assert never.share.high > 0.05


def test_a_cell_is_small_only_where_neither_what_is_seen_nor_what_is_expected_tells_anything():
    table = np.array([[40, 0], [2, 40], [9, 9]])
    small = {cell.groups: cell.small for cell in cells_alone(table, (AGE, GENDER))}
    assert small["young", "male"] is False  # none of the 20 expected: a finding
    assert small["adult", "female"] is False
    assert small["old", "female"] is True
    assert small["old", "male"] is True
    assert small["young", "female"] is False


def test_each_prompt_is_expected_at_the_product_of_its_own_shares():
    tables = np.random.default_rng(0).integers(1, 9, (4, 2, 3))
    expected = expected_counts(tables)
    for table, awaited in zip(tables, expected, strict=True):
        assert awaited == pytest.approx(contingency.expected_freq(table))
    assert expected_counts(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


# ---- dependence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [[[12, 5], [3, 9]], [[9, 2, 4], [1, 7, 6]], [[5, 5, 1], [2, 8, 3], [0, 4, 9]]])
def test_the_statistic_is_scipys_g(table):
    found = dependence(table)
    assert found.statistic == pytest.approx(g(table))
    assert found.cramers_v.n == np.sum(table)


@pytest.mark.parametrize("table", [[[3, 1], [0, 3]], [[1, 2], [2, 2]], [[4, 0], [0, 3]]])
def test_the_exact_p_value_is_the_share_of_all_permutations_with_at_least_this_g(table):
    first, second = codes_of(table)
    observed = g(table)
    larger = [g(cross_table(first, p, (2, 2))) >= observed - 1e-9 for p in set(itertools.permutations(second))]
    assert dependence(table).method == "exact"
    assert dependence(table).p_value == pytest.approx(np.mean(larger))


def test_the_sampled_p_value_agrees_with_all_permutations():
    table = [[3, 1, 0], [0, 1, 2]]
    first, second = codes_of(table)
    observed = g(table)
    exact = np.mean([g(cross_table(first, p, (2, 3))) >= observed - 1e-9 for p in set(itertools.permutations(second))])
    found = dependence(table)
    assert found.method == "monte_carlo"
    assert found.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / RESAMPLES))


def test_the_exact_test_rejects_independence_at_most_as_often_as_it_says():
    n, row, column = 20, 8, 11
    corner = np.arange(0, 9)
    tables = [[[k, row - k], [column - k, n - row - column + k]] for k in corner]
    p_values = np.array([dependence(table).p_value for table in tables])
    chances = stats.hypergeom(n, row, column).pmf(corner)
    for level in (0.01, 0.05, 0.2):
        assert chances[p_values <= level].sum() <= level


def test_a_planted_dependence_is_found_where_both_attributes_are_at_parity():
    # As many women as men and as many young as old, but the women are young.
    found = dependence([[26, 6], [6, 26]])
    assert found.p_value < 1e-5
    assert found.cramers_v.low > 0.3
    assert dependence([[16, 16], [16, 16]]).p_value == pytest.approx(1)


def test_pooled_prompts_look_dependent_though_none_of_them_is():
    nurses, firefighters = np.array([[36, 4], [9, 1]]), np.array([[1, 9], [4, 36]])
    assert dependence(nurses).p_value == pytest.approx(1)
    assert dependence(firefighters).p_value == pytest.approx(1)
    assert dependence(nurses + firefighters).p_value < 1e-5


def test_an_attribute_with_a_single_group_has_nothing_to_go_together_with():
    assert dependence([[10, 5, 3], [0, 0, 0]]) is None


def test_a_group_that_is_never_shown_changes_nothing():
    assert dependence([[9, 2, 0], [1, 7, 0]]) == dependence([[9, 2], [1, 7]])


@pytest.mark.parametrize("table", [[[12, 5], [3, 9]], [[19, 2, 4], [1, 17, 6]]])
def test_cramers_v_is_scipys_with_bergsmas_correction(table):
    n, (rows, columns) = np.sum(table), np.shape(table)
    phi2 = contingency.association(table, method="cramer") ** 2 * (min(rows, columns) - 1)
    corrected = phi2 - (rows - 1) * (columns - 1) / (n - 1)
    side = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    found = cramers_v(table)
    assert found.value == pytest.approx(math.sqrt(corrected / side))
    assert found.low < found.value < found.high


def test_cramers_v_is_1_where_one_attribute_fixes_the_other_and_0_at_independence():
    assert cramers_v([[20, 0], [0, 20]]).value == pytest.approx(1, abs=0.01)
    assert cramers_v([[20, 0], [0, 20]]).high == 1
    independent = cramers_v([[10, 10], [10, 10]])
    assert (independent.value, independent.low) == (0, 0)
    assert 0.2 < independent.high < 0.5


@pytest.mark.parametrize("v", [0.0, 0.2, 0.5])
def test_the_interval_of_cramers_v_covers_about_as_often_as_it_says(v):
    truth = np.array([[1 + v, 1 - v], [1 - v, 1 + v]]).ravel() / 4  # its V is v
    draws = np.random.default_rng(3).multinomial(100, truth, size=300).reshape(-1, 2, 2)
    covered = [(e := cramers_v(table)).low <= v <= e.high for table in draws]
    assert np.mean(covered) >= 0.92


# ---- shifts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [[[30, 2], [3, 25]], [[20, 1, 4], [2, 18, 5], [0, 3, 22]], [[40, 3, 1], [2, 9, 15]]])
def test_the_interval_of_v_holds_that_of_the_delta_method_with_a_numeric_gradient(table):
    counts = np.array(table) + max(np.shape(table)) / np.size(table)
    n, shape = counts.sum(), counts.shape

    def phi2(p):
        independent = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
        return (p**2 / independent).sum() - 1

    p, step = counts / n, 1e-6
    gradient = np.array([phi2(p + step * unit) - phi2(p - step * unit) for unit in np.eye(p.size).reshape(-1, *shape)])
    gradient /= 2 * step
    covariance = (np.diag(p.ravel()) - np.outer(p, p)) / n
    of_images = np.sum(table)
    side = min(k - (k - 1) ** 2 / (of_images - 1) for k in shape) - 1
    middle = math.sqrt((phi2(p) - (shape[0] - 1) * (shape[1] - 1) / (n - 1)) / side)
    error = math.sqrt(gradient @ covariance @ gradient) / (2 * math.sqrt(phi2(p) * side))
    low = max(0, middle - 1.959964 * error)
    high = min(1, middle * max(1 + 1.959964 * error / middle, math.exp(min(1, 1.959964 * error / middle))))
    assert intersection_module._delta_ends(np.array(table), side, 0.95) == pytest.approx((low, high), abs=1e-6)
    found = cramers_v(table)
    assert found.low <= low + 1e-6
    assert found.high >= high - 1e-6


def test_a_pair_of_rare_groups_never_seen_together_may_still_go_together():
    table = [[0, 5], [6, 89]]
    found = cramers_v(table)
    room = share_estimate(0, 100).high * 100
    fuller = np.array([[room, 5], [6, 89]])
    phi2 = stats.chi2_contingency(fuller, correction=False).statistic / fuller.sum()
    side = 2 - 1 / 99 - 1
    assert found.value == 0
    assert found.high == pytest.approx(math.sqrt((phi2 - 1 / (fuller.sum() - 1)) / side), rel=1e-9)
    assert found.high > 0.3


def test_the_shift_is_the_mean_total_variation_of_the_prompts():
    before = [np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, -1])]
    after = [np.array([0, 1, 1, 1, 1]), np.array([1, 1, 1, 0])]
    tables = [tables_of(b, a, 2)[0] for b, a in zip(before, after, strict=True)]
    expected = [
        fairness.total_variation((0.4, 0.6), (0.2, 0.8)),
        fairness.total_variation((2 / 3, 1 / 3), (0.25, 0.75)),
    ]
    assert attribute_shift(tables)[0] == pytest.approx(np.mean(expected))


def test_floor_and_p_value_are_those_of_every_swap():
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


def test_an_arm_that_changes_no_image_has_neither_shift_nor_floor():
    same = np.array([0, 1, 1, 0, -1])
    assert attribute_shift(tables_of(same, same, 2)) == (0, 0, 1)


def test_pairs_are_counted_prompt_by_prompt():
    tables = pair_tables([0, 1, -1, 1], [1, 1, 0, -1], [2, 0, 0, 2], 3, 2)
    assert tables.tolist() == [
        [[0, 0, 0], [0, 1, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
    ]


def test_many_prompts_are_swapped_less_often_and_tell_the_same(monkeypatch):
    rng = np.random.default_rng(6)
    before, after = rng.integers(0, 2, (2, 40 * 10))
    tables = pair_tables(before, after, np.repeat(np.arange(40), 10), 40, 2)
    often = attribute_shift(tables)
    monkeypatch.setattr(intersection_module, "SWAPPED_TABLES", 0)
    seldom = attribute_shift(tables)
    assert seldom[0] == often[0]
    assert seldom[1] == pytest.approx(often[1], rel=0.02)
    assert seldom[2] == pytest.approx(often[2], abs=4 * math.sqrt(0.25 / 999))
    assert seldom[2] * 1000 == pytest.approx(round(seldom[2] * 1000))  # of 999 swaps and the arms as they are


def test_chance_alone_is_called_a_shift_as_rarely_as_the_p_value_says():
    rng = np.random.default_rng(5)
    arms = rng.integers(0, 3, (150, 2, 2, 16))  # two prompts of 16 images, no change between the arms
    p_values = [
        attribute_shift(np.concatenate([tables_of(b, a, 3) for b, a in zip(*run, strict=True)]))[2] for run in arms
    ]
    assert (np.array(p_values) <= 0.1).sum() <= stats.binom.ppf(0.999, 150, 0.1)


def test_the_matrix_tells_the_edited_attribute_from_the_others():
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
    assert on_age.value == 0 < on_age.floor  # the same ages, dealt to other images
    assert on_age.p_value == 1
    assert shifts == shift_matrix({"gender": gender, "age": age}, {"balanced": edited}, prompts, (GENDER, AGE))


def test_a_prompt_without_a_classified_image_in_an_arm_is_left_out():
    shifts = shift_matrix(
        {"gender": [0, 1, -1, -1], "age": [-1] * 4},
        {"arm": {"gender": [1, 1, 0, 0], "age": [0] * 4}},
        [0, 0, 1, 1],
        (GENDER, AGE),
    )
    assert [(shift.attribute, shift.value, shift.prompts, shift.pairs) for shift in shifts] == [("gender", 0.5, 1, 2)]


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cross_table([0, 1], [0], (2, 2)), "same images"),
        (lambda: cross_table([0, 2], [0, 1], (2, 2)), "from -1 to 1"),
        (lambda: cells_alone([[0, 0, 0], [0, 0, 0]], (GENDER, AGE)), "at least one image"),
        (lambda: cells_alone([[1, 2], [3, 4]], (GENDER, AGE)), r"\(2, 3\), found \(2, 2\)"),
        (lambda: dependence([3, 4]), "two attributes"),
        (lambda: cramers_v([[3, 0], [4, 0]]), "none empty"),
        (lambda: pair_tables([0], [0, 1], [0], 1, 2), "same images in both arms"),
        (lambda: attribute_shift(tables_of([-1], [0], 2)), "no prompt has a classified image"),
        (lambda: attribute_shift([[1, 2]]), "square table"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
