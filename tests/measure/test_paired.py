"""Changes agree with published tables and with brute force, and their intervals cover as often as they say."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, xlogy

from audit.measure.discrepancy import debiased_squared, debiased_squares, discrepancy_interval
from audit.measure.intervals import mean_interval
from audit.measure.paired import (
    change_over_prompts,
    discrepancy_change,
    fisher_p_value,
    mcnemar_p_value,
    mean_over_prompts,
    paired_share_difference,
    paired_share_errors,
    squared_errors,
    two_sample_discrepancy_change,
    two_sample_share_difference,
)
from audit.measure.samples import Samples


def pairs(both, left, joined, neither):
    """Pairs with these counts: in the group in both, before only, after only, in neither."""
    before = np.repeat([True, True, False, False], (both, left, joined, neither))
    after = np.repeat([True, False, True, False], (both, left, joined, neither))
    return before, after


def one_hot(rng, n, shares):
    return np.eye(len(shares))[rng.choice(len(shares), n, p=shares)]


def soft(rng, n, shares):
    certainty = rng.beta(8, 2, (n, 1))
    return certainty * one_hot(rng, n, shares) + (1 - certainty) / len(shares)


def skewed(groups, largest):
    return (largest,) + ((1 - largest) / (groups - 1),) * (groups - 1)


def squared_distance(shares):
    return sum((share - 1 / len(shares)) ** 2 for share in shares)


def uniform(groups):
    return (1 / groups,) * groups


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Method 10 of Newcombe 1998 (Statistics in Medicine 17:2635); the second are the airway data in Fagerland,
        # Lydersen and Laake 2014 (ibid. 33:2850).
        ((36, 12, 2, 0), -0.3404, -0.0569),
        ((1, 1, 7, 12), 0.026, 0.507),
    ],
)
def test_the_paired_interval_is_the_published_one(table, low, high):
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
def test_the_two_sample_interval_is_the_published_one(second, first, low, high):
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


def test_swapping_the_arms_mirrors_every_change():
    rng = np.random.default_rng(1)
    before, after = soft(rng, 30, (0.7, 0.2, 0.1)), soft(rng, 30, (0.4, 0.3, 0.3))
    flags = before.argmax(1) == 0, after.argmax(1) == 0
    for there, back in (
        (paired_share_difference(*flags), paired_share_difference(*flags[::-1])),
        (discrepancy_change(before, after, uniform(3)), discrepancy_change(after, before, uniform(3))),
        (
            two_sample_discrepancy_change(before, after[:20], uniform(3)),
            two_sample_discrepancy_change(after[:20], before, uniform(3)),
        ),
    ):
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


@pytest.mark.parametrize("table", [(5, 3, 0, 4), (5, 3, 1, 4), (0, 6, 6, 0), (9, 1, 8, 2)])
def test_mcnemar_counts_every_way_in_which_the_discordant_pairs_could_have_turned(table):
    left, joined = table[1], table[2]
    turns = np.array([sum(t) for t in itertools.product((0, 1), repeat=left + joined)])
    extreme = np.abs(turns - (left + joined) / 2) >= abs(joined - left) / 2
    assert mcnemar_p_value(*pairs(*table)) == pytest.approx(extreme.mean())


def test_without_a_discordant_pair_there_is_no_evidence():
    assert mcnemar_p_value(*pairs(5, 0, 0, 3)) == 1.0


def test_fisher_p_value_counts_every_way_to_deal_the_labels():
    k1, n1, k2, n2 = 1, 5, 5, 6
    labels = np.array([1] * (k1 + k2) + [0] * (n1 + n2 - k1 - k2))
    drawn = np.array([labels[list(own)].sum() for own in itertools.combinations(range(n1 + n2), n1)])
    shares = {k: (drawn == k).mean() for k in range(n1 + 1)}
    expected = sum(share for share in shares.values() if share <= shares[k1] * (1 + 1e-9))
    assert fisher_p_value(k1, n1, k2, n2) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [one_hot, soft])
def test_the_change_is_the_mean_over_pairs_of_different_images(labels):
    rng = np.random.default_rng(2)
    before, after = labels(rng, 12, (0.6, 0.3, 0.1)), labels(rng, 12, (0.3, 0.3, 0.4))
    goal = np.array([0.5, 0.3, 0.2])
    inner = [
        (after[i] - goal) @ (after[j] - goal) - (before[i] - goal) @ (before[j] - goal)
        for i, j in itertools.permutations(range(12), 2)
    ]
    change = discrepancy_change(before, after, goal)
    assert change.value == pytest.approx(np.mean(inner))
    assert change.value == pytest.approx(debiased_squared(after, goal) - debiased_squared(before, goal))
    assert two_sample_discrepancy_change(before, after, goal).value == pytest.approx(change.value)


def test_the_standard_error_is_the_spread_of_the_change_over_repetitions():
    rng = np.random.default_rng(3)
    shared, changes = rng.uniform(size=(600, 100, 1)), []
    for quantiles in shared:  # the arms share their noise: an image that changes group does so for a reason
        before, after = np.hstack([quantiles < 0.8, quantiles >= 0.8]), np.hstack([quantiles < 0.6, quantiles >= 0.6])
        changes.append(discrepancy_change(before.astype(float), after.astype(float), (0.5, 0.5)))
    spread = np.std([change.value for change in changes])
    assert np.mean([change.standard_error for change in changes]) == pytest.approx(spread, rel=0.08)


def test_pairs_tell_more_than_two_samples_where_the_noise_is_shared():
    rng = np.random.default_rng(4)
    quantiles = rng.uniform(size=(64, 1))
    before, after = np.hstack([quantiles < 0.8, quantiles >= 0.8]), np.hstack([quantiles < 0.7, quantiles >= 0.7])
    rows = before.astype(float), after.astype(float)
    paired, apart = (change(*rows, (0.5, 0.5)) for change in (discrepancy_change, two_sample_discrepancy_change))
    assert paired.standard_error < 0.7 * apart.standard_error


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (uniform(2), uniform(2)),
        (uniform(4), uniform(4)),
        (skewed(2, 0.9), uniform(2)),
        (skewed(3, 0.97), skewed(3, 0.9)),
        (skewed(4, 0.6), uniform(4)),
        (skewed(2, 0.99), skewed(2, 0.6)),
    ],
)
@pytest.mark.parametrize("n", [12, 48])
def test_both_intervals_of_the_squared_discrepancy_cover_near_parity_and_far_from_it(before, after, n):
    rng, truth = np.random.default_rng(5), squared_distance(after) - squared_distance(before)
    inside = np.zeros(2)
    for _ in range(150):
        rows = one_hot(rng, n, before), one_hot(rng, n, after)
        for side, change in enumerate((discrepancy_change, two_sample_discrepancy_change)):
            found = change(*rows, uniform(len(before)))
            inside[side] += found.low <= truth <= found.high
    assert (inside / 150 >= 0.89).all()


def test_a_sample_that_shows_one_group_only_is_not_exact():
    rows = np.tile([1.0, 0.0], (8, 1))
    for change in (discrepancy_change, two_sample_discrepancy_change):
        found = change(rows, rows, (0.5, 0.5))
        assert found.value == 0
        assert found.p_value == 1
        assert found.high - found.low > 0.3


def test_an_exactly_even_sample_is_not_exact_either():
    rows = np.repeat(np.eye(2), 12, axis=0)
    found = two_sample_discrepancy_change(rows, rows[::2], (0.5, 0.5))
    assert found.p_value > 0.2
    assert found.low < 0 < found.high


def test_the_interval_excludes_no_change_exactly_where_the_p_value_says_so():
    rng = np.random.default_rng(6)
    for largest in np.linspace(0.5, 0.95, 25):
        rows = one_hot(rng, 40, (0.5, 0.5)), one_hot(rng, 40, (largest, 1 - largest))
        for change in (discrepancy_change, two_sample_discrepancy_change):
            found = change(*rows, (0.5, 0.5), 0.9)
            assert (found.p_value < 0.1) == (not found.low <= 0 <= found.high)


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


def lopsided(rng, n, groups):
    before = rng.choice(groups, size=n)
    return before, np.where(rng.random(n) < 0.5, 0, before)


def test_a_lopsided_change_of_eight_images_of_seven_groups_is_held():
    rng, even, groups = np.random.default_rng(5), np.full(7, 1 / 7), np.eye(7)
    shares = 0.5 * even + 0.5 * groups[0]
    truth = ((shares - even) ** 2).sum()
    held, agreed = 0, 0
    for _ in range(600):
        before, after = lopsided(rng, 8, 7)
        change = discrepancy_change(groups[before], groups[after], even)
        held += change.low <= truth <= change.high
        agreed += (change.p_value < 0.05) == (change.low > 0 or change.high < 0)
    assert agreed == 600
    assert held >= 0.95 * 600  # 0.91 by the t interval alone


def test_a_change_is_never_told_more_exactly_than_by_squaring_and_adding_both_arms():
    even, groups = np.full(3, 1 / 3), np.eye(3)
    before, after = groups[[0] * 7 + [1]], groups[[0] * 3 + [1] * 3 + [2] * 2]
    change = two_sample_discrepancy_change(before, after, even)
    (old, old_ends), (new, new_ends) = (
        (debiased_squared(rows, even), np.square(discrepancy_interval(rows, even))) for rows in (before, after)
    )
    below = np.hypot(max(0, new - new_ends[0]), old_ends[1] - old)
    above = np.hypot(new_ends[1] - new, max(0, old - old_ends[0]))
    assert change.value == pytest.approx(new - old)
    assert change.low <= change.value - below + 1e-12
    assert change.high >= change.value + above - 1e-12
    assert change.low == pytest.approx(change.value - below) or change.high == pytest.approx(change.value + above)


@pytest.mark.parametrize(("change", "p_value"), [(0.0, 1.0), (0.125, 0.0)])
def test_prompts_that_agree_leave_no_doubt_and_no_division_by_zero(change, p_value):
    found = change_over_prompts(np.zeros(4), np.full(4, change))
    assert (found.low, found.high, found.p_value) == (change, change, p_value)


@pytest.mark.parametrize(("shares", "most"), [((0.7, 0.2, 0.1), 1.1), ((0.9, 0.1), 1.15), ((0.4, 0.35, 0.25), 1.7)])
def test_the_error_of_a_square_is_how_much_it_varies_from_sample_to_sample(shares, most):
    counts = np.random.default_rng(9).multinomial(60, shares, size=6000)
    samples, even = Samples.of_counts(counts), np.full(len(shares), 1 / len(shares))
    varies, told = debiased_squares(samples, even).var(), (squared_errors(samples, even) ** 2).mean()
    assert 0.93 * varies < told < most * varies  # near the target it errs on the safe side


def test_the_error_of_a_paired_share_is_how_much_it_varies_from_sample_to_sample():
    joint = np.array([[0.5, 0.1, 0.05], [0.02, 0.2, 0.03], [0.0, 0.0, 0.1]])
    tables = np.random.default_rng(10).multinomial(80, joint.ravel(), size=6000).reshape(-1, 3, 3)
    changes = (tables.sum(axis=1) - tables.sum(axis=2)) / 80
    told = np.sqrt((paired_share_errors(tables) ** 2).mean(axis=0))
    assert told == pytest.approx(changes.std(axis=0), rel=0.08)
    assert (paired_share_errors(np.diag([5, 0, 0])[None]) > 0).all()  # five images that stayed prove no certainty


@pytest.mark.parametrize("function", [paired_share_difference, mcnemar_p_value])
def test_pairs_must_be_pairs_of_yes_or_no(function):
    with pytest.raises(ValueError, match="at least 1 pair"):
        function(np.array([], bool), np.array([], bool))
    with pytest.raises(ValueError, match="same images"):
        function(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="true or false"):
        function(np.array([1.0]), np.array([0.0]))


@pytest.mark.parametrize("function", [discrepancy_change, two_sample_discrepancy_change])
def test_a_squared_discrepancy_needs_two_images_in_either_sample(function):
    rows = np.eye(2)
    for before, after in ((rows[:0], rows[:0]), (rows[:1], rows[:1])):
        with pytest.raises(ValueError, match="image"):
            function(before, after, (0.5, 0.5))


def test_arms_without_the_same_images_are_no_pairs():
    with pytest.raises(ValueError, match="found 3 and 2"):
        discrepancy_change(np.eye(2)[[0, 1, 0]], np.eye(2), (0.5, 0.5))


@pytest.mark.parametrize(("k1", "n1", "k2", "n2"), [(0, 0, 1, 2), (1, 2, 3, 2), (-1, 2, 0, 2)])
def test_impossible_counts_are_refused(k1, n1, k2, n2):
    for function in (two_sample_share_difference, fisher_p_value):
        with pytest.raises(ValueError, match=r"got|found"):
            function(k1, n1, k2, n2)


def test_an_overall_figure_of_one_prompt_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 values"):
        mean_over_prompts([0.2])
    with pytest.raises(ValueError, match="same prompts"):
        change_over_prompts([0.2, 0.1], [0.2])
