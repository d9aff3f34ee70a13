"""Changes of shares agree with published tables and brute force, and their intervals have their nominal coverage."""

import itertools

import numpy as np
import pytest
from scipy.special import gammaln, xlogy

from audit.measure.shares.changes import (
    fisher_p_value,
    mcnemar_p_value,
    paired_share_difference,
    paired_share_errors,
    two_sample_share_difference,
)


def pairs(both, left, joined, neither):
    """Return pairs with these counts: in the group both times, only before, only after, never."""
    before = np.repeat([True, True, False, False], (both, left, joined, neither))
    after = np.repeat([True, False, True, False], (both, left, joined, neither))
    return before, after


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Method 10 of Newcombe 1998 (Statistics in Medicine 17:2635); the second are the airway data in Fagerland,
        # Lydersen and Laake 2014 (ibid. 33:2850).
        ((36, 12, 2, 0), -0.3404, -0.0569),
        ((1, 1, 7, 12), 0.026, 0.507),
    ],
)
def test_the_paired_interval_equals_the_published_one(table, low, high):
    estimate = paired_share_difference(*pairs(*table))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-4)
    assert (estimate.value, estimate.n) == (pytest.approx((table[2] - table[1]) / sum(table)), sum(table))


@pytest.mark.parametrize(
    ("second", "first", "low", "high"),
    [  # The examples of Newcombe 1998 (Statistics in Medicine 17:873), method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_two_sample_interval_equals_the_published_one(second, first, low, high):
    estimate = two_sample_share_difference(*first, *second)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("n", "least"), [(6, 0.88), (10, 0.91)])
def test_the_paired_interval_covers_every_table_of_shares_when_all_outcomes_are_counted(n, least):
    outcomes = np.array([t for t in itertools.product(range(n + 1), repeat=4) if sum(t) == n])
    estimates = [paired_share_difference(*pairs(*outcome)) for outcome in outcomes]
    low, high = np.array([(e.low, e.high) for e in estimates]).T
    orders = gammaln(n + 1) - gammaln(outcomes + 1).sum(axis=1)
    coverage = []
    for heads in itertools.product(np.linspace(0.02, 0.96, 9), repeat=3):
        if sum(heads) < 1:
            shares = np.array([*heads, 1 - sum(heads)])
            difference = shares[2] - shares[1]
            weights = np.exp(orders + xlogy(outcomes, shares).sum(axis=1))
            coverage.append(weights[(low <= difference) & (difference <= high)].sum())
    assert min(coverage) > least
    assert 0.945 < np.mean(coverage) < 0.975


def test_the_paired_interval_exists_and_contains_its_value_in_every_small_table():
    for table in itertools.product(range(4), repeat=4):
        if sum(table):
            estimate = paired_share_difference(*pairs(*table))
            assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert estimate.high - estimate.low > 0.05


@pytest.mark.parametrize("table", [(5, 3, 0, 4), (5, 3, 1, 4), (0, 6, 6, 0), (9, 1, 8, 2)])
def test_mcnemars_p_value_equals_the_enumeration_of_discordant_pairs(table):
    left, joined = table[1], table[2]
    turns = np.array([sum(t) for t in itertools.product((0, 1), repeat=left + joined)])
    extreme = np.abs(turns - (left + joined) / 2) >= abs(joined - left) / 2
    assert mcnemar_p_value(*pairs(*table)) == pytest.approx(extreme.mean())


def test_without_a_discordant_pair_there_is_no_evidence():
    assert mcnemar_p_value(*pairs(5, 0, 0, 3)) == 1.0


def test_fishers_p_value_equals_the_enumeration_of_permutations():
    k1, n1, k2, n2 = 1, 5, 5, 6
    labels = np.array([1] * (k1 + k2) + [0] * (n1 + n2 - k1 - k2))
    drawn = np.array([labels[list(own)].sum() for own in itertools.combinations(range(n1 + n2), n1)])
    shares = {k: (drawn == k).mean() for k in range(n1 + 1)}
    expected = sum(share for share in shares.values() if share <= shares[k1] * (1 + 1e-9))
    assert fisher_p_value(k1, n1, k2, n2) == pytest.approx(expected)


def test_the_standard_error_of_a_paired_share_equals_its_standard_deviation():
    joint = np.array([[0.5, 0.1, 0.05], [0.02, 0.2, 0.03], [0.0, 0.0, 0.1]])
    tables = np.random.default_rng(10).multinomial(80, joint.ravel(), size=6000).reshape(-1, 3, 3)
    changes = (tables.sum(axis=1) - tables.sum(axis=2)) / 80
    estimate = np.sqrt((paired_share_errors(tables) ** 2).mean(axis=0))
    assert estimate == pytest.approx(changes.std(axis=0), rel=0.08)
    assert (paired_share_errors(np.diag([5, 0, 0])[None]) > 0).all()  # five unchanged images do not give an error of 0


@pytest.mark.parametrize("function", [paired_share_difference, mcnemar_p_value])
def test_pairs_must_be_pairs_of_yes_or_no(function):
    with pytest.raises(ValueError, match="at least 1 pair"):
        function(np.array([], bool), np.array([], bool))
    with pytest.raises(ValueError, match="same images"):
        function(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="true or false"):
        function(np.array([1.0]), np.array([0.0]))


@pytest.mark.parametrize(("k1", "n1", "k2", "n2"), [(0, 0, 1, 2), (1, 2, 3, 2), (-1, 2, 0, 2)])
def test_impossible_counts_are_refused(k1, n1, k2, n2):
    for function in (two_sample_share_difference, fisher_p_value):
        with pytest.raises(ValueError, match=r"got|found"):
            function(k1, n1, k2, n2)
