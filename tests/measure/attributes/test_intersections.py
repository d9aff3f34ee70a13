"""Combinations of groups are counted, and a planted dependence of two attributes is detected."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import contingency

from audit.measure.attributes.contingency import RESAMPLES, cross_tables, expected_counts
from audit.measure.attributes.intersections import cells_of, dependence
from audit.measure.inference.intervals import share_estimate
from audit.records.attributes import Attribute

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


def g(table):
    """Return SciPy's G without a correction."""
    return stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic


def test_images_are_counted_by_combination_except_those_without_a_group():
    tables = cross_tables([0, 0, 1, -1, 1, 1], [2, 2, 0, 1, -1, 1], [0, 1, 1, 1, 2, 0], (3, 2, 3))
    assert tables.tolist() == [[[0, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_every_combination_has_a_cell_even_without_images():
    table = np.array([[30, 10, 0], [2, 8, 14]])
    cells = cells_alone(table, (GENDER, AGE))
    assert [cell.groups for cell in cells] == list(itertools.product(GENDER.groups, AGE.groups))
    assert sum(cell.share.value for cell in cells) == pytest.approx(1)
    assert cells[0].share == share_estimate(30, 64)
    assert [cell.expected for cell in cells] == pytest.approx(contingency.expected_freq(table).ravel().tolist())
    never = cells[2]
    assert (never.groups, never.count, never.share.low) == (("female", "old"), 0, 0)
    assert never.share.high > 0.05


def test_a_cell_is_small_only_if_observed_and_expected_counts_are_small():
    table = np.array([[40, 0], [2, 40], [9, 9]])
    small = {cell.groups: cell.small for cell in cells_alone(table, (AGE, GENDER))}
    assert small["young", "male"] is False  # none of the 20 expected: a finding
    assert small["adult", "female"] is False
    assert small["old", "female"] is True
    assert small["old", "male"] is True
    assert small["young", "female"] is False


def test_expected_counts_of_a_prompt_are_the_product_of_its_shares():
    tables = np.random.default_rng(0).integers(1, 9, (4, 2, 3))
    expected = expected_counts(tables)
    for table, awaited in zip(tables, expected, strict=True):
        assert awaited == pytest.approx(contingency.expected_freq(table))
    assert expected_counts(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("table", [[[12, 5], [3, 9]], [[9, 2, 4], [1, 7, 6]], [[5, 5, 1], [2, 8, 3], [0, 4, 9]]])
def test_the_statistic_equals_scipys_g(table):
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


def test_the_exact_test_of_independence_keeps_its_level():
    n, row, column = 20, 8, 11
    corner = np.arange(0, 9)
    tables = [[[k, row - k], [column - k, n - row - column + k]] for k in corner]
    p_values = np.array([dependence(table).p_value for table in tables])
    chances = stats.hypergeom(n, row, column).pmf(corner)
    for level in (0.01, 0.05, 0.2):
        assert chances[p_values <= level].sum() <= level


def test_a_planted_dependence_is_detected_with_both_attributes_at_parity():
    # Equal numbers of women and men and of young and old, but the women are young.
    found = dependence([[26, 6], [6, 26]])
    assert found.p_value < 1e-5
    assert found.cramers_v.low > 0.3
    assert dependence([[16, 16], [16, 16]]).p_value == pytest.approx(1)


def test_pooled_prompts_look_dependent_although_none_of_them_is():
    nurses, firefighters = np.array([[36, 4], [9, 1]]), np.array([[1, 9], [4, 36]])
    assert dependence(nurses).p_value == pytest.approx(1)
    assert dependence(firefighters).p_value == pytest.approx(1)
    assert dependence(nurses + firefighters).p_value < 1e-5


def test_an_attribute_with_a_single_group_has_no_test():
    assert dependence([[10, 5, 3], [0, 0, 0]]) is None


def test_a_group_without_images_does_not_change_the_test():
    assert dependence([[9, 2, 0], [1, 7, 0]]) == dependence([[9, 2], [1, 7]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cross_table([0, 1], [0], (2, 2)), "same images"),
        (lambda: cross_table([0, 2], [0, 1], (2, 2)), "from -1 to 1"),
        (lambda: cells_alone([[0, 0, 0], [0, 0, 0]], (GENDER, AGE)), "at least one image"),
        (lambda: cells_alone([[1, 2], [3, 4]], (GENDER, AGE)), r"\(2, 3\), found \(2, 2\)"),
        (lambda: dependence([3, 4]), "two attributes"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
