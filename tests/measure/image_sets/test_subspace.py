"""Distance of activations: 1 for unedited vectors whatever their scale, the closed form of a shift, energy outside."""

import numpy as np
import pytest

from audit.measure.image_sets.frechet import FeatureStats
from audit.measure.image_sets.subspace import EXPLAINED, Subspace, distances, outside

SCALES = np.array([9.0, 4.0, 1.0] + [0.05] * 37)


def drawn(rng, n):
    return rng.normal(2.0, SCALES, (n, len(SCALES)))


@pytest.mark.parametrize("n", [6, 20, 200])
def test_unedited_vectors_have_a_mean_distance_of_one_also_if_components_are_few_and_badly_known(n):
    rng, found = np.random.default_rng(0), []
    for _ in range(6000 // n + 200):
        own = drawn(rng, n)
        found.append(distances(Subspace.of(FeatureStats.of(drawn(rng, n))), own, own).mean())
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / np.sqrt(len(found)) + 0.01)


def test_each_vector_is_left_out_of_the_statistics_that_measure_it():
    rng = np.random.default_rng(1)
    space, own = Subspace.of(FeatureStats.of(drawn(rng, 60))), drawn(rng, 12)
    others, along = np.delete(own, 3, 0) @ space.basis.T, own[3] @ space.basis.T
    expected = ((along - others.mean(0)) ** 2 / others.var(0, ddof=1)).mean() * 11 * 8 / (12 * 10)
    assert distances(space, own, own)[3] == pytest.approx(expected)
    away = own[3] - np.delete(own, 3, 0).mean(0)
    assert outside(space, own, own)[3] == pytest.approx(1 - ((space.basis @ away) ** 2).sum() / (away**2).sum())


def test_a_shift_along_a_component_adds_its_square_in_standard_deviations():
    rng = np.random.default_rng(2)
    space, own = Subspace.of(FeatureStats.of(drawn(rng, 4000))), drawn(rng, 4000)
    moved = own + 3 * SCALES[1] * np.eye(len(SCALES))[1]
    assert len(space.basis) == 2
    assert space.explained >= EXPLAINED
    assert distances(space, own, moved).mean() == pytest.approx(1 + 9 / 2, rel=0.05)


def test_a_shift_in_directions_that_unedited_vectors_hardly_use_shows_in_the_energy_outside_alone():
    rng = np.random.default_rng(3)
    space, own = Subspace.of(FeatureStats.of(drawn(rng, 400))), drawn(rng, 400)
    moved = own + 10 * np.eye(len(SCALES))[20]
    assert distances(space, own, moved).mean() == pytest.approx(distances(space, own, own).mean(), rel=0.1)
    assert outside(space, own, own).mean() < 0.1
    assert outside(space, own, moved).mean() > 0.5


def test_few_vectors_give_few_components_and_none_are_an_error():
    rng = np.random.default_rng(4)
    assert len(Subspace.of(FeatureStats.of(rng.normal(size=(17, 40)))).basis) == 4
    with pytest.raises(ValueError, match="at least 4 vectors, got 3"):
        Subspace.of(FeatureStats.of(rng.normal(size=(3, 40))))
    with pytest.raises(ValueError, match="found equal ones"):
        Subspace.of(FeatureStats.of(np.ones((9, 4))))
    space, own = Subspace.of(FeatureStats.of(rng.normal(size=(16, 4)))), rng.normal(size=(8, 4))
    with pytest.raises(ValueError, match="at least 6"):
        distances(space, own[:5], own[:5])
    with pytest.raises(ValueError, match="the same n images"):
        outside(space, own, own[:7])
    with pytest.raises(ValueError, match="no unit"):
        distances(space, np.ones((8, 4)), own)
