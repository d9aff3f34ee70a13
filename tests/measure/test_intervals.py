"""Intervals agree with SciPy's own, cover the truth as often as they say, and refuse to speak of nothing."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.intervals import mean_interval, share_estimate, wilson


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
@pytest.mark.parametrize("interval", [wilson, share_estimate])
def test_impossible_counts_are_refused(interval, successes, n):
    with pytest.raises(ValueError, match="got"):
        interval(successes, n)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 8), (3, 8), (8, 8), (0, 20), (57, 64), (2, 500)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_a_share_is_the_union_of_wilson_s_and_the_exact_mid_p_one(successes, n, confidence):
    found, score, tail = (
        share_estimate(successes, n, confidence),
        wilson(successes, n, confidence),
        (1 - confidence) / 2,
    )

    def mid_p(share):
        """Chance of more successes than found, and of at least as many as found, at half the weight of the tie."""
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
def test_no_share_is_held_much_less_often_than_promised_however_rare_the_group(n, least):
    shares = np.concatenate([np.geomspace(1e-4, 0.02, 50), np.linspace(0.02, 0.5, 97)])
    ends = np.array([(found.low, found.high) for found in (share_estimate(k, n) for k in range(n + 1))])
    chances = stats.binom.pmf(np.arange(n + 1), n, shares[:, None])
    held = (ends[:, 0] <= shares[:, None]) & (shares[:, None] <= ends[:, 1])
    assert (chances * held).sum(axis=1).min() >= least
    score = np.array([(found.low, found.high) for found in (wilson(k, n) for k in range(n + 1))])
    rare = (score[:, 0] <= shares[:, None]) & (shares[:, None] <= score[:, 1])
    assert (chances * rare).sum(axis=1).min() < 0.87


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
