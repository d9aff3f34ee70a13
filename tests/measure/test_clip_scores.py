"""CLIP scores are cosines of paired rows; the paper's rescaled figure has a name of its own."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine as cosine_distance

from audit.measure.clip_scores import cosine, rescaled


def test_cosine_pairs_rows_and_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    assert cosine(a, b) == pytest.approx([1 - cosine_distance(x, y) for x, y in zip(a, b, strict=True)])


def test_length_does_not_matter_and_rounding_does_not_leave_the_range():
    a = np.random.default_rng(2).normal(size=(50, 7)).astype(np.float32)
    assert cosine(a, 3 * a) == pytest.approx(np.ones(50))
    assert cosine(a, -a) == pytest.approx(-np.ones(50))
    assert np.abs(cosine(a, 3 * a)).max() <= 1


def test_the_papers_6155_is_a_cosine_of_231():
    assert rescaled(0.231) == pytest.approx(0.6155)
    assert rescaled(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((3, 3)), "paired rows"),
        (np.ones((0, 3)), np.ones((0, 3)), "paired rows"),
        (np.zeros((1, 3)), np.ones((1, 3)), "zero or not finite"),
        (np.full((1, 3), np.nan), np.ones((1, 3)), "zero or not finite"),
    ],
)
def test_pairs_that_do_not_exist_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        cosine(a, b)
