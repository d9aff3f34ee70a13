"""Intervals agree with SciPy's own, cover the truth as often as they say, and refuse to speak of nothing."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.intervals import mean_interval, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 8), (0, 20), (20, 20), (57, 64), (500, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_the_score_interval_of_scipy(successes, n, confidence):
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    estimate = wilson(successes, n, confidence)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert estimate.low <= estimate.value <= estimate.high
    assert (estimate.value, estimate.n) == (successes / n, n)


def test_wilson_covers_a_skewed_share_about_as_often_as_it_says():
    n, share = 64, 0.9
    successes = np.arange(n + 1)
    covered = [(e := wilson(int(s), n)).low <= share <= e.high for s in successes]
    assert 0.93 <= stats.binom.pmf(successes, n, share)[covered].sum() <= 0.975


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="got"):
        wilson(successes, n)


def test_mean_interval_is_the_t_interval_of_scipy():
    values = np.random.default_rng(1).normal(0.3, 0.1, 17)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    estimate = mean_interval(values)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert (estimate.value, estimate.n) == (pytest.approx(values.mean()), 17)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_mean_interval_refuses_what_has_no_spread(values):
    with pytest.raises(ValueError, match="values"):
        mean_interval(values)
