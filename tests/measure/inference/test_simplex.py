"""The projection is the nearest distribution, by brute force over all possible supports."""

import itertools

import numpy as np
import pytest

from audit.measure.inference.simplex import nearest_distribution


def by_brute_force(point):
    """For every support, shift its coordinates to sum 1; return the nearest feasible candidate."""
    candidates = []
    for size in range(1, point.size + 1):
        for support in map(list, itertools.combinations(range(point.size), size)):
            candidate = np.zeros(point.size)
            candidate[support] = point[support] + (1 - point[support].sum()) / size
            if (candidate >= 0).all():
                candidates.append(candidate)
    return min(candidates, key=lambda candidate: np.linalg.norm(candidate - point))


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_it_is_the_nearest_of_all_distributions(groups):
    points = np.random.default_rng(groups).normal(1 / groups, 0.7, (200, groups))
    expected = np.stack([by_brute_force(point) for point in points])
    assert np.allclose(nearest_distribution(points), expected, atol=1e-12)


def test_a_distribution_is_its_own_projection():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), (5, 3))
    assert np.allclose(nearest_distribution(shares), shares, atol=1e-12)


@pytest.mark.parametrize("point", [[], [0.5, np.nan], 1.0])
def test_an_invalid_point_is_refused(point):
    with pytest.raises(ValueError, match="a projection needs"):
        nearest_distribution(point)
