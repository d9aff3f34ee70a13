"""AUC: its definition, DeLong's variance, and intervals that cover."""

import numpy as np
import pytest

from audit.dissect.honesty.auc import HeldOut, auc_of, held_out_auc, interval


def counted(values, positive):
    """The definition: share of pairs in which the positive image has the higher value."""
    pairs = values[positive][:, None] - values[~positive][None, :]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_auc_is_the_share_of_ordered_pairs_with_ties_counted_half():
    draws = np.random.default_rng(0)
    values, positive = draws.integers(0, 6, (60, 4)).astype(float), draws.random(60) < 0.4
    auc, influence = auc_of(values, positive)
    assert auc == pytest.approx([counted(column, positive) for column in values.T])
    assert influence.sum(0) == pytest.approx(0, abs=1e-12)


def test_the_squared_influences_are_the_variance_of_delong():
    draws = np.random.default_rng(1)
    aucs, variances = [], []
    for _ in range(400):
        positive = np.arange(80) < 30
        values = (draws.normal(size=80) + 0.8 * positive)[:, None]
        auc, influence = auc_of(values, positive)
        aucs.append(auc[0])
        variances.append((influence**2).sum())
    assert np.mean(variances) == pytest.approx(np.var(aucs), rel=0.2)


def test_images_of_one_noise_count_as_one():
    """With every image twice, the interval is that of the single images."""
    draws = np.random.default_rng(2)
    positive = draws.random(100) < 0.5
    values = (draws.normal(size=100) + positive)[:, None]
    everything = np.ones(1, dtype=bool)
    [single] = held_out_auc(values, positive, [HeldOut(np.ones(100, dtype=bool), everything)], np.arange(100))
    twice = np.repeat(np.arange(100), 2)
    [double] = held_out_auc(values[twice], positive[twice], [HeldOut(np.ones(200, dtype=bool), everything)], twice)
    assert (double.value, double.low, double.high) == pytest.approx((single.value, single.low, single.high))
    assert double.n == 200


def test_a_feature_is_tested_only_where_it_was_not_chosen():
    values, positive = np.array([[0.0], [1.0], [1.0], [0.0]]), np.array([False, True, False, True])
    first = np.array([True, True, False, False])
    clusters = np.arange(4)
    yes, no = np.ones(1, dtype=bool), np.zeros(1, dtype=bool)
    [found] = held_out_auc(values, positive, [HeldOut(first, yes), HeldOut(~first, no)], clusters)
    assert (found.value, found.high, found.n) == (1.0, 1.0, 2)
    assert held_out_auc(values, positive, [HeldOut(first, no)], clusters) == [None]


def test_intervals_cover_the_true_auc():
    from scipy.stats import norm

    truth, draws, covered = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(3), 0
    for _ in range(300):
        positive = np.arange(120) < 50
        values = (draws.normal(size=120) + positive)[:, None]
        halves = [HeldOut(np.ones(120, dtype=bool), np.ones(1, dtype=bool))]
        [found] = held_out_auc(values, positive, halves, np.arange(120))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 300 <= 0.98


def test_perfect_order_still_has_a_width():
    low, high = interval(1.0, 0.0, 40, 40)
    assert high == 1.0
    assert 0.9 < low < 1.0
    assert interval(0.0, 0.0, 40, 40) == pytest.approx((0.0, 1 - low))
    assert interval(0.5, 0.0, 40, 40) == pytest.approx((0.5, 0.5))
