"""Similarities and clusters of directions, against scipy and against groups that were planted."""

import numpy as np
import pytest

from audit.results.exploration.similarity import MOST_CLUSTERED, adjusted_rand, clusters_of, similarities_of
from tests.results.exploration.test_scores import directions, prompts


def planted(noise, groups=(0, 0, 0, 1, 1, 1, 2, 2), width=40):
    """Halves (2, 1 + n, width): a zero row for the neutral prompt, then texts around the direction of their group."""
    draws = np.random.default_rng(0)
    centres = draws.normal(0, 1, (max(groups) + 1, width))
    halves = centres[list(groups)] + draws.normal(0, noise, (2, len(groups), width))
    return directions(np.zeros((len(groups) + 1, 1, 4)), np.concatenate([np.zeros((2, 1, width)), halves], 1))


def test_planted_groups_are_found_by_both_halves():
    found = clusters_of(planted(0.2), prompts(9))
    assert len(set(found.members.values())) == 3
    assert found.members["p1"] == found.members["p3"] != found.members["p4"]
    assert found.stability == pytest.approx(1)
    assert sorted(found.order) == sorted(found.members)
    assert 0.9 < found.kept <= 1


def test_clusters_of_noise_are_not_stable():
    stabilities = []
    for seed in range(20):
        draws = np.random.default_rng(seed)
        found = clusters_of(directions(np.zeros((13, 1, 4)), draws.normal(0, 1, (2, 13, 400))), prompts(13))
        stabilities.append(found.stability)
    assert np.mean(stabilities) < 0.3


def test_too_few_or_too_many_prompts_have_no_tree():
    assert clusters_of(planted(0.2), prompts(3)) is None
    many = MOST_CLUSTERED + 2
    assert clusters_of(directions(np.zeros((many, 1, 2)), np.ones((2, many, 3))), prompts(many)) is None


def test_prompts_with_equal_directions_are_grouped_without_a_warning():
    found = clusters_of(directions(np.zeros((6, 1, 2)), np.ones((2, 6, 3))), prompts(6))
    assert found.kept == 0
    assert all(height == pytest.approx(0, abs=1e-12) for *_, height, _ in found.heights)


@pytest.mark.parametrize(
    ("first", "second", "index"),
    [([1, 1, 2, 2], [2, 2, 1, 1], 1.0), ([1, 1, 2, 2], [1, 1, 1, 1], 0.0), ([1, 1, 2, 2], [1, 2, 1, 2], -0.5)],
)
def test_the_adjusted_rand_index_is_that_of_its_formula(first, second, index):
    assert adjusted_rand(np.array(first), np.array(second)) == pytest.approx(index)


def test_cosines_are_those_of_mean_directions():
    given = planted(0.5)
    found = similarities_of(given, prompts(4), [("cold", "t4"), ("warm", "t5")])
    vectors = given.halves.mean(0)
    expected = vectors[2] @ vectors[5] / np.linalg.norm(vectors[2]) / np.linalg.norm(vectors[5])
    assert found.cosines["p2"][1] == pytest.approx(expected)
    assert 0 < found.agreement["p1"] < 1
    assert similarities_of(given, prompts(4), []) is None
