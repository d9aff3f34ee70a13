"""Targets by optimal transport: the closed form of two groups, more groups, and what is left out."""

from itertools import permutations

import numpy as np
import pytest

from audit.mitigate.trained.alignment import expected_classes, targets_of, transported


def random_probabilities(images, groups, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(groups, 0.5), size=images)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_closed_form_of_two_groups_is_the_mean_over_draws(share):
    probabilities, target = random_probabilities(9, 2), np.array([1 - share, share])
    draws = np.random.default_rng(1).binomial(9, share, size=4000)
    mean = np.mean([transported(probabilities, np.array([9 - count, count])) for count in draws], axis=0)
    np.testing.assert_allclose(expected_classes(probabilities, target, 0), mean, atol=0.03)


def test_the_transport_is_the_best_permutation():
    probabilities, drawn = random_probabilities(6, 3), [0, 0, 1, 1, 1, 2]
    vectors = np.eye(3)[drawn]

    def cost(order):
        return np.linalg.norm(probabilities - vectors[list(order)], axis=1).sum()

    best = min(permutations(range(6)), key=cost)
    found = transported(probabilities, np.array([2, 3, 1]))
    assert np.linalg.norm(probabilities - found, axis=1).sum() == pytest.approx(cost(best))


@pytest.mark.parametrize("target", [(1 / 3, 1 / 3, 1 / 3), (0.6, 0.3, 0.1), (0.0, 0.5, 0.5)])
def test_more_groups_reach_the_target_and_need_the_fewest_changes(target):
    probabilities = random_probabilities(24, 3)
    q = expected_classes(probabilities, np.array(target), 0)
    np.testing.assert_allclose(q.sum(1), 1)
    np.testing.assert_allclose(q.mean(0), target, atol=0.03)
    assert np.array_equal(q, expected_classes(probabilities, np.array(target), 0))
    sure = np.eye(3)[np.repeat(range(3), 8)] * 0.98 + 0.01  # the shares are met: nothing has to change
    even = targets_of(sure / sure.sum(1, keepdims=True), np.full(3, 1 / 3), 0)
    assert even.classes.tolist() == np.repeat(range(3), 8).tolist()


def test_images_whose_class_hangs_on_the_draw_are_left_out():
    probabilities = np.stack([np.linspace(1, 0, 24), np.linspace(0, 1, 24)], 1)
    found = targets_of(probabilities, np.array([0.5, 0.5]), 0)
    assert found.classes.tolist() == [0] * 12 + [1] * 12
    kept = found.kept(0.2)
    assert kept[:9].all()
    assert kept[-9:].all()
    assert not kept[11:13].any()
    assert found.kept(0.6).all()
    assert found.kept(0.0).sum() < kept.sum()


def test_a_group_without_a_share_is_nobodys_target_and_no_image_gives_no_target():
    found = targets_of(random_probabilities(8, 2), np.array([0.0, 1.0]), 0)
    assert set(found.classes) == {1}
    assert found.confidences.tolist() == [1.0] * 8
    assert len(targets_of(np.zeros((0, 2)), np.array([0.5, 0.5]), 0).classes) == 0
    assert len(targets_of(np.zeros((0, 3)), np.full(3, 1 / 3), 0).classes) == 0
