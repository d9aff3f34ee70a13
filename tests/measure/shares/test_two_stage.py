"""Two stages have the coverage of one stage, and need fewer images for a share far from one half."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from audit.calibration.world import World
from audit.measure.shares.two_stage import (
    TwoStage,
    expected_images,
    fixed_images,
    images_to_make,
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
def test_the_interval_has_its_nominal_coverage(share):
    found = simulated(DESIGN, share, 1500, seed=int(100 * share))
    covered = sum(times for interval, times in found if interval.low <= share <= interval.high)
    assert covered / 1500 >= 0.95 - 0.012  # two standard errors


def test_a_small_design_covers_every_share_by_enumeration_of_all_outcomes():
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


def test_without_a_second_stage_it_equals_the_interval_of_clopper_and_pearson():
    design = TwoStage(pilot=150, half_width=0.1)
    assert set(design.totals.tolist()) == {150}
    for successes in (0, 1, 40, 149, 150):
        expected = stats.binomtest(successes, 150).proportion_ci(0.95, method="exact")
        found = two_stage_interval(design, successes, successes)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
        assert (found.value, found.n) == (successes / 150, 150)


@pytest.mark.parametrize("half_width", [0.03, 0.05, 0.1])
def test_a_fixed_number_of_images_is_the_smallest_even_one_for_the_width_at_one_half(half_width):
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


def test_skewed_shares_need_fewer_images_and_one_half_does_not_need_more():
    design = TwoStage(pilot=64, half_width=0.05)
    found = {share: saving(design, share) for share in (0.02, 0.05, 0.2, 0.5)}
    assert found[0.02] > 0.6
    assert found[0.05] > found[0.2] > found[0.5] >= 0
    assert found[0.2] == pytest.approx(1 - expected_images(design, 0.2) / fixed_images(0.05))


def test_expected_images_are_the_mean_over_the_pilots():
    weights = stats.binom.pmf(np.arange(33), 32, 0.3)
    expected = sum(w * total_images(DESIGN, k) for k, w in enumerate(weights))
    assert expected_images(DESIGN, 0.3) == pytest.approx(expected)


def test_a_pilot_without_successes_is_not_certain():
    assert total_images(DESIGN, 0) > DESIGN.pilot / 2
    assert TwoStage(10, 0.05).totals[0] > 60


def test_more_successes_never_lower_the_interval():
    ends = [two_stage_interval(DESIGN, 4, k) for k in range(4, total_images(DESIGN, 4) - 28)]
    for before, after in itertools.pairwise(ends):
        assert (before.low, before.high) <= (after.low, after.high)


def test_another_confidence_level_can_be_used_for_the_same_images():
    wide, usual = two_stage_interval(DESIGN, 4, 9, confidence=0.99), two_stage_interval(DESIGN, 4, 9)
    assert wide.n == usual.n == total_images(DESIGN, 4)
    assert wide.low < usual.low < usual.value < usual.high < wide.high
    one_stage = TwoStage(pilot=150, half_width=0.1)
    expected = stats.binomtest(40, 150).proportion_ci(0.99, method="exact")
    found = two_stage_interval(one_stage, 40, 40, confidence=0.99)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_limit_of_images_applies_after_every_pilot():
    bounded = replace(DESIGN, largest=60)
    assert max(bounded.totals) == bounded.single_stage == 60
    assert [total_images(bounded, 0), total_images(bounded, 16)] == [total_images(DESIGN, 0), 60]
    assert saving(bounded, 0.5) == pytest.approx(0, abs=1e-6)


def test_unclassified_images_are_replaced_at_the_rate_of_the_pilot():
    assert images_to_make(DESIGN, 32, 16) == total_images(DESIGN, 16)
    half = total_images(replace(DESIGN, pilot=16), 8)
    assert images_to_make(DESIGN, 16, 8) == 32 + 2 * (half - 16)
    assert images_to_make(replace(DESIGN, largest=90), 16, 8) == 90
    assert images_to_make(DESIGN, 1, 1) == images_to_make(DESIGN, 0, 0) == fixed_images(0.1)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_the_interval_covers_the_truth_if_a_tenth_is_unclassified(share):
    rng, covered, found = np.random.default_rng(7), 0, {}
    for _ in range(600):
        pilot = int(rng.binomial(DESIGN.pilot, 0.9))
        first = int(rng.binomial(pilot, share))
        second = int(rng.binomial(images_to_make(DESIGN, pilot, first) - DESIGN.pilot, 0.9))
        key = pilot, first, first + int(rng.binomial(second, share)), pilot + second
        if key not in found:
            found[key] = two_stage_interval(replace(DESIGN, pilot=pilot), *key[1:3], n=key[3])
        covered += found[key].low <= share <= found[key].high
    assert covered / 600 >= 0.95 - 0.018  # two standard errors


def test_a_single_stage_needs_1_4_times_as_many_images_for_the_planted_occupations():
    world, design = World.bundled(), TwoStage(pilot=64, half_width=0.05)
    shares = [world.share(occupation, "gender")["female"] for occupation in world.occupations]
    assert fixed_images(0.05) / np.mean([expected_images(design, share) for share in shares]) >= 1.4


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
        (lambda: images_to_make(DESIGN, 33, 4), "0 to 32 classified images of the pilot, found 33"),
        (lambda: two_stage_interval(DESIGN, 4, 9, n=31), "found 31 in both stages"),
        (lambda: two_stage_interval(TwoStage(150, 0.1), 4, 9, n=151), "0 planned after it"),
        (lambda: two_stage_interval(DESIGN, 4, 9, confidence=1.0), "confidence"),
    ],
)
def test_impossible_designs_and_counts_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
