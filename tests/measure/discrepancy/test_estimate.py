"""The debiased square is unbiased, the interval has its nominal coverage, and both equal brute force if possible."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy import estimate as discrepancy
from audit.measure.discrepancy import fairness
from audit.measure.discrepancy.samples import Samples

PARITY = {groups: np.full(groups, 1 / groups) for groups in (2, 3, 4, 7)}


def outcomes(n, groups):
    """Return all vectors of counts, by brute force."""
    heads = itertools.product(range(n + 1), repeat=groups - 1)
    return np.array([(*head, n - sum(head)) for head in heads if sum(head) <= n])


def one_hot(counts):
    return np.repeat(np.eye(len(counts)), counts, axis=0)


def exact_coverage(n, shares, target):
    """Return the coverage of the interval of n labels from ``shares``, over all relevant outcomes."""
    counts = outcomes(n, len(shares))
    counts = counts[stats.multinomial.pmf(counts, n, shares) > 1e-9]
    truth = np.linalg.norm(np.subtract(shares, target))
    intervals = discrepancy.discrepancy_intervals(Samples.of_counts(counts), target)
    held = (intervals[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= intervals[:, 1])
    return float(stats.multinomial.pmf(counts, n, shares)[held].sum())


def exact_misses(n, shares, target, confidence, *, each_tail=True):
    """Return the probabilities that the interval is below and above the truth, over all relevant outcomes."""
    counts = outcomes(n, len(shares))
    chances = stats.multinomial.pmf(counts, n, shares)
    counts, chances = counts[chances > 1e-8], chances[chances > 1e-8]
    truth = np.linalg.norm(np.subtract(shares, target))
    samples = Samples.of_counts(counts)
    low, high = discrepancy.discrepancy_intervals(samples, target, confidence, each_tail=each_tail).T
    return float(chances[high < truth - 1e-9].sum()), float(chances[low > truth + 1e-9].sum())


@pytest.mark.parametrize(
    ("n", "shares", "target"),
    [
        (2, (0.5, 0.5), (0.5, 0.5)),
        (7, (0.9, 0.1), (0.3, 0.7)),
        (6, (0.6, 0.3, 0.1), (1 / 3,) * 3),
        (5, (0.25,) * 4, (0.25,) * 4),
    ],
)
def test_the_debiased_square_is_unbiased_over_every_outcome(n, shares, target):
    counts = outcomes(n, len(shares))
    estimates = [discrepancy.debiased_squared_of_counts(row, target) for row in counts]
    truth = ((np.array(shares) - target) ** 2).sum()
    assert stats.multinomial.pmf(counts, n, shares) @ estimates == pytest.approx(truth, abs=1e-12)


def test_the_debiased_square_of_soft_rows_is_unbiased_over_every_sample():
    kinds, chances = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]]), np.array([0.5, 0.3, 0.2])
    target = (0.2, 0.3, 0.5)
    expected = sum(
        chances[list(sample)].prod() * discrepancy.debiased_squared(kinds[list(sample)], target)
        for sample in itertools.product(range(3), repeat=4)
    )
    assert expected == pytest.approx(((chances @ kinds - target) ** 2).sum(), abs=1e-12)


@pytest.mark.parametrize("counts", [[2, 0], [3, 5], [1, 1, 1], [9, 0, 2, 4], [0, 1, 2, 3, 4, 5, 6]])
def test_counts_and_one_hot_rows_are_the_same_sample(counts):
    target = np.arange(1, len(counts) + 1) / sum(range(1, len(counts) + 1))
    rows = one_hot(counts)
    assert discrepancy.debiased_squared(rows, target) == pytest.approx(
        discrepancy.debiased_squared_of_counts(counts, target), abs=1e-14
    )
    (ends,) = discrepancy.discrepancy_intervals(Samples.one(rows), target)
    assert tuple(ends) == discrepancy.discrepancy_interval_of_counts(counts, target)


def test_the_debiased_square_equals_the_mean_over_pairs_of_different_images():
    rows, target = np.random.default_rng(1).dirichlet(np.ones(4), size=9), PARITY[4]
    pairs = [(a - target) @ (b - target) for a, b in itertools.permutations(rows, 2)]
    assert discrepancy.debiased_squared(rows, target) == pytest.approx(np.mean(pairs), abs=1e-14)


def test_a_balanced_sample_has_a_negative_square_and_is_displayed_as_zero():
    squared = discrepancy.debiased_squared_of_counts([5, 5], (0.5, 0.5))
    assert squared == pytest.approx(-0.5 / 9)
    assert discrepancy.display(squared) == 0
    assert discrepancy.display(0.09) == pytest.approx(0.3)


@pytest.mark.parametrize("target", [0.5, 0.3])
def test_two_groups_have_the_folded_exact_interval_of_scipy(target):
    for n, count in [(1, 0), (8, 0), (8, 5), (20, 20), (20, 13), (64, 20), (2000, 1204)]:
        share = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
        ends = np.abs(np.array([share.low, share.high]) - target)
        nearest = 0.0 if share.low <= target <= share.high else ends.min()
        found = discrepancy.discrepancy_interval_of_counts([count, n - count], (target, 1 - target))
        assert found == pytest.approx((math.sqrt(2) * nearest, math.sqrt(2) * ends.max()), abs=1e-9)


@pytest.mark.parametrize("target", [0.5, 0.2])
def test_the_coverage_for_two_groups_is_never_below_its_level(target):
    shares = (0.02, 0.1, 0.2, 0.286, 0.4, 0.5, 0.77, 0.98)
    covered = [exact_coverage(n, (p, 1 - p), (target, 1 - target)) for n in (8, 20, 50, 100) for p in shares]
    assert min(covered) >= 0.95
    assert np.mean(covered) <= 0.985


TRUTHS_OF_THREE = [(1 / 3,) * 3, (0.47, 0.27, 0.26), (0.64, 0.26, 0.1), (0.96, 0.02, 0.02), (0.49, 0.49, 0.02)]


@pytest.mark.parametrize("target", [(1 / 3,) * 3, (0.7, 0.2, 0.1)])
@pytest.mark.parametrize("n", [8, 20])
def test_three_groups_are_covered_at_parity_and_away_from_it(n, target):
    covered = [exact_coverage(n, shares, target) for shares in [target, *TRUTHS_OF_THREE]]
    assert covered[0] >= 0.95  # at parity the test is exact
    assert min(covered) >= (0.92 if n == 8 else 0.93)
    assert np.mean(covered) <= 0.99


def test_four_groups_are_covered_with_eight_images():
    truths = [(0.25,) * 4, (0.4, 0.2, 0.2, 0.2), (0.616, 0.246, 0.099, 0.039), (0.94, 0.02, 0.02, 0.02)]
    assert min(exact_coverage(8, shares, PARITY[4]) for shares in truths) >= 0.93


@pytest.mark.parametrize(
    ("groups", "n", "samples"), [(4, 60, 600), (7, 20, 500)]
)  # too many outcomes for enumeration: weighted samples
@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_many_groups_are_covered_beyond_enumeration(groups, n, samples, tilt):
    shares = (1 - tilt) * PARITY[groups] + tilt * np.eye(groups)[0]
    truth = np.linalg.norm(shares - PARITY[groups])
    drawn = np.random.default_rng(2).multinomial(n, shares, size=samples)
    # An even target does not tell groups apart, so samples with the same numbers in another order have one interval.
    kinds, times = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    low, high = discrepancy.discrepancy_intervals(Samples.of_counts(kinds), PARITY[groups]).T
    covered = times[(low <= truth + 1e-9) & (truth <= high)].sum() / samples
    assert 0.92 <= covered <= 0.99


@pytest.mark.parametrize(
    ("n", "target"), [(12, (1 / 3,) * 3), (8, (0.25,) * 4), (9, (0.2, 0.3, 0.5)), (6, (1 / 7,) * 7)]
)
def test_the_interval_starts_at_zero_exactly_if_parity_is_not_rejected(n, target):
    rejections = 0
    for row in outcomes(n, len(target))[:: 1 if n != 6 else 7]:
        low, _ = discrepancy.discrepancy_interval_of_counts(row, target)
        rejected = discrepancy.parity_p_value(row, target) <= 0.05
        assert (low > 0) == rejected
        rejections += rejected
    assert rejections


def test_without_enumeration_it_starts_at_zero_if_parity_is_not_rejected():
    rng = np.random.default_rng(4)
    rows = rng.multinomial(80, (0.16,) * 6 + (0.04,), size=40)
    decisions = [
        (discrepancy.discrepancy_interval_of_counts(row, PARITY[7])[0] > 0, discrepancy.parity_p_value(row, PARITY[7]))
        for row in rows
    ]
    assert all(positive == (p <= 0.05) for positive, p in decisions)
    assert {positive for positive, _ in decisions} == {True, False}


@pytest.mark.parametrize(("n", "target"), [(5, (0.2, 0.3, 0.5)), (4, (0.25,) * 4)])
def test_the_p_value_is_the_probability_of_a_sample_at_least_as_far(n, target):
    samples = list(itertools.product(range(len(target)), repeat=n))
    chances = np.array([math.prod(target[group] for group in sample) for sample in samples])
    shares = np.array([np.bincount(sample, minlength=len(target)) / n for sample in samples])
    distances = np.linalg.norm(shares - target, axis=1)
    for row in outcomes(n, len(target)):
        expected = chances[distances >= np.linalg.norm(row / n - target) - 1e-12].sum()
        assert discrepancy.parity_p_value(row, target) == pytest.approx(expected, rel=1e-9)


def test_two_groups_have_the_exact_binomial_test():
    assert discrepancy.parity_p_value([9, 1], (0.5, 0.5)) == pytest.approx(22 / 1024)
    assert discrepancy.parity_p_value([5, 5], (0.5, 0.5)) == 1
    assert discrepancy.parity_p_value([3, 0], (0.9, 0.1)) == pytest.approx(1)


def test_simulated_p_values_agree_with_exact_ones_and_are_never_zero(monkeypatch):
    rows = [[7, 7, 6], [10, 6, 4], [12, 5, 3], [14, 3, 3]]
    exact = [discrepancy.parity_p_value(row, PARITY[3]) for row in rows]
    monkeypatch.setattr(discrepancy, "TESTED_OUTCOMES", 0)
    discrepancy._parity_distribution.cache_clear()
    simulated = [discrepancy.parity_p_value(row, PARITY[3]) for row in rows]
    hopeless = discrepancy.parity_p_value([20, 0, 0], PARITY[3])
    discrepancy._parity_distribution.cache_clear()
    assert simulated == pytest.approx(exact, abs=0.011)
    assert simulated != exact
    assert hopeless == 1 / (discrepancy.TESTED_SAMPLES + 1)


@pytest.mark.parametrize("others", [0, 10**6])  # by moments, and by weighted samples
def test_approximate_intervals_agree_with_those_of_all_outcomes(monkeypatch, others):
    rows = [[14, 13, 13], [20, 12, 8], [30, 8, 2], [39, 1, 0], [20, 20, 0]]
    exact = np.array([discrepancy.discrepancy_interval_of_counts(row, PARITY[3]) for row in rows])
    monkeypatch.setattr(discrepancy, "INVERTED_OUTCOMES", 0)
    monkeypatch.setattr(discrepancy, "FEW_OTHERS", others)
    for cached in (discrepancy._interval_of_sorted, discrepancy._test_of_sorted):
        cached.cache_clear()
    found = np.array([discrepancy.discrepancy_interval_of_counts(row, PARITY[3]) for row in rows])
    for cached in (discrepancy._interval_of_sorted, discrepancy._test_of_sorted):
        cached.cache_clear()
    assert np.abs(found - exact).max() <= 0.0225  # a quarter of the distance's standard error, 0.09
    assert (found != exact).any()


@pytest.mark.parametrize("target", [(1 / 3,) * 3, (0.2, 0.3, 0.5)])
@pytest.mark.parametrize("shares", [(1 / 3,) * 3, (0.6, 0.3, 0.1), (0.96, 0.02, 0.02)])
def test_moments_of_the_squared_distance_equal_brute_force(shares, target):
    n = 30
    counts = outcomes(n, 3)
    weights = stats.multinomial.pmf(counts, n, shares)
    squared = ((counts / n - target) ** 2).sum(axis=1)
    mean = weights @ squared
    deviation = math.sqrt(weights @ (squared - mean) ** 2)
    skewness = weights @ (squared - mean) ** 3 / deviation**3
    found = discrepancy.squared_distance_moments(np.array([shares]), np.array(target), n)
    assert [float(value[0]) for value in found[:2]] == pytest.approx([mean, deviation], rel=1e-9)
    assert float(found[2][0]) == pytest.approx(skewness, abs=0.25)  # leading terms only


def test_far_from_parity_with_many_images_it_equals_the_delta_method():
    n, shares = 20_000, np.array([0.6, 0.25, 0.1, 0.05])
    away = shares - PARITY[4]
    distance = np.linalg.norm(away)
    variance = away @ (np.diag(shares) - np.outer(shares, shares)) @ away / distance**2 / n
    expected = distance + np.array([-1, 1]) * stats.norm.ppf(0.975) * math.sqrt(variance)
    found = discrepancy.discrepancy_interval_of_counts(shares * n, PARITY[4])
    assert found == pytest.approx(expected, abs=0.1 * math.sqrt(variance))


@pytest.mark.parametrize("counts", [[7, 2, 1], [30, 9, 20, 1], [3, 2, 2, 0, 0, 0, 1]])
def test_names_of_groups_do_not_matter(counts):
    rng = np.random.default_rng(5)
    target = np.array([0.5, *[0.5 / (len(counts) - 1)] * (len(counts) - 1)])
    order = rng.permutation(len(counts))
    shuffled = np.array(counts)[order], target[order]
    expected = discrepancy.discrepancy_interval_of_counts(counts, target)
    assert discrepancy.discrepancy_interval_of_counts(*shuffled) == pytest.approx(expected, abs=1e-12)
    assert discrepancy.parity_p_value(*shuffled) == pytest.approx(discrepancy.parity_p_value(counts, target), abs=0.01)


@pytest.mark.parametrize("groups", [2, 3, 4, 7])
@pytest.mark.parametrize("n", [1, 8, 300])
def test_the_interval_is_in_the_possible_range_and_includes_the_estimate(groups, n):
    rng = np.random.default_rng(6)
    furthest = fairness.maximum(PARITY[groups])
    for shares in rng.dirichlet(np.full(groups, 0.7), size=6):
        counts = rng.multinomial(n, shares)
        low, high = discrepancy.discrepancy_interval_of_counts(counts, PARITY[groups])
        assert 0 <= low < high <= furthest + 1e-12
        if n > 1:
            estimate = discrepancy.display(discrepancy.debiased_squared_of_counts(counts, PARITY[groups]))
            assert low <= estimate <= high


@pytest.mark.parametrize("target", [(1 / 3,) * 3, (0.2, 0.3, 0.5)])
def test_a_sample_with_one_group_includes_the_largest_distance(target):
    for counts in ([8, 0, 0], [200, 0, 0]):
        low, high = discrepancy.discrepancy_interval_of_counts(counts, target)
        assert high == pytest.approx(fairness.maximum(target))
        assert 0.3 < low < high


@pytest.mark.parametrize("counts", [[5, 4], [9, 3, 1], [30, 20, 10, 10]])
def test_higher_confidence_gives_a_wider_interval(counts):
    target = PARITY[len(counts)]
    ends = [discrepancy.discrepancy_interval_of_counts(counts, target, level) for level in (0.8, 0.95, 0.99)]
    assert sorted(ends, key=lambda interval: interval[1] - interval[0]) == ends
    assert ends[0][1] < ends[2][1]


def test_wrong_passes_keep_their_rate_if_one_group_dominates_the_target():
    target, truth, n, limit = (0.02, 0.03, 0.95), (0.069, 0.013, 0.918), 61, 0.0604
    assert np.linalg.norm(np.subtract(truth, target)) > limit
    counts = outcomes(n, 3)
    chances = stats.multinomial.pmf(counts, n, truth)
    kept = chances > 1e-5
    samples = Samples.of_counts(counts[kept])
    for gates, before in (
        (1, 0.079),
        (8, 0.079),
    ):  # regression: 48 % of audits with eight such gates passed one wrongly
        high = discrepancy.discrepancy_intervals(samples, target, 1 - 0.05 / gates, each_tail=True)[:, 1]
        passed = float(chances[kept][high <= limit].sum())
        assert passed <= 0.025 / gates < before
    assert exact_coverage(n, truth, target) >= 0.95  # regression: it was .886


UNEVEN = [(0.05, 0.05, 0.9), (0.02, 0.03, 0.95), (0.05, 0.15, 0.8)]


@pytest.mark.parametrize(
    ("shares", "target"),
    [
        ((0.0, 0.15, 0.85), UNEVEN[0]),
        ((0.15, 0.01, 0.84), UNEVEN[2]),
        ((0.069, 0.013, 0.918), UNEVEN[1]),
        ((0.3, 0.3, 0.4), UNEVEN[0]),
    ],
)
def test_each_end_keeps_its_error_rate_for_uneven_targets_and_high_confidence(shares, target):
    for confidence in (0.95, 1 - 0.05 / 8, 0.9995):
        # A small tolerance above the error rate, because the farthest distribution is searched only on some rays.
        assert max(exact_misses(37, shares, target, confidence)) <= 1.25 * (1 - confidence) / 2


def test_the_interval_includes_the_exact_interval_of_a_single_group():
    share = stats.binomtest(4, 37).proportion_ci(1 - 0.05 / 8, method="exact").high
    nearest = np.linalg.norm([share - 0.05, -0.15, 1 - share - 0.8])  # nearest distribution without the second group
    assert nearest >= 0.316
    _, high = discrepancy.discrepancy_interval_of_counts([4, 0, 33], (0.05, 0.15, 0.8), 1 - 0.05 / 8)
    assert high >= nearest - 1e-3  # regression: it was .242


def test_the_upper_end_does_not_jump_if_all_images_show_the_group_with_the_largest_target():
    target = (0.05, 0.15, 0.8)
    ends = [discrepancy.discrepancy_interval_of_counts([k, 0, 1000 - k], target) for k in range(4)]
    assert ends[0] == pytest.approx((0.250, 0.255), abs=5e-4)  # regression: it was [.250, 1.251]
    for one, other in itertools.pairwise(ends):
        assert np.abs(np.subtract(one, other)).max() <= 0.003


@pytest.mark.parametrize(("n", "target"), [(12, (0.05, 0.15, 0.8)), (14, (1 / 3,) * 3), (60, (0.02, 0.03, 0.95))])
def test_a_higher_confidence_never_gives_a_narrower_interval(n, target):
    rows = outcomes(n, 3)[:: 1 if n < 20 else 37]
    for each_tail in (False, True):
        before = None
        for confidence in (0.5, 0.8, 0.9, 0.95, 0.97, 0.99, 0.99375, 0.995, 0.9975, 0.9995):
            found = discrepancy.discrepancy_intervals(Samples.of_counts(rows), target, confidence, each_tail=each_tail)
            if before is not None:
                assert (found[:, 0] <= before[:, 0] + 1e-4).all()
                assert (found[:, 1] >= before[:, 1] - 1e-4).all()
            before = found


@pytest.mark.parametrize("target", [0.5, 0.1, 0.9])
def test_for_two_groups_each_end_keeps_its_error_rate(target):
    for n in (9, 20, 61):
        for share in (0.02, 0.08, target, target + 0.01, 0.45, 0.55):
            goal = (target, 1 - target)
            assert max(exact_misses(n, (share, 1 - share), goal, 0.99)) <= 0.005 + 1e-9
            below = exact_misses(n, (share, 1 - share), goal, 0.99, each_tail=False)
            assert sum(below) <= 0.01 + 1e-9


def test_a_single_bound_starts_at_zero_if_half_of_the_level_does_not_reject_parity():
    for target in ((1 / 3,) * 3, (0.3, 0.7)):
        for row in outcomes(12, len(target)):
            low, _ = discrepancy.discrepancy_interval_of_counts(row, target, each_tail=True)
            assert (low > 0) == (discrepancy.parity_p_value(row, target) <= 0.025)


def test_near_parity_the_whole_level_is_used_for_samples_too_far():
    counts = [17, 7, 6]
    assert 0.025 < discrepancy.parity_p_value(counts, PARITY[3]) < 0.05
    low, _ = discrepancy.discrepancy_interval_of_counts(counts, PARITY[3])
    assert low > 0.02  # with half of the level it would start just above 0


def test_a_sample_that_is_too_even_has_the_interval_of_an_even_one():
    even = discrepancy.discrepancy_interval_of_counts([25, 25, 25, 25], PARITY[4])
    usual = discrepancy.discrepancy_interval_of_counts([28, 26, 24, 22], PARITY[4])
    assert even[0] == usual[0] == 0
    assert even[1] == pytest.approx(usual[1], rel=0.12)


def test_rows_of_probabilities_have_no_interval():
    with pytest.raises(ValueError, match="one-hot rows or counts"):
        discrepancy.discrepancy_intervals(Samples.one([[0.9, 0.1], [1, 0]]), (0.5, 0.5))


@pytest.mark.parametrize("rows", [np.zeros((0, 2)), [[0.5, 0.2]], [[0.2, 0.3, 0.5]]])
def test_invalid_rows_are_refused(rows):
    with pytest.raises(ValueError, match=r"no image|softmax|one column per group"):
        discrepancy.debiased_squared(rows, (0.5, 0.5))


@pytest.mark.parametrize(
    ("counts", "message"),
    [([0, 0], "no image"), ([1, 2, 3], "one per group"), ([1.5, 2], "whole"), ([-1, 2], "non-negative")],
)
def test_invalid_counts_are_refused(counts, message):
    functions = (
        discrepancy.debiased_squared_of_counts,
        discrepancy.discrepancy_interval_of_counts,
        discrepancy.parity_p_value,
    )
    for function in functions:
        with pytest.raises(ValueError, match=message):
            function(counts, (0.5, 0.5))


def test_a_single_image_cannot_be_debiased():
    with pytest.raises(ValueError, match="at least 2 images"):
        discrepancy.debiased_squared([[0.5, 0.5]], (0.5, 0.5))
    with pytest.raises(ValueError, match="at least 2 images"):
        discrepancy.debiased_squared_of_counts([0, 1], (0.5, 0.5))


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_no_share_is_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        discrepancy.discrepancy_interval_of_counts([1, 2], (0.5, 0.5), confidence)


def test_a_stratified_sample_is_debiased_by_its_strata():
    target, rng = np.array([0.5, 0.5]), np.random.default_rng(5)
    strata = ["female"] * 8 + ["male"] * 8
    shown = np.repeat([0.9, 0.2], 8)  # an edit that works better towards women than men: 55 % women
    truth = 2 * (shown.mean() - 0.5) ** 2
    found, alike = [], []
    for _ in range(4000):
        women = rng.random(16) < shown
        rows = np.stack([women, ~women], 1).astype(float)
        found.append(discrepancy.debiased_squared(rows, target, strata))
        alike.append(discrepancy.debiased_squared(rows, target))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3 * error
    assert np.mean(alike) < truth - 3 * error
    assert discrepancy.debiased_squared(rows, target, ["all"] * 16) == pytest.approx(alike[-1])
