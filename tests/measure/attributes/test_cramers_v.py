"""Association of two attributes, with an interval that covers it."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import contingency

from audit.measure.attributes.cramers_v import _delta_ends, cramers_v, squared_v
from audit.measure.attributes.intersections import dependence
from audit.measure.inference.intervals import share_estimate


def v_of(table):
    return dependence(table).cramers_v


@pytest.mark.parametrize("table", [[[12, 5], [3, 9]], [[19, 2, 4], [1, 17, 6]]])
def test_cramers_v_equals_scipys_with_bergsmas_correction(table):
    n, (rows, columns) = np.sum(table), np.shape(table)
    phi2 = contingency.association(table, method="cramer") ** 2 * (min(rows, columns) - 1)
    corrected = phi2 - (rows - 1) * (columns - 1) / (n - 1)
    side = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    found = v_of(table)
    assert found.value == pytest.approx(math.sqrt(corrected / side))
    assert found.low < found.value < found.high


def test_cramers_v_is_1_if_one_attribute_determines_the_other_and_0_at_independence():
    assert v_of([[20, 0], [0, 20]]).value == pytest.approx(1, abs=0.01)
    assert v_of([[20, 0], [0, 20]]).high == 1
    independent = v_of([[10, 10], [10, 10]])
    assert (independent.value, independent.low) == (0, 0)
    assert 0.2 < independent.high < 0.5


@pytest.mark.parametrize("v", [0.0, 0.2, 0.5])
def test_the_interval_of_cramers_v_has_about_its_nominal_coverage(v):
    truth = np.array([[1 + v, 1 - v], [1 - v, 1 + v]]).ravel() / 4  # its V is v
    draws = np.random.default_rng(3).multinomial(100, truth, size=300).reshape(-1, 2, 2)
    covered = [(e := v_of(table)).low <= v <= e.high for table in draws]
    assert np.mean(covered) >= 0.92


@pytest.mark.parametrize("table", [[[30, 2], [3, 25]], [[20, 1, 4], [2, 18, 5], [0, 3, 22]], [[40, 3, 1], [2, 9, 15]]])
def test_the_interval_of_v_includes_that_of_the_delta_method_with_a_numeric_gradient(table):
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
    assert _delta_ends(np.array(table), side, 0.95) == pytest.approx((low, high), abs=1e-6)
    found = v_of(table)
    assert found.low <= low + 1e-6
    assert found.high >= high - 1e-6


def test_two_rare_groups_never_observed_together_can_be_associated():
    table = [[0, 5], [6, 89]]
    found = v_of(table)
    room = share_estimate(0, 100).high * 100
    fuller = np.array([[room, 5], [6, 89]])
    phi2 = stats.chi2_contingency(fuller, correction=False).statistic / fuller.sum()
    side = 2 - 1 / 99 - 1
    assert found.value == 0
    assert found.high == pytest.approx(math.sqrt((phi2 - 1 / (fuller.sum() - 1)) / side), rel=1e-9)
    assert found.high > 0.3


def test_the_square_of_v_is_unbiased_under_independence_and_equals_that_of_a_single_table():
    rng = np.random.default_rng(2)
    squares = squared_v(rng.multinomial(12, [0.25] * 4, size=20_000).reshape(-1, 2, 2))
    shown = squares[~np.isnan(squares)]
    assert abs(shown.mean()) < 3 * shown.std() / math.sqrt(shown.size)
    table = [[19, 2, 4], [1, 17, 6]]
    assert math.sqrt(squared_v([table])[0]) == pytest.approx(v_of(table).value)


def test_the_interval_includes_0_if_independence_is_not_rejected():
    rare = [[1, 0], [0, 7]]  # p = 1/8 by Fisher's test, 1/200 by chi-squared
    assert stats.fisher_exact(rare).pvalue == pytest.approx(1 / 8)
    assert v_of(rare).low == 0 < cramers_v(rare, p_value=0.005).low
    for n in (6, 12, 30):
        tables = np.random.default_rng(n).multinomial(n, [0.1, 0.1, 0.1, 0.7], size=300).reshape(-1, 2, 2)
        found = [found for found in map(dependence, tables) if found is not None]
        assert all(one.cramers_v.low == 0 for one in found if one.p_value > 0.05)


@pytest.mark.parametrize("table", [[[3, 0], [4, 0]], [[3, 4]], [3, 4]])
def test_a_table_with_an_empty_side_is_refused(table):
    with pytest.raises(ValueError, match="none empty"):
        cramers_v(table, 0.5)
