"""Every measure equals SciPy's, its interval covers the truth for any n, and its ideal is the value of the target."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from audit.measure.discrepancy import fairness
from audit.measure.discrepancy.group_measures import (
    MEASURES,
    MOST_GROUPS,
    SIMULATED_SAMPLES,
    expected_at_target,
    group_measures,
    share_region,
)
from audit.measure.inference.intervals import share_estimate

UNEVEN = (0.5, 0.3, 0.2)


def value(name, counts, target):
    return MEASURES[name].of(counts, target).value


def outcomes(n, groups):
    """Return all counts of n images, (m, K)."""
    return [c for c in itertools.product(range(n + 1), repeat=groups) if sum(c) == n]


@pytest.mark.parametrize(("counts", "target"), [((7, 2, 1), UNEVEN), ((9, 1), (0.5, 0.5)), ((4, 0, 3, 1), (0.25,) * 4)])
def test_entropies_and_divergences_are_those_of_scipy(counts, target):
    p, groups = np.array(counts) / sum(counts), len(counts)
    assert value("normalised_entropy", counts, target) == pytest.approx(stats.entropy(p, base=groups))
    assert value("effective_groups", counts, target) == pytest.approx(math.exp(stats.entropy(p)))
    assert value("kl_divergence", counts, target) == pytest.approx(stats.entropy(p, target))
    assert value("jensen_shannon", counts, target) == pytest.approx(jensenshannon(p, target) ** 2)
    assert value("total_variation", counts, target) == pytest.approx(fairness.total_variation(p, target))


def test_differences_and_ratios_have_their_closed_forms():
    assert value("share_difference", (2, 8), (0.5, 0.5)) == pytest.approx(
        -0.6
    )  # for two groups the sign shows which share is larger
    assert value("share_difference", (2, 3, 5), UNEVEN) == pytest.approx(0.3)
    assert value("share_ratio", (2, 3, 5), UNEVEN) == pytest.approx(0.4)
    assert value("share_ratio", (0, 5), (0.5, 0.5)) == 0


def test_the_four_fifths_ratio_compares_selection_rates():
    # 48 of 300 and 12 of 200 applicants are selected: rates of 16 % and 6 %.
    found = MEASURES["four_fifths_ratio"].of((48, 12), (0.6, 0.4))
    assert found.value == pytest.approx(0.06 / 0.16)
    assert MEASURES["four_fifths_ratio"].caveat == "a rule of thumb of US hiring law, not a legal finding here"
    assert value("four_fifths_ratio", (3, 5), (0.5, 0.5)) == value("share_ratio", (3, 5), (0.5, 0.5))


@pytest.mark.parametrize("target", [(0.5, 0.5), (0.7, 0.3), UNEVEN, (0.25,) * 4])
def test_shares_equal_to_the_target_have_the_ideal_value(target):
    counts = np.round(np.array(target) * 20).astype(int)
    for name, found in group_measures(counts, target).items():
        assert found.value == pytest.approx(found.ideal, abs=1e-12), name
        assert found.low <= found.ideal <= found.high, name


def test_ideals_for_a_uniform_target_are_the_usual_ones():
    ideals = {name: found.ideal for name, found in group_measures((1, 2, 3, 4), (0.25,) * 4).items()}
    assert ideals == pytest.approx(
        {
            "share_difference": 0,
            "share_ratio": 1,
            "four_fifths_ratio": 1,
            "normalised_entropy": 1,
            "total_variation": 0,
            "kl_divergence": 0,
            "jensen_shannon": 0,
            "effective_groups": 4,
        }
    )


@pytest.mark.parametrize("counts", [(0, 7), (3, 4), (0, 0, 9), (2, 3, 4), (25, 0, 30, 9)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_region_of_shares_is_given_by_simultaneous_reported_intervals(counts, confidence):
    region, n, groups = share_region(counts, confidence), sum(counts), len(counts)
    each = confidence if groups == 2 else 1 - (1 - confidence) / groups
    printed = [share_estimate(k, n, each) for k in counts]
    assert region.low.tolist() == [one.low for one in printed]
    assert region.high.tolist() == [one.high for one in printed]


@pytest.mark.parametrize("counts", [(5, 4, 3), (0, 0, 10), (11, 1, 0), (2, 0, 30)])
@pytest.mark.parametrize("target", [(1 / 3,) * 3, UNEVEN, (0.05, 0.9, 0.05), (0.6, 0.4, 0.0)])
def test_intervals_equal_the_range_over_the_region_by_brute_force(counts, target):
    region = share_region(counts)
    steps = np.linspace(0, 1, 161)
    first, second = np.meshgrid(
        region.low[0] + steps * (region.high[0] - region.low[0]),
        region.low[1] + steps * (region.high[1] - region.low[1]),
    )
    points = np.stack([first.ravel(), second.ravel(), 1 - first.ravel() - second.ravel()], axis=-1)
    points = points[(points[:, 2] >= region.low[2]) & (points[:, 2] <= region.high[2])]
    for name, found in group_measures(counts, target).items():
        values = MEASURES[name].function(points, np.array(target))
        assert found.low - 1e-9 <= values.min(), name
        assert values.max() <= found.high + 1e-9, name
        # The grid is close to both ends, so the interval is not too wide.
        assert (values.min(), values.max()) == pytest.approx((found.low, found.high), abs=0.06), name


@pytest.mark.parametrize("target", [(0.25,) * 4, (0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 0.0, 0.0)])
@pytest.mark.parametrize(("counts", "unknown"), [((6, 2, 0, 1), 0), ((6, 2, 0, 1), 5), ((0, 0, 9, 3), 11)])
def test_bounds_include_all_assignments_of_unknown_images(counts, unknown, target):
    total = sum(counts) + unknown
    every = (np.array(counts) + outcomes(unknown, 4)) / total
    for name, measure in MEASURES.items():
        if measure.defined_for(np.array(target)):
            values, found = measure.function(every, np.array(target)), measure.bounds(counts, unknown, target)
            assert found.low - 1e-12 <= values.min(), name
            assert values.max() <= found.high + 1e-12, name
            # Assignments of whole images are close to the ends.
            near = 6 / total if unknown else 1e-9
            assert (values.min(), values.max()) == pytest.approx((found.low, found.high), abs=near), name


def coverage(n, truth):
    """Return the coverage of each measure's interval at ``truth``, summed over all outcomes."""
    target = fairness.uniform(len(truth))
    covered = dict.fromkeys(MEASURES, 0.0)
    for counts in outcomes(n, len(truth)):
        weight = stats.multinomial.pmf(counts, n, truth)
        for name, found in group_measures(counts, target).items():
            real = float(MEASURES[name].function(np.array(truth), np.array(target)))
            covered[name] += weight * (found.low - 1e-9 <= real <= found.high + 1e-9)
    return covered


