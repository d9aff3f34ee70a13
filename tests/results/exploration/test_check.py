"""The check of scores against images: prompts are spread over each axis, and correlations are those of ranks."""

import numpy as np
import pytest
from scipy import stats

from audit.records.inside.exploration import Score
from audit.results.exploration.check import check, prompts_to_check


def scores(values, axis="gender", texts=None):
    texts = values if texts is None else texts
    pairs = enumerate(zip(values, texts, strict=True))
    return [Score(f"p{i}", axis, v, None, None, 0.0, None, False, t) for i, (v, t) in pairs]


def test_prompts_are_taken_from_the_ends_inwards():
    given = scores([0.0, 1.0, 2.0, 3.0, 4.0])
    assert prompts_to_check(given, ["gender"], 3) == ("p0", "p4", "p2")
    assert set(prompts_to_check(given, ["gender"], 9)) == {"p0", "p1", "p2", "p3", "p4"}
    assert prompts_to_check(given, ["gender"], 0) == ()
    assert prompts_to_check(given, [], 5) == ()


def test_every_axis_gives_its_ends():
    given = scores([0.0, 1.0, 2.0, 3.0, 4.0]) + scores([2.0, 0.0, 1.0, 5.0, 3.0], "age")
    assert set(prompts_to_check(given, ["gender", "age"], 4)) == {"p0", "p1", "p4", "p3"}


def test_the_correlation_is_spearmans_with_the_mean_place_of_the_groups():
    values, counts = [0.1, 0.2, 0.5, 0.9], np.array([[9, 1, 0], [2, 8, 0], [5, 0, 5], [0, 2, 8]], float)
    found = check("gender", scores(values, texts=[4.0, 3.0, 2.0, 1.0]), ["p0", "p1", "p2", "p3"], counts, 10)
    places = [0.05, 0.4, 0.5, 0.9]
    assert [found.perceived[f"p{i}"] for i in range(4)] == pytest.approx(places)
    assert found.rho == pytest.approx(stats.spearmanr(values, places).statistic)
    assert found.text_rho == pytest.approx(-1)
    assert found.low <= found.rho <= found.high


def test_a_prompt_in_which_nobody_is_perceived_is_left_out():
    counts = np.array([[9, 1], [2, 8], [0, 0], [0, 10]], float)
    found = check("gender", scores([0.1, 0.2, 0.9, 0.3]), ["p0", "p1", "p2", "p3"], counts, 10)
    assert found.perceived.keys() == {"p0", "p1", "p3"}
    assert found.rho == pytest.approx(1)


@pytest.mark.parametrize("counts", [[[5, 5]] * 4, [[0, 0]] * 4])
def test_a_correlation_with_a_constant_is_not_defined(counts):
    found = check("gender", scores([0.1, 0.2, 0.9, 0.3]), ["p0", "p1", "p2", "p3"], np.array(counts, float), 10)
    assert (found.rho, found.low, found.high) == (None, None, None)
