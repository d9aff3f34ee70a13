"""Outside a manifold: the definition by hand, improved precision as published, and what few images allow."""

import numpy as np
import pytest

from audit.measure.image_sets.manifold import LEAST_IMAGES, NEIGHBOURS, outside_manifold


def by_the_definition(features, of_set):
    radii = [np.sort([np.linalg.norm(a - b) for b in of_set])[NEIGHBOURS] for a in of_set]
    return [all(np.linalg.norm(x - a) > r for a, r in zip(of_set, radii, strict=True)) for x in features]


def test_it_is_the_published_definition():
    rng = np.random.default_rng(0)
    of_set, features = rng.normal(size=(30, 6)), rng.normal(0, 1.6, size=(700, 6))
    found = outside_manifold(features, of_set)
    assert found.tolist() == by_the_definition(features, of_set)
    assert 0 < found.mean() < 1


def test_images_of_the_set_are_inside_and_distant_ones_outside():
    rng = np.random.default_rng(1)
    of_set = rng.normal(size=(12, 5)).astype(np.float32)
    assert not outside_manifold(of_set, of_set).any()
    assert outside_manifold(of_set + 100, of_set).all()
    assert outside_manifold(of_set[:0], of_set).shape == (0,)


def test_too_few_images_and_other_features_are_errors():
    with pytest.raises(ValueError, match=f"at least {LEAST_IMAGES} images, got 3"):
        outside_manifold(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="of one network"):
        outside_manifold(np.ones((2, 3)), np.ones((9, 4)))
