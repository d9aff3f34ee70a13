"""Power agrees with textbooks, brute force and the tests that the audit runs, and promises nothing that it breaks."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy.estimate import parity_p_value
from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.changes import mcnemar_p_value
from audit.planning.power.detectable import detectable, planned_level
from audit.planning.power.gates import PlannedGate, gate_power, images_for_gate, share_interval
from audit.planning.power.pairs import paired_power, smallest_paired_change
from audit.planning.power.parity import Direction, ParityTest
from audit.records.attributes import Attribute

GENDER = Attribute("gender", ("female", "male"))
AGE = Attribute("age", ("young", "adult", "old"))
EVEN = (0.5, 0.5)


def rejection_rate(n, shares, target, level=0.05, times=2000):
    """How often the audit's own test of parity rejects, in simulated audits."""
    counts, repeats = np.unique(
        np.random.default_rng(11).multinomial(n, shares, size=times), axis=0, return_counts=True
    )
    rejected = np.array([parity_p_value(row, target) <= level for row in counts])
    return float(repeats[rejected].sum() / times)


@pytest.mark.parametrize(
    ("n", "shares", "target"),
    [(9, (0.8, 0.2), (0.5, 0.5)), (8, (0.1, 0.9), (0.3, 0.7)), (6, (0.7, 0.2, 0.1), (1 / 3,) * 3)],
)
def test_power_is_the_chance_of_rejection_over_every_sequence_of_draws(n, shares, target):
    expected = 0.0
    for draw in itertools.product(range(len(target)), repeat=n):
        counts = np.bincount(draw, minlength=len(target))
        if parity_p_value(counts, target) <= 0.05:
            expected += math.prod(shares[group] for group in draw)
    assert expected > 0
    assert ParityTest(n, target).power(shares) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [5, 20, 64, 313])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_parity_is_rejected_no_more_often_than_the_level_says(n, level):
    for target in (EVEN, (0.2, 0.8), (1 / 3,) * 3):
        assert ParityTest(n, target, level).power(target) <= level + 1e-12


@pytest.mark.parametrize(("n", "target"), [(64, EVEN), (64, (0.3, 0.7)), (40, (1 / 3,) * 3), (60, (0.25,) * 4)])
def test_the_promised_power_is_met_in_simulated_audits(n, target):
    groups = len(target)
    test = ParityTest(n, target)
    for direction in (Direction.towards((0,), groups), Direction.towards((groups - 1,), groups)):
        shares = direction.shares(np.asarray(target), test.smallest_distance(direction))
        assert rejection_rate(n, shares, target) == pytest.approx(0.8, abs=0.03)


def test_beyond_enumeration_the_promise_is_met_within_three_points():
    target = (1 / 7,) * 7
    test, direction = ParityTest(64, target), Direction.towards((2,), 7)
    assert math.comb(70, 6) > 50_000
    shares = direction.shares(np.asarray(target), test.smallest_distance(direction))
    assert rejection_rate(64, shares, target) == pytest.approx(0.8, abs=0.03)


def test_an_undetectable_departure_is_told_as_such():
    assert ParityTest(5, EVEN).smallest_distance(Direction.towards((0,), 2)) is None  # 2 · 0.5⁵ > 0.05
    assert detectable(GENDER, 5).share is None
    assert smallest_paired_change(5) is None


def test_two_groups_have_one_deviation_and_it_is_the_same_both_ways():
    found = detectable(GENDER, 64)
    assert found.distance == pytest.approx(math.sqrt(2) * found.share)
    assert found.hardest_distance == pytest.approx(found.distance, abs=2e-4)
    assert (found.direction, found.attribute, found.n) == (("female",), "gender", 64)
    assert 0.15 < found.share < 0.2  # 47 images see 0.2, 85 see 0.15


def test_every_direction_is_seen_at_the_hardest_distance():
    target = np.full(3, 1 / 3)
    test, found = ParityTest(40, tuple(target)), detectable(AGE, 40)
    assert found.hardest_distance >= found.distance
    for size in (1, 2):
        for raised in itertools.combinations(range(3), size):
            direction = Direction.towards(raised, 3)
            assert test.power(direction.shares(target, found.hardest_distance)) >= 0.8 - 1e-9


def test_more_tests_ask_for_more_images():
    assert planned_level(0.05, 30) == pytest.approx(0.05 / 30)
    assert detectable(GENDER, 64, level=planned_level(0.05, 30)).share > detectable(GENDER, 64).share


