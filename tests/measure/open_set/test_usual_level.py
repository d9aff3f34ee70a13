"""A prompt with one mode has a rate where levels hardly differ; none where looks move them, or its scores fit none."""

import numpy as np
import pytest

from audit.measure.open_set.two_states import fit_states
from audit.measure.open_set.usual_level import UsualLevels
from tests.measure.open_set.test_two_states import drawn

RATES = np.array([0.2, 0.3, 0.5, 0.25, 0.4, 0.3, 1.0, 0.0])
ONE_MODE = [6, 7]


def read(scores, prompts):
    states, levels = fit_states(scores, prompts)
    shown = levels.identified(prompts, 3, 2)
    usual = UsualLevels.of(levels, shown, states)
    return shown, usual and usual.read(scores, prompts, states, levels, shown)


@pytest.mark.parametrize("seed", range(5))
def test_one_mode_is_read_at_the_level_of_the_others(seed):
    scores, prompts, upper = drawn(RATES, shifts=0.2, seed=seed)
    shown, (levels, known) = read(scores, prompts)
    assert not shown[ONE_MODE].any()
    assert known.all()
    assert levels.rates == pytest.approx(np.bincount(prompts, upper) / 80, abs=0.05)
    assert (levels.upper == upper).mean() > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_levels_that_differ_as_much_as_the_states_say_nothing(seed):
    scores, prompts, _ = drawn(RATES, shifts=4.0, seed=seed)
    assert read(scores, prompts)[1] is None


def test_a_mode_between_the_states_has_no_rate():
    scores, prompts, _ = drawn(RATES)
    scores[prompts == 6] -= 2.5  # half the gap
    _, (_, known) = read(scores, prompts)
    assert known.tolist() == [True] * 6 + [False, True]


def test_scores_that_fill_the_gap_belong_to_no_state():
    scores, prompts, _ = drawn(RATES)
    scores[prompts == 6] = np.linspace(-3, 8, 80)
    _, (_, known) = read(scores, prompts)
    assert not known[6]


def test_what_shapes_say_is_left_as_it_is():
    scores, prompts, _ = drawn(RATES, shifts=0.2)
    states, levels = fit_states(scores, prompts)
    shown = levels.identified(prompts, 3, 2)
    found, _ = UsualLevels.of(levels, shown, states).read(scores, prompts, states, levels, shown)
    assert (found.shifts[shown] == levels.shifts[shown]).all()
    assert (found.rates[shown] == levels.rates[shown]).all()


def test_two_prompts_do_not_say_what_is_usual():
    scores, prompts, _ = drawn(np.array([0.3, 0.4, 1.0]))
    assert read(scores, prompts)[1] is None
