"""Components find what varies within prompts, and neither the prompts' own looks nor what named groups explain."""

import numpy as np
import pytest

from audit.measure.open_set.components import components_of, indicators


def planted(n=600, prompts=6, seed=0):
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(prompts), n // prompts)
    group, hidden = random.integers(2, size=n), random.random(n) < 0.5  # not near 1/5, where a state has no kurtosis
    look = 5 * random.normal(size=(prompts, 8))
    vectors = 0.3 * random.normal(size=(n, 8)) + look[of]
    vectors += np.outer(group, random.normal(size=8)) * 3 + np.outer(hidden, random.normal(size=8))
    return vectors, of, group, hidden


def test_a_hidden_attribute_is_a_component_and_a_named_one_is_not():
    vectors, prompts, group, hidden = planted()
    groups = indicators(group, 2)
    found = components_of(vectors, prompts, groups, (4, 8))
    scores = found.scores(vectors, groups)
    assert scores.shape[1] == 12
    own = scores - np.stack([scores[prompts == p].mean(0) for p in range(6)])[prompts]
    to_hidden, to_group = ([abs(np.corrcoef(column, of)[0, 1]) for column in own.T] for of in (hidden, group))
    assert max(to_hidden) > 0.9
    assert max(to_group) < 0.15


def test_sizes_are_limited_by_rank_and_images():
    vectors, prompts, group, _ = planted(60)
    flat = np.hstack([vectors[:, :3], vectors[:, :3]])
    assert components_of(flat, prompts, np.zeros((60, 0)), (8, 12)).unmixing.shape == (6, 3)
    assert components_of(np.ones((60, 4)), prompts, indicators(group, 2), (8,)).unmixing.shape == (4, 0)


def test_an_image_without_a_group_has_an_indicator_of_its_own():
    assert indicators(np.array([-1, 0, 1, 2]), 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("seed", range(2))
def test_equal_images_give_equal_components(seed):
    vectors, prompts, group, _ = planted(seed=seed)
    first, again = (components_of(vectors, prompts, indicators(group, 2), (4,)).unmixing for _ in range(2))
    assert (first == again).all()
