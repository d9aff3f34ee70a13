"""Fairness discrepancy equals closed forms, has its documented maximum, and a noise floor equal to brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from audit.measure.discrepancy import fairness


def one_hot(counts):
    return np.repeat(np.eye(len(counts)), counts, axis=0)


@pytest.mark.parametrize("groups", [2, 3, 4, 7])
def test_a_single_group_reaches_the_documented_maximum(groups):
    target = fairness.uniform(groups)
    alone = one_hot([5] + [0] * (groups - 1))
    assert fairness.soft_plug_in(alone, target) == pytest.approx(math.sqrt(1 - 1 / groups))
    assert fairness.maximum(target) == pytest.approx(math.sqrt(1 - 1 / groups))


def test_the_maximum_of_an_uneven_target_is_at_its_rarest_group():
    target = (0.7, 0.2, 0.1)
    by_group = [fairness.hard_plug_in(one_hot(counts), target) for counts in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]
    assert fairness.maximum(target) == pytest.approx(max(by_group)) == pytest.approx(by_group[2])


def test_an_80_20_split_scores_0_424():
    assert fairness.hard_plug_in(one_hot([80, 20]), (0.5, 0.5)) == pytest.approx(0.3 * math.sqrt(2))


def test_soft_and_hard_differ_for_an_uncertain_judge():
    unsure = [[0.6, 0.4]] * 10
    assert fairness.soft_plug_in(unsure, (0.5, 0.5)) == pytest.approx(0.1 * math.sqrt(2))
    assert fairness.hard_plug_in(unsure, (0.5, 0.5)) == pytest.approx(math.sqrt(0.5))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=5).filter(any), st.randoms(use_true_random=False))
def test_the_discrepancy_does_not_depend_on_the_order_of_images_or_groups(counts, random):
    rows, target = one_hot(counts), np.arange(1, len(counts) + 1) / sum(range(1, len(counts) + 1))
    order = random.sample(range(len(counts)), len(counts))
    value = fairness.hard_plug_in(rows, target)
    assert fairness.hard_plug_in(rows[::-1][:, order], target[order]) == pytest.approx(value)
    assert 0 <= value <= fairness.maximum(target) + 1e-12


@pytest.mark.parametrize(("n", "target"), [(1, (0.5, 0.5)), (6, (0.3, 0.7)), (5, (0.2, 0.3, 0.5)), (4, (0.25,) * 4)])
def test_expectation_at_parity_equals_brute_force_over_every_sequence_of_draws(n, target):
    expected = 0.0
    for draw in itertools.product(range(len(target)), repeat=n):
        shares = np.bincount(draw, minlength=len(target)) / n
        expected += math.prod(target[group] for group in draw) * float(np.linalg.norm(shares - target))
    assert fairness.expected_at_parity(n, target) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("groups", "simulated"),
    [
        (2, {8: 0.193, 20: 0.125, 50: 0.079, 100: 0.056, 500: 0.025}),
        (4, {8: 0.285, 20: 0.180, 50: 0.113, 100: 0.079, 500: 0.036}),
        (7, {8: 0.318, 20: 0.199, 50: 0.127, 100: 0.089, 500: 0.040}),
    ],
)
def test_expectation_at_parity_agrees_with_a_simulated_noise_floor(groups, simulated):
    target = fairness.uniform(groups)
    found = {n: fairness.expected_at_parity(n, target) for n in simulated}
    assert found == pytest.approx(simulated, abs=2.5e-3)  # this value is exact for small n, the simulation is not


@pytest.mark.parametrize("groups", [3, 4, 7])
def test_expectation_at_parity_tends_to_the_mean_of_a_chi_distribution(groups):
    limit = stats.chi(groups - 1).mean() / math.sqrt(groups * 2000)
    assert fairness.expected_at_parity(2000, fairness.uniform(groups)) == pytest.approx(limit, rel=0.01)


def test_simulation_and_enumeration_agree_at_the_limit():
    target = fairness.uniform(4)
    exact, simulated = fairness.expected_at_parity(104, target), fairness.expected_at_parity(105, target)
    assert math.comb(107, 3) <= fairness.ENUMERATED_OUTCOMES < math.comb(108, 3)
    assert simulated == pytest.approx(exact * math.sqrt(104 / 105), rel=0.008)


def test_total_variation_is_the_largest_difference_over_sets_of_groups():
    p, q = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.2, 0.4, 0.3, 0.1])
    subsets = (s for size in range(5) for s in itertools.combinations(range(4), size))
    assert fairness.total_variation(p, q) == pytest.approx(
        max(abs(p[list(s)].sum() - q[list(s)].sum()) for s in subsets)
    )


@pytest.mark.parametrize(
    ("rows", "target", "message"),
    [
        (np.zeros((0, 2)), (0.5, 0.5), "no image"),
        ([[0.5, 0.5]], (0.2, 0.3, 0.5), "one column per group"),
        ([[0.5, 0.2]], (0.5, 0.5), "softmax"),
        ([[0.5, 0.5]], (0.5, 0.6), "sum to 1"),
        ([[1.0]], (1.0,), "at least 2 groups"),
    ],
)
def test_an_invalid_distribution_is_refused(rows, target, message):
    with pytest.raises(ValueError, match=message):
        fairness.soft_plug_in(rows, target)


def test_the_noise_floor_without_images_is_refused():
    with pytest.raises(ValueError, match="at least 1 image"):
        fairness.expected_at_parity(0, (0.5, 0.5))
