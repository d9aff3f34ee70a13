"""Means over prompts weigh prompts alike and know how much prompts, and their images, leave open."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.intervals import mean_interval
from audit.measure.over_prompts import change_over_prompts, mean_over_prompts


def test_the_overall_figure_weighs_prompts_alike_and_speaks_of_prompts():
    values = np.random.default_rng(7).normal(0.3, 0.1, 9)
    assert mean_over_prompts(values, 0.9) == mean_interval(values, 0.9)
    assert mean_over_prompts(values).n == 9


def test_the_change_over_prompts_is_the_paired_t_test_of_scipy_where_nothing_is_skewed():
    rng = np.random.default_rng(8)
    before, half = rng.normal(0.3, 0.2, 11), rng.normal(0.1, 0.2, 5)
    after = before - 0.05 + np.concatenate([half, -half, [0.0]])
    expected = stats.ttest_rel(after, before)
    interval = expected.confidence_interval(0.9)
    found = change_over_prompts(before, after, 0.9)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high, found.n) == (pytest.approx(interval.low), pytest.approx(interval.high), 11)


def test_few_prompts_are_spoken_of_alone_by_what_their_images_leave_open():
    before, after, errors = np.array([0.4, 0.1, 0.0]), np.array([0.1, 0.0, 0.02]), np.array([0.03, 0.04, 0.0])
    found = change_over_prompts(before, after, 0.9, errors)
    error = 0.05 / 3
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.9, found.value, error))
    assert (found.standard_error, found.p_value) == pytest.approx((error, 2 * stats.norm.sf(-found.value / error)))
    mean = mean_over_prompts(after - before, 0.9, errors)
    assert (mean.low, mean.high) == (found.low, found.high)
    assert mean_over_prompts(after - before, 0.9).high > 0.1


@pytest.mark.parametrize(("change", "p_value"), [(0.0, 1.0), (0.125, 0.0)])
def test_prompts_that_agree_leave_no_doubt_and_no_division_by_zero(change, p_value):
    found = change_over_prompts(np.zeros(4), np.full(4, change))
    assert (found.low, found.high, found.p_value) == (change, change, p_value)


def test_an_overall_figure_of_one_prompt_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 values"):
        mean_over_prompts([0.2])
    with pytest.raises(ValueError, match="same prompts"):
        change_over_prompts([0.2, 0.1], [0.2])
