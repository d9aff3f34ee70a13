"""Scores: intervals and p-values are those of scipy, and only what differs from the neutral prompt is marked."""

import numpy as np
import pytest
from scipy import stats

from audit.analyses.directions import Directions
from audit.results.exploration.scores import Modified, moves_of, neutral_scores, scores_of


def directions(scores, halves=None):
    """Directions of texts t0 (neutral), t1, ...; scores (P, A, seeds)."""
    count, axes, _ = scores.shape
    texts = tuple(f"t{row}" for row in range(count))
    halves = np.zeros((2, count, 3)) if halves is None else halves
    return Directions(texts, tuple(f"axis {a}" for a in range(axes)), scores, halves, scores.mean(2), 3)


def prompts(count):
    return [(f"p{row}", f"t{row}") for row in range(1, count)]


@pytest.mark.parametrize("seeds", [2, 8, 20])
def test_p_values_are_those_of_a_permutation_test_of_signs(seeds):
    draws = np.random.default_rng(seeds)
    scores = draws.normal(0, 1, (6, 2, seeds)) + np.linspace(0, 1, 6)[:, None, None]
    rows = scores_of(directions(scores), prompts(6), 0.05)
    for row in rows:
        column, place = int(row.axis[-1]), int(row.prompt[1:])
        change = scores[place, column] - scores[0, column]
        reference = stats.permutation_test(
            (change,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(1)
        )
        assert row.p == pytest.approx(reference.pvalue, abs=1e-9 if seeds < 14 else 0.02)
        low, high = stats.t.interval(0.95, seeds - 1, scores[place, column].mean(), stats.sem(scores[place, column]))
        assert (row.low, row.high) == pytest.approx((low, high))


def test_what_does_not_differ_is_rarely_marked():
    draws, marked = np.random.default_rng(0), 0
    for _ in range(200):
        shared = draws.normal(0, 5, (1, 1, 16))
        rows = scores_of(directions(shared + draws.normal(0, 1, (11, 1, 16))), prompts(11), 0.05)
        marked += any(row.differs for row in rows)
    # The neutral prompt is compared with all, so that its own noise makes several rows differ together.
    assert marked / 200 < 0.12


def test_what_differs_is_marked_and_its_change_is_at_equal_noise():
    draws = np.random.default_rng(0)
    scores = draws.normal(0, 5, (1, 1, 16)) + draws.normal(0, 0.1, (5, 1, 16))
    scores[3] += 1
    rows = scores_of(directions(scores), prompts(5), 0.05)
    assert [row.prompt for row in rows if row.differs] == ["p3"]
    assert rows[2].change == pytest.approx(1, abs=0.2)


def test_one_seed_has_neither_interval_nor_p_value():
    rows = scores_of(directions(np.ones((3, 2, 1))), prompts(3), 0.05)
    assert {(row.low, row.p, row.differs) for row in rows} == {(None, None, False)}
    assert neutral_scores(directions(np.ones((3, 2, 1))))[1].axis == "axis 1"


def test_no_axis_has_no_scores():
    assert scores_of(directions(np.ones((3, 0, 4))), prompts(3), 0.05) == ()


def test_a_word_moves_a_prompt_by_the_difference_at_equal_noise():
    draws = np.random.default_rng(0)
    scores = draws.normal(0, 5, (1, 1, 12)) + draws.normal(0, 0.1, (4, 1, 12))
    scores[2] += 0.5
    words = [Modified("p1", "t1", "poor", "t2"), Modified("p1", "t1", "rich", "t3")]
    poor, rich = moves_of(directions(scores), words, 0.05)
    assert (poor.modifier, poor.differs, rich.differs) == ("poor", True, False)
    assert poor.low < 0.5 < poor.high
    change = scores[2, 0] - scores[1, 0]
    assert (poor.low, poor.high) == pytest.approx(stats.t.interval(0.95, 11, change.mean(), stats.sem(change)))
    assert moves_of(directions(scores), [], 0.05) == ()
