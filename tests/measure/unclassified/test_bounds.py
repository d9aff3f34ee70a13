"""Bounds include all completions of unknown images, and an edit that destroys faces does not look fair."""

import itertools

import numpy as np
import pytest

from audit.measure.discrepancy import fairness
from audit.measure.shares.changes import two_sample_share_difference
from audit.measure.unclassified.bounds import (
    discrepancy_bounds,
    discrepancy_ends,
    missing_differs_in_pairs,
    share_bounds,
    share_ends,
    unknown_images,
)


def statuses(classified, low_confidence=0, no_face=0, failed=0):
    return {"classified": classified, "low_confidence": low_confidence, "no_face": no_face, "failed": failed}


def every_completion(counts, unknown):
    """Return the shares of all images for all assignments of ``unknown`` images to groups."""
    for extra in itertools.product(range(unknown + 1), repeat=len(counts)):
        if sum(extra) == unknown:
            completed = np.add(counts, extra)
            yield completed / completed.sum()


@pytest.mark.parametrize("counts", [[3, 1], [0, 1], [5, 0, 1], [2, 2, 2], [0, 7, 1, 0]])
@pytest.mark.parametrize("unknown", [0, 1, 4, 7])
@pytest.mark.parametrize("even", [True, False])
def test_bounds_are_the_extremes_over_all_completions(counts, unknown, even):
    weights = np.ones(len(counts)) if even else np.arange(len(counts)) + 0.3
    target = weights / weights.sum()
    found = statuses(sum(counts), low_confidence=unknown)
    completions = np.array(list(every_completion(counts, unknown)))
    shares = share_bounds(counts, found)
    assert [bound.low for bound in shares] == pytest.approx(completions.min(axis=0))
    assert [bound.high for bound in shares] == pytest.approx(completions.max(axis=0))
    distances = np.linalg.norm(completions - target, axis=1)
    discrepancy = discrepancy_bounds(counts, found, target)
    assert (discrepancy.low, discrepancy.high) == pytest.approx((distances.min(), distances.max()))


def test_bounds_without_unknown_images_are_the_figure_itself():
    rows = np.repeat(np.eye(2), [80, 20], axis=0)
    bounds = discrepancy_bounds([80, 20], statuses(100), (0.5, 0.5))
    assert bounds.low == bounds.high == pytest.approx(fairness.hard_plug_in(rows, (0.5, 0.5)))


def test_without_classified_images_the_bounds_are_the_whole_range():
    assert [(bound.low, bound.high) for bound in share_bounds([0, 0], statuses(0, failed=4))] == [(0, 1), (0, 1)]
    bounds = discrepancy_bounds([0, 0], statuses(0, failed=4), (0.5, 0.5))
    assert (bounds.low, bounds.high) == (0, pytest.approx(fairness.maximum((0.5, 0.5))))


def test_every_status_except_classified_is_unknown():
    assert unknown_images(statuses(5, low_confidence=1, no_face=2, failed=4)) == 7
    assert unknown_images({"classified": 5, "several_faces": 3}) == 3


def test_an_edit_that_destroys_the_faces_of_one_group_does_not_look_fair():
    before, after = statuses(200), statuses(100, no_face=100)
    target = (0.5, 0.5)
    assert discrepancy_bounds([50, 50], after, target).low == 0  # the classified images are fair
    assert discrepancy_bounds([50, 50], after, target).high == pytest.approx(
        discrepancy_bounds([150, 50], before, target).high
    )
    warning = missing_differs_in_pairs(np.zeros(200, bool), np.arange(200) < 100)
    assert warning.differs
    assert warning.difference.value == 0.5


def test_paired_arms_have_newcombes_published_interval():
    both, only_after, only_before, neither = 36, 12, 2, 0  # Newcombe 1998, paired data, method 10
    before = np.repeat([True, False, True, False], [both, only_after, only_before, neither])
    after = np.repeat([True, True, False, False], [both, only_after, only_before, neither])
    found = missing_differs_in_pairs(before, after).difference
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_pairs_are_more_precise_than_counts_if_the_same_images_are_missing():
    paired = missing_differs_in_pairs(np.arange(200) < 20, np.arange(200) < 32)
    counted = two_sample_share_difference(20, 200, 32, 200)
    assert paired.difference.value == counted.value == pytest.approx(0.06)
    assert paired.differs
    assert counted.low < 0 < counted.high
    assert (paired.before.value, paired.after.value) == (0.1, 0.16)


def test_equal_arms_do_not_differ():
    assert not missing_differs_in_pairs([False] * 50, [False] * 50).differs


def test_many_prompts_together_have_the_bounds_of_each():
    rng = np.random.default_rng(3)
    counts, unknown, targets = rng.integers(0, 9, (30, 3)), rng.integers(0, 6, 30), rng.dirichlet(np.ones(3), 30)
    counts[:, 0] += 1
    (low, high), (nearest, farthest) = share_ends(counts, unknown), discrepancy_ends(counts, unknown, targets)
    for place, (row, missing, target) in enumerate(zip(counts, unknown.tolist(), targets, strict=True)):
        found = statuses(int(row.sum()), no_face=missing)
        assert [(r.low, r.high) for r in share_bounds(row, found)] == list(zip(low[place], high[place], strict=True))
        bounds = discrepancy_bounds(row, found, target)
        assert (bounds.low, bounds.high) == pytest.approx((nearest[place], farthest[place]))


@pytest.mark.parametrize(
    ("counts", "found", "message"),
    [
        ([0, 0], statuses(0), "at least 1 image"),
        ([3, 2], statuses(6), "expected the groups to sum to the 6"),
        ([3, -1], statuses(2), "none negative"),
        ([0.5, 0.5], statuses(1), "whole counts"),
        ([3, 2], {"no_face": 5}, "'classified'"),
        ([3, 2], {"classified": 5, "no_face": -1}, "no negative count"),
    ],
)
def test_counts_that_do_not_match_are_refused(counts, found, message):
    with pytest.raises(ValueError, match=message):
        share_bounds(counts, found)
    with pytest.raises(ValueError, match=message):
        discrepancy_bounds(counts, found, (0.5, 0.5))


def test_a_target_over_other_groups_is_refused():
    with pytest.raises(ValueError, match="3 groups"):
        discrepancy_bounds([1, 2], statuses(3), (0.2, 0.3, 0.5))


def test_an_arm_without_images_is_refused():
    with pytest.raises(ValueError, match="at least 1 image"):
        discrepancy_bounds([0, 0], statuses(0), (0.5, 0.5))
    with pytest.raises(ValueError, match="pair"):
        missing_differs_in_pairs(np.zeros(0, bool), np.zeros(0, bool))
