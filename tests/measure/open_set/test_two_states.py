"""Rates are read from the shape of a prompt's scores: a shift of all of them changes nothing, one mode has no rate."""

import numpy as np
import pytest

from audit.measure.open_set.two_states import fit_states, levels_of

RATES = np.array([0.2, 0.2, 0.8, 0.5, 0.15, 0.3])


def drawn(rates=RATES, images=80, gap=5.0, shifts=0.0, seed=0):
    random = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(len(rates)), images)
    upper = random.random(len(prompts)) < rates[prompts]
    moved = shifts * random.normal(size=len(rates))
    return random.normal(size=len(prompts)) + gap * upper + moved[prompts], prompts, upper


@pytest.mark.parametrize("shifts", [0.0, 8.0])
def test_rates_are_found_whatever_each_prompt_shifts(shifts):
    scores, prompts, upper = drawn(shifts=shifts)
    states, levels = fit_states(scores, prompts)
    assert states.separation == pytest.approx(5, abs=0.6)
    assert levels.identified(prompts, 3, 2).all()
    assert (levels.upper == upper).mean() > 0.98
    assert levels.rates == pytest.approx(np.bincount(prompts, upper) / 80, abs=0.04)


def test_other_images_are_read_with_the_same_states():
    states, _ = fit_states(*drawn()[:2])
    scores, prompts, upper = drawn(seed=1, shifts=8.0)
    assert (levels_of(scores, prompts, states).upper == upper).mean() > 0.98


def test_a_prompt_with_one_mode_has_no_rate():
    rates = np.array([0.2, 0.5, 1.0, 0.0, 0.3, 0.4])
    scores, prompts, _ = drawn(rates, shifts=3.0)
    _, levels = fit_states(scores, prompts)
    assert levels.identified(prompts, 3, 2).tolist() == [True, True, False, False, True, True]


def test_scores_of_one_mode_have_few_rates():
    random = np.random.default_rng(0)
    prompts = np.repeat(np.arange(40), 50)
    states, levels = fit_states(random.normal(size=2000), prompts)
    assert levels.identified(prompts, 3, 2).mean() < 0.2 or states.separation < 3


def test_equal_scores_in_a_prompt_are_no_two_states():
    scores, prompts, _ = drawn()
    scores[prompts == 1] = 3.0
    _, levels = fit_states(scores, prompts)
    assert np.isfinite(levels.evidence).all()
    assert not levels.identified(prompts, 3, 2)[1]
