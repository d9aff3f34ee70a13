"""A common association within prompts is detected, and differences between prompts are not."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import contingency

from audit.measure.attributes.within_prompts import dependence_within, rough_p_values

NURSES, FIREFIGHTERS = np.array([[36, 4], [9, 1]]), np.array([[1, 9], [4, 36]])
"""Each table is independent, but the pooled table looks dependent."""


def independent(rng, prompts, images, rows=2, columns=3):
    """Tables of prompts with different shares, in all of which the attributes are independent."""
    tables = []
    for _ in range(prompts):
        shares = np.outer(rng.dirichlet([2] * rows), rng.dirichlet([2] * columns))
        tables.append(rng.multinomial(images, shares.ravel()).reshape(rows, columns))
    return np.array(tables)


def test_prompts_with_different_shares_do_not_look_dependent():
    found = dependence_within([NURSES, FIREFIGHTERS])
    assert found.p_value == pytest.approx(1)
    assert (found.cramers_v.value, found.cramers_v.n) == (0, 2)
    assert contingency.chi2_contingency(NURSES + FIREFIGHTERS).pvalue < 1e-5


def test_2_by_2_tables_give_the_statistic_of_mantel_and_haenszel():
    tables = np.array([[[12, 5], [3, 9]], [[4, 8], [1, 7]], [[10, 2], [6, 6]]])
    n = tables.sum(axis=(1, 2))
    row, column = tables[:, 0].sum(axis=1), tables[:, :, 0].sum(axis=1)
    draws = stats.hypergeom(n, row, column)
    expected = (tables[:, 0, 0] - draws.mean()).sum() ** 2 / draws.var().sum()
    found = dependence_within(tables)
    assert found.statistic == pytest.approx(expected)
    assert found.p_value == pytest.approx(stats.chi2.sf(expected, 1))


def test_an_association_too_weak_for_one_prompt_is_detected_over_many():
    weak = np.array([[9, 6], [6, 9]])
    assert stats.chi2_contingency(weak, correction=False).pvalue > 0.2
    assert dependence_within([weak] * 20).p_value < 1e-4


def test_a_group_without_images_does_not_use_a_degree_of_freedom():
    tables = np.array([[[9, 2], [1, 7]], [[6, 3], [2, 8]]])
    padded = np.concatenate([tables, np.zeros((2, 2, 1), dtype=int)], axis=2)
    found, same = dependence_within(tables), dependence_within(padded)
    assert same.p_value == pytest.approx(found.p_value)
    assert same.cramers_v == found.cramers_v


def test_opposite_associations_cancel_in_the_test_but_not_in_the_effect_size():
    found = dependence_within([[[30, 10], [10, 30]], [[10, 30], [30, 10]]])
    assert found.p_value == pytest.approx(1)
    assert found.cramers_v.value == pytest.approx(math.sqrt((0.25 - 1 / 79) / (1 - 1 / 79)))


@pytest.mark.parametrize(("prompts", "images"), [(2, 8), (6, 12), (40, 8)])
def test_the_test_over_prompts_keeps_its_level(prompts, images):
    rng = np.random.default_rng(5)
    tests = [dependence_within(independent(rng, prompts, images)) for _ in range(600)]
    p_values = np.array([1.0 if found is None else found.p_value for found in tests])
    for level in (0.01, 0.05, 0.2):
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 600)


def test_the_interval_of_v_covers_the_root_mean_square_of_the_prompts():
    rng, strengths = np.random.default_rng(8), np.linspace(0.1, 0.5, 30)
    truth = np.array([[1 + v, 1 - v, 1 - v, 1 + v] for v in strengths]) / 4
    covered = 0
    for _ in range(300):
        tables = np.array([rng.multinomial(40, p).reshape(2, 2) for p in truth])
        v = dependence_within(tables).cramers_v
        covered += v.low <= math.sqrt(np.mean(strengths**2)) <= v.high
    assert covered / 300 >= 0.92


def test_approximate_p_values_equal_scipys_g_test_and_are_nan_without_a_test():
    table = [[12, 5, 3], [3, 9, 4]]
    rough = rough_p_values([table, [[4, 2, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    exact = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue
    assert rough[0] == pytest.approx(exact)
    assert np.isnan(rough[1:]).all()


@pytest.mark.parametrize("tables", [np.zeros((0, 2, 2)), [NURSES], [[[3, 2], [0, 0]], [[1, 4], [0, 0]]]])
def test_without_two_prompts_with_both_attributes_there_is_no_test(tables):
    assert dependence_within(tables) is None
