"""Intervals agree with SciPy's, have their nominal coverage, and refuse empty samples."""

import numpy as np
import pytest
from scipy import optimize, stats

from audit.measure.inference.intervals import mean_interval, mean_p_value, share_estimate, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 8), (0, 20), (20, 20), (57, 64), (500, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_the_score_interval_of_scipy(successes, n, confidence):
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    estimate = wilson(successes, n, confidence)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert estimate.low <= estimate.value <= estimate.high
    assert (estimate.value, estimate.n) == (successes / n, n)


def test_wilson_has_about_its_nominal_coverage_for_a_skewed_share():
    n, share = 64, 0.9
    successes = np.arange(n + 1)
    covered = [(e := wilson(int(s), n)).low <= share <= e.high for s in successes]
    assert 0.93 <= stats.binom.pmf(successes, n, share)[covered].sum() <= 0.975


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 4)])
@pytest.mark.parametrize("interval", [wilson, share_estimate])
def test_impossible_counts_are_refused(interval, successes, n):
    with pytest.raises(ValueError, match="got"):
        interval(successes, n)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 8), (3, 8), (8, 8), (0, 20), (57, 64), (2, 500)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_a_share_is_the_union_of_wilsons_and_the_exact_mid_p_interval(successes, n, confidence):
    found, score, tail = (
        share_estimate(successes, n, confidence),
        wilson(successes, n, confidence),
        (1 - confidence) / 2,
    )

    def mid_p(share):
        """Return the mid-P probability of at least as many successes."""
        tie = stats.binom.pmf(successes, n, share) / 2
        return stats.binom.sf(successes, n, share) + tie, stats.binom.cdf(successes, n, share) - tie

    for end, side in ((found.low, 0), (found.high, 1)):
        outside = mid_p(end)[side] <= tail + 1e-9
        assert outside or end in (0.0, 1.0)
    assert found.low <= score.low <= found.value <= score.high <= found.high
    inside = np.linspace(found.low, found.high, 99)[1:-1]
    kept = [min(mid_p(share)) > tail or score.low <= share <= score.high for share in inside]
    assert all(kept)


@pytest.mark.parametrize(("n", "least"), [(8, 0.92), (20, 0.928), (50, 0.93), (500, 0.94)])
def test_the_coverage_is_close_to_its_level_even_for_rare_groups(n, least):
    shares = np.concatenate([np.geomspace(1e-4, 0.02, 50), np.linspace(0.02, 0.5, 97)])
    ends = np.array([(found.low, found.high) for found in (share_estimate(k, n) for k in range(n + 1))])
    chances = stats.binom.pmf(np.arange(n + 1), n, shares[:, None])
    held = (ends[:, 0] <= shares[:, None]) & (shares[:, None] <= ends[:, 1])
    assert (chances * held).sum(axis=1).min() >= least
    score = np.array([(found.low, found.high) for found in (wilson(k, n) for k in range(n + 1))])
    rare = (score[:, 0] <= shares[:, None]) & (shares[:, None] <= score[:, 1])
    assert (chances * rare).sum(axis=1).min() < 0.87


def test_the_mean_of_symmetric_values_has_the_t_interval_and_test_of_scipy():
    half = np.random.default_rng(1).normal(0.1, 0.1, 8)
    values = 0.05 + np.concatenate([half, -half, [0.0]])
    expected = stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    estimate = mean_interval(values)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (estimate.value, estimate.n) == (pytest.approx(0.05), 17)
    assert mean_p_value(values) == pytest.approx(expected.pvalue, rel=1e-9)


def halls_statistic(mean, values):
    """Hall's (1992) statistic of the values for a hypothetical mean, equation by equation."""
    n, skewness = len(values), stats.skew(values)
    w = np.sqrt(n) * (values.mean() - mean) / values.std(ddof=1) / np.sqrt(n)
    return np.sqrt(n) * (w + skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / (6 * n))


def test_for_skewed_values_it_includes_all_means_not_rejected_by_halls_statistic():
    values = np.random.default_rng(2).exponential(size=12)
    t = stats.t.ppf(0.975, 11)
    refused = [optimize.brentq(lambda mean, end=end: halls_statistic(mean, values) - end, -20, 20) for end in (t, -t)]
    plain = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    estimate = mean_interval(values)
    assert estimate.low == pytest.approx(min(plain.low, refused[0]), rel=1e-9)
    assert estimate.high == pytest.approx(max(plain.high, refused[1]), rel=1e-9)
    assert estimate.high > plain.high + 0.1


@pytest.mark.parametrize("shift", [-1.9, -1.2, -0.6, -0.2, 0.3])
def test_its_p_value_is_the_level_at_which_the_interval_just_excludes_zero(shift):
    values = np.random.default_rng(3).exponential(size=9) + shift
    p_value = mean_p_value(values)
    inner, outer = (mean_interval(values, 1 - p) for p in (p_value * 1.001, p_value * 0.999))
    assert inner.low > 0 or inner.high < 0
    assert outer.low <= 0 <= outer.high


def test_the_mean_of_a_few_skewed_values_is_covered_better_than_by_students_interval():
    samples = np.random.default_rng(4).exponential(size=(2000, 16))
    found = [mean_interval(row) for row in samples]
    plain = stats.ttest_1samp(samples, 0, axis=1).confidence_interval(0.95)
    assert np.mean([one.low <= 1 <= one.high for one in found]) >= 0.94
    assert np.mean((plain.low <= 1) & (plain.high >= 1)) < 0.92


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_mean_interval_refuses_samples_without_a_variance(values):
    with pytest.raises(ValueError, match="values"):
        mean_interval(values)
