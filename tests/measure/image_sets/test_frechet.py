"""The Fréchet distance equals clean-fid's and closed forms, and does not depend on how images are split into shards."""

import functools
import operator

import numpy as np
import pytest

from audit.measure.image_sets.frechet import FeatureStats, frechet_distance


def features(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, (n, d)) @ rng.normal(0, 1, (d, d))


def test_merging_shards_in_any_order_equals_all_images_at_once():
    x = features(50, 6, seed=1).astype(np.float32)
    parts = [FeatureStats.of(part) for part in np.array_split(x, 7)]
    for order in (parts, parts[::-1]):
        merged = functools.reduce(operator.add, order, FeatureStats.zero(6))
        assert merged.n == 50
        np.testing.assert_allclose(merged.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(
            merged.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-12
        )


def test_the_value_equals_clean_fids():
    cleanfid = pytest.importorskip("cleanfid.fid")
    a, b = features(200, 12, seed=2), features(150, 12, seed=3, shift=0.5)
    try:
        expected = cleanfid.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    except TypeError as error:  # SciPy 1.18 removed the argument that clean-fid passes
        pytest.skip(f"this clean-fid does not run with this SciPy: {error}")
    assert frechet_distance(FeatureStats.of(a), FeatureStats.of(b)) == pytest.approx(expected, rel=1e-6)


def test_with_diagonal_covariances_it_is_the_sum_over_dimensions():
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    a, b = signs * [1.0, 2.0] + [0, 3], signs * [4.0, 0.5]
    std = np.sqrt(4 / 3)
    expected = 9 + ((np.array([1, 2]) - [4, 0.5]) ** 2).sum() * std**2
    assert frechet_distance(FeatureStats.of(a), FeatureStats.of(b)) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "d"), [(2, 40), (10, 64), (100, 8)])
def test_it_is_zero_for_equal_sets_symmetric_and_never_negative(n, d):
    a, b = FeatureStats.of(features(n, d, seed=4)), FeatureStats.of(features(n, d, seed=5))
    scale = np.trace(a.covariance)
    assert 0 <= frechet_distance(a, a) <= 1e-9 * scale
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-8)
    assert frechet_distance(a, b) > 1e-3 * scale


def test_with_fewer_images_than_dimensions_it_is_the_nuclear_norm_of_the_cross_gram():
    a, b = features(9, 30, seed=6), features(7, 30, seed=7)
    ca, cb = (a - a.mean(0)) / np.sqrt(8), (b - b.mean(0)) / np.sqrt(6)
    overlap = np.linalg.svd(ca @ cb.T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + (ca**2).sum() + (cb**2).sum() - 2 * overlap
    assert frechet_distance(FeatureStats.of(a), FeatureStats.of(b)) == pytest.approx(expected, rel=1e-9)


def test_identical_images_have_only_the_distance_of_their_means():
    a, b = FeatureStats.of(np.ones((3, 4))), FeatureStats.of(np.zeros((5, 4)))
    assert frechet_distance(a, b) == pytest.approx(4)


def test_too_few_or_non_finite_features_are_refused():
    one = FeatureStats.of(np.ones((1, 4)))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        frechet_distance(one, one)
    with pytest.raises(ValueError, match="n at least 1"):
        FeatureStats.of(np.ones((0, 4)))
    with pytest.raises(ValueError, match="finite"):
        FeatureStats.of([[np.nan, 1.0]])
    with pytest.raises(ValueError, match="one feature network"):
        one + FeatureStats.zero(5)
    with pytest.raises(ValueError, match="one network"):
        frechet_distance(one, FeatureStats.zero(5))
    with pytest.raises(ValueError, match="at least 1 image"):
        _ = FeatureStats.zero(5).mean