@pytest.mark.parametrize(
    ("n", "before", "after", "correlation"), [(6, 0.9, 0.2, 0.0), (5, 0.9, 0.1, -0.05), (6, 0.9, 0.3, 0.2)]
)
def test_paired_power_is_mcnemars_over_every_sequence_of_pairs(n, before, after, correlation):
    both = before * after + correlation * math.sqrt(before * (1 - before) * after * (1 - after))
    chances = {(1, 1): both, (1, 0): before - both, (0, 1): after - both, (0, 0): 1 - before - after + both}
    expected = 0.0
    for pairs in itertools.product(chances, repeat=n):
        first, second = np.array(pairs, dtype=bool).T
        if mcnemar_p_value(first, second) <= 0.05:
            expected += math.prod(chances[pair] for pair in pairs)
    assert paired_power(n, before, after, correlation) == pytest.approx(expected, abs=1e-6)


def test_pairs_that_agree_see_smaller_changes():
    apart, together = (smallest_paired_change(64, 0.8, correlation) for correlation in (0.0, 0.6))
    assert together < apart
    assert paired_power(64, 0.8, 0.8 - apart) >= 0.8
    assert paired_power(64, 0.8, 0.8 - apart + 0.01) < 0.8


def test_the_middle_of_the_scale_is_where_a_change_is_hardest_to_see():
    in_the_middle = smallest_paired_change(64)
    assert all(smallest_paired_change(64, before) <= in_the_middle + 1e-3 for before in (0.95, 0.8, 0.65, 0.5))


def test_a_gate_is_decided_as_often_as_foretold():
    gate = PlannedGate(0.4, "min", share_interval(0))
    found = gate_power(gate, 80, (0.55, 0.45))
    counts = np.arange(81)
    passes = [share_estimate(int(k), 80).low >= 0.4 for k in counts]
    assert found.passes == pytest.approx(stats.binom.pmf(counts, 80, 0.55)[passes].sum(), abs=1e-6)
    assert found.passes + found.fails + found.inconclusive == pytest.approx(1)
    assert found.fails < 0.001


@pytest.mark.parametrize(
    ("share", "limit", "side"), [(0.55, 0.4, "min"), (0.25, 0.4, "min"), (0.5, 0.65, "max"), (0.9, 0.7, "max")]
)
def test_images_for_a_gate_decide_it_rightly_with_the_promised_power(share, limit, side):
    n = images_for_gate(PlannedGate(limit, side, share_interval(0)), (share, 1 - share))
    successes = np.random.default_rng(2).binomial(n, share, size=4000)
    right = share <= limit if side == "max" else share >= limit
    ends = {int(k): share_estimate(int(k), n) for k in np.unique(successes)}
    inside = {k: (e.high <= limit if side == "max" else e.low >= limit) for k, e in ends.items()}
    outside = {k: (e.low > limit if side == "max" else e.high < limit) for k, e in ends.items()}
    decided = np.mean([(inside if right else outside)[int(k)] for k in successes])
    assert 0.77 <= decided <= 0.87  # counts are whole: the power at n can lie above the promise, but not below
    fewer = gate_power(PlannedGate(limit, side, share_interval(0)), n - 1, (share, 1 - share))
    assert max(fewer.passes, fewer.fails) < 0.8


def test_a_truth_on_the_limit_is_never_decided():
    assert images_for_gate(PlannedGate(0.5, "max", share_interval(0)), EVEN, largest=1000) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ParityTest(0, EVEN), "at least 1 image"),
        (lambda: ParityTest(8, EVEN, 0.0), "level in"),
        (lambda: ParityTest(8, EVEN).power((0.2, 0.3, 0.5)), "shares of 2 groups"),
        (lambda: ParityTest(8, (0.5, 0.6)), "sum to 1"),
        (lambda: Direction.towards((0, 1), 2), "some but not all"),
        (lambda: Direction.towards((), 2), "some but not all"),
        (lambda: Direction.towards((2,), 2), "some but not all"),
        (lambda: paired_power(0, 0.5, 0.4), "at least 1 pair"),
        (lambda: paired_power(9, 0.9, 0.1, 0.9), "no pairs have shares"),
        (lambda: gate_power(PlannedGate(0.4, "min", share_interval(0)), 0, EVEN), "at least 1 image"),
        (lambda: planned_level(0.05, 0), "at least 1 test"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
