"""Two stages cover the truth as often as one, and make fewer images where a share is far from a half."""

import itertools

import numpy as np
import pytest
from scipy import stats

from audit.measure.two_stage import (
    TwoStage,
    expected_images,
    fixed_images,
    saving,
    total_images,
    two_stage_interval,
)

DESIGN = TwoStage(pilot=32, half_width=0.1)


def simulated(design, share, times, seed):
    rng = np.random.default_rng(seed)
    found = {}
    for first in rng.binomial(design.pilot, share, size=times):
        n = total_images(design, int(first))
        key = int(first), int(first + rng.binomial(n - design.pilot, share))
        if key not in found:
            found[key] = [two_stage_interval(design, *key), 0]
        found[key][1] += 1
    return list(found.values())


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.35, 0.5, 0.93])
def test_the_interval_covers_the_truth_as_often_as_it_says(share):
    found = simulated(DESIGN, share, 1500, seed=int(100 * share))
    covered = sum(times for interval, times in found if interval.low <= share <= interval.high)
    assert covered / 1500 >= 0.95 - 0.012  # two standard errors


def test_a_tiny_design_covers_every_share_by_enumeration_of_all_that_can_happen():
    design = TwoStage(pilot=4, half_width=0.3, confidence=0.9)
    outcomes = []
    for first in range(5):
        rest = total_images(design, first) - 4
        outcomes += [
            (first, second, rest, two_stage_interval(design, first, first + second)) for second in range(rest + 1)
        ]
    assert len({rest for _, _, rest, _ in outcomes}) > 1
    for share in np.linspace(0.005, 0.995, 100):
        covered = sum(
            stats.binom.pmf(first, 4, share) * stats.binom.pmf(second, rest, share)
            for first, second, rest, interval in outcomes
            if interval.low <= share <= interval.high
        )
        assert covered >= 0.9 - 1e-9


def test_without_a_second_stage_it_is_the_interval_of_clopper_and_pearson():
    design = TwoStage(pilot=150, half_width=0.1)
    assert set(design.totals.tolist()) == {150}
    for successes in (0, 1, 40, 149, 150):
        expected = stats.binomtest(successes, 150).proportion_ci(0.95, method="exact")
        found = two_stage_interval(design, successes, successes)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
        assert (found.value, found.n) == (successes / 150, 150)


@pytest.mark.parametrize("half_width", [0.03, 0.05, 0.1])
def test_a_fixed_number_of_images_is_the_smallest_even_one_that_reaches_the_width_at_a_half(half_width):
    n = fixed_images(half_width)

    def width(images):
        found = stats.binomtest(images // 2, images).proportion_ci(0.95, method="exact")
        return (found.high - found.low) / 2

    assert width(n) <= half_width < width(n - 2)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_the_target_width_is_reached_on_average(share):
    found = simulated(DESIGN, share, 300, seed=9)
    mean = sum(times * (interval.high - interval.low) / 2 for interval, times in found) / 300
    assert mean <= 1.02 * DESIGN.half_width


def test_skewed_shares_need_fewer_images_and_a_half_costs_none_more():
    design = TwoStage(pilot=64, half_width=0.05)
    found = {share: saving(design, share) for share in (0.02, 0.05, 0.2, 0.5)}
    assert found[0.02] > 0.6
    assert found[0.05] > found[0.2] > found[0.5] >= 0
    assert found[0.2] == pytest.approx(1 - expected_images(design, 0.2) / fixed_images(0.05))


def test_expected_images_are_the_mean_over_the_pilots():
    weights = stats.binom.pmf(np.arange(33), 32, 0.3)
    expected = sum(w * total_images(DESIGN, k) for k, w in enumerate(weights))
    assert expected_images(DESIGN, 0.3) == pytest.approx(expected)


def test_a_pilot_without_a_success_does_not_pass_for_certainty():
    assert total_images(DESIGN, 0) > DESIGN.pilot / 2
    assert TwoStage(10, 0.05).totals[0] > 60


def test_more_successes_never_lower_the_interval():
    ends = [two_stage_interval(DESIGN, 4, k) for k in range(4, total_images(DESIGN, 4) - 28)]
    for before, after in itertools.pairwise(ends):
        assert (before.low, before.high) <= (after.low, after.high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TwoStage(1, 0.1), "at least 2 images"),
        (lambda: TwoStage(8, 0.5), "half-width"),
        (lambda: TwoStage(8, 0.1, 1.0), "confidence"),
        (lambda: fixed_images(0.0), "half-width"),
        (lambda: total_images(DESIGN, 33), "0 to 32 successes in the pilot"),
        (lambda: two_stage_interval(DESIGN, 4, 3), "found 4 and -1"),
        (lambda: two_stage_interval(DESIGN, 0, 900), "after it"),
        (lambda: expected_images(DESIGN, 1.5), "share"),
    ],
)
def test_what_no_design_can_give_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