@pytest.mark.parametrize("truth", [(0.5, 0.5), (0.51, 0.49), (0.7, 0.3), (0.97, 0.03), (0.995, 0.005)])
@pytest.mark.parametrize("n", [1, 9])
def test_two_groups_are_covered_at_parity_and_up_to_the_limits(n, truth):
    assert min(coverage(n, truth).values()) >= 0.93


@pytest.mark.parametrize("truth", [(1 / 3,) * 3, (0.6, 0.3, 0.1), (0.98, 0.01, 0.01)])
def test_three_groups_are_covered_jointly(truth):
    assert min(coverage(6, truth).values()) >= 0.95


def test_a_group_without_images_has_an_interval():
    found = group_measures((64, 0), (0.5, 0.5))
    assert found["share_ratio"].low == 0
    assert found["share_ratio"].high == pytest.approx(0.0566 / 0.9434, abs=5e-4)  # Wilson: z² / (64 + z²) = 0.0566
    assert found["effective_groups"].high > 1.2
    assert found["kl_divergence"].low < found["kl_divergence"].high == pytest.approx(math.log(2))


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=5).filter(any),
    st.randoms(use_true_random=False),
)
def test_the_measures_do_not_depend_on_the_order_of_groups(counts, random):
    target = np.arange(1, len(counts) + 1) / sum(range(1, len(counts) + 1))
    order = random.sample(range(len(counts)), len(counts))
    for name in ("share_ratio", "total_variation", "kl_divergence", "normalised_entropy"):
        here = MEASURES[name].of(counts, target)
        there = MEASURES[name].of(np.array(counts)[order], target[order])
        assert (there.value, there.low, there.high) == pytest.approx((here.value, here.low, here.high), abs=1e-9)
        assert here.low <= here.value <= here.high


def test_higher_confidence_never_gives_a_narrower_interval():
    for name, measure in MEASURES.items():
        estimates = [measure.of((9, 3, 1), UNEVEN, confidence) for confidence in (0.8, 0.95, 0.999)]
        assert estimates[2].low <= estimates[1].low <= estimates[0].low, name
        assert estimates[0].high <= estimates[1].high <= estimates[2].high, name


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_the_expectation_at_the_target_is_the_mean_over_every_outcome(name):
    target, n = np.array(UNEVEN), 6
    every = np.array(outcomes(n, 3))
    weights = stats.multinomial.pmf(every, n, target)
    values = MEASURES[name].function(every / n, target)
    mean = (weights * values).sum()
    spread = math.sqrt((weights * (values - mean) ** 2).sum())
    assert expected_at_target(n, UNEVEN)[name] == pytest.approx(mean, abs=4.5 * spread / math.sqrt(SIMULATED_SAMPLES))


def test_a_target_with_a_share_of_0_omits_undefined_measures():
    target = (0.5, 0.5, 0.0)
    missing = set(MEASURES) - set(group_measures((5, 5, 1), target))
    assert missing == {"kl_divergence", "four_fifths_ratio"}
    with pytest.raises(ValueError, match="undefined for a target with a share of 0"):
        MEASURES["kl_divergence"].of((5, 5, 1), target)


@pytest.mark.parametrize(
    ("counts", "target", "message"),
    [
        ((0, 0), (0.5, 0.5), "no image"),
        ((1.5, 2), (0.5, 0.5), "integers"),
        ((-1, 2), (0.5, 0.5), "integers"),
        ((1, 2, 3), (0.5, 0.5), "one count per group"),
        ((1, 2), (0.5, 0.6), "sum to 1"),
        ([1] * (MOST_GROUPS + 1), [1 / (MOST_GROUPS + 1)] * (MOST_GROUPS + 1), "2 to 12 groups"),
    ],
)
def test_invalid_counts_and_targets_are_refused(counts, target, message):
    with pytest.raises(ValueError, match=message):
        group_measures(counts, target)


def test_a_confidence_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        MEASURES["share_ratio"].of((1, 2), (0.5, 0.5), confidence=95)
