"""Rays from a target stay in the simplex, and include the farthest plausible distribution in closed form."""

import numpy as np
import pytest
from scipy import stats

from audit.measure.discrepancy.distance_rays import Rays

TARGETS = [(1 / 3,) * 3, (0.05, 0.15, 0.8), (0.0, 0.4, 0.6), (1.0, 0.0, 0.0), (0.1, 0.2, 0.3, 0.4)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("side", [1, -1])
def test_rays_are_unit_vectors_and_end_at_the_boundary_of_the_simplex(target, side):
    groups = len(target)
    shares = np.vstack([np.random.default_rng(0).dirichlet(np.ones(groups), size=5), np.eye(groups), [target]])
    goals = np.broadcast_to(np.array(target), shares.shape)
    rays = Rays.towards(shares, goals, np.full(len(shares), 20.0), side)
    assert np.allclose(rays.directions.sum(axis=2), 0, atol=1e-9)
    assert np.allclose(np.linalg.norm(rays.directions, axis=2), 1)
    rows = np.arange(len(shares))
    ends = rays.at(rays.reach, rows)
    assert np.allclose(np.linalg.norm(ends - goals[:, None], axis=2), rays.reach, atol=1e-9)
    assert (ends.min(axis=2) < 1e-9).all()  # some group has a share of 0
    beyond = rays.at(rays.reach + 1, rows)
    assert np.allclose(beyond, ends)
    assert (rays.at(0.3 * rays.reach, rows) >= 0).all()


def test_a_selected_ray_of_each_sample_is_one_of_all_rays():
    shares, target = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]), np.full((2, 3), 1 / 3)
    rays = Rays.towards(shares, target, np.full(2, 50.0), 1)
    rows, ways = np.array([1, 0]), np.array([[2], [0]])
    assert np.allclose(
        rays.at(np.full((2, 1), 0.1), rows, ways)[:, 0],
        rays.at(np.full(rays.reach.shape, 0.1), rows)[[0, 1], ways[:, 0]],
    )


@pytest.mark.parametrize("z", [1.0, 2.5, 4.0])
def test_the_best_ray_has_the_largest_distance_within_z_standard_errors(z):
    # With many images the error of the sample is normal and small, so the farthest distribution has a closed form.
    shares, target, n = np.array([0.45, 0.35, 0.2]), np.array([0.2, 0.3, 0.5]), 4000
    rays = Rays.towards(shares[None], target[None], np.array([float(n)]), 1)
    angles = np.linspace(0, 2 * np.pi, 100_001)
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    every = np.cos(angles)[:, None] * basis[0] + np.sin(angles)[:, None] * basis[1]
    covariance = np.diag(shares) - np.outer(shares, shares)

    def distance(ways):
        return ways @ (shares - target) + z * np.sqrt(np.einsum("di,ij,dj->d", ways, covariance, ways) / n)

    assert distance(rays.directions[0]).max() == pytest.approx(distance(every).max(), abs=1e-5)


def test_a_sample_on_target_has_a_ray_to_the_group_with_the_smallest_target():
    rays = Rays.towards(np.array([[0.1, 0.3, 0.6]]), np.array([[0.1, 0.3, 0.6]]), np.array([30.0]), 1)
    corner = np.array([1.0, 0.0, 0.0]) - [0.1, 0.3, 0.6]
    assert np.abs(rays.directions[0] @ corner / np.linalg.norm(corner)).max() == pytest.approx(1)


def test_additional_rays_pass_through_the_given_distributions():
    shares, target = np.array([[0.2, 0.8, 0.0]]), np.array([[0.2, 0.3, 0.5]])
    points = stats.dirichlet(np.ones(3)).rvs(4, random_state=0)[None]
    rays = Rays.towards(shares, target, np.array([10.0]), -1)
    more = rays.through(points)
    assert more.reach.shape[1] == rays.reach.shape[1] + 4
    lengths = np.linalg.norm(points - target[:, None], axis=2)
    assert np.allclose(more.at(np.concatenate([rays.reach, lengths], axis=1), np.array([0]))[0, -4:], points[0])
