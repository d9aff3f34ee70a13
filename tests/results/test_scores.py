"""The rescaled CLIP score of the paper."""

import pytest

from audit.results.scores import rescaled


def test_the_rescaled_score_6155_is_a_cosine_of_231():
    assert rescaled(0.231) == pytest.approx(0.6155)
    assert [rescaled(-1.0), rescaled(0.0), rescaled(1.0)] == [0, 0.5, 1]
