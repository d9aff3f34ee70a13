"""The worst tenth is measured by other images than chose it, and a condition that moves a share is found."""

import numpy as np
import pytest

from audit.records.inside.stress import Condition
from audit.results.exploration.stress import _interval, stress_of

CONDITIONS = (Condition("plain", ""), Condition("descriptor", "poor"), Condition("guidance", "1"))
PROMPTS = tuple(f"p{place}" for place in range(10))


def counts_of(shares, images=60, seed=0):
    random = np.random.default_rng(seed)
    return np.stack([[[random.multinomial(images, of) for of in row] for row in shares] for _ in range(2)])


def shares_of(female):
    return np.stack([female, 1 - female], axis=-1)


def of(female, **changes):
    counts = counts_of(shares_of(female), **changes)
    return stress_of({"gender": counts}, {"gender": ("female", "male")}, PROMPTS, CONDITIONS, 120, 0.05)


def test_a_descriptor_that_moves_a_prompt_is_found_with_its_group():
    female = np.full((3, 10), 0.5)
    female[1, 4] = 0.1
    found = of(female)
    [one] = [shift for shift in found.shifts if shift.found]
    assert (one.prompt, found.conditions[one.condition].name, one.attribute) == ("p4", "poor", "gender")
    assert abs(one.change) == pytest.approx(0.4, abs=0.12)
    assert one.low < one.change < one.high
    assert found.figures[0].cells[0] == ("p4", "poor")
    assert len(found.shifts) == 20
    female[2, 7] = 0.0
    assert ("p7", "guidance 1") in of(female).figures[0].cells


def test_at_parity_the_worst_tenth_is_not_inflated_by_its_choice():
    worst = [of(np.full((3, 10), 0.5), images=20, seed=seed).figures[0].worst ** 2 for seed in range(30)]
    assert np.mean(worst) < 0.01  # the plug-in figure of the chosen cells is above 0.03


def test_cells_without_classified_images_are_left_out():
    nothing = {"gender": np.zeros((2, 3, 10, 2), int)}
    empty = stress_of(nothing, {"gender": ("female", "male")}, PROMPTS, CONDITIONS, 8, 0.05)
    assert empty.figures == empty.shifts == ()
    half = counts_of(shares_of(np.full((3, 10), 0.2)))
    half[:, 1] = 0
    found = stress_of({"gender": half}, {"gender": ("female", "male")}, PROMPTS, CONDITIONS, 120, 0.05)
    assert {one.condition for one in found.shifts} == {2}
    assert found.figures[0].mean == pytest.approx(0.3 * 2**0.5, abs=0.03)
    assert found.figures[0].by_condition[1] is None


def test_the_interval_of_the_worst_tenth_covers_the_true_figure_on_both_sides():
    """With 16 images, an interval around the square without its correction is too low in one of five samples."""
    random, true = np.random.default_rng(1), 0.15 * 2**0.5
    ends = np.array([_interval(random.multinomial(16, [0.65, 0.35], 8)) for _ in range(200)])
    assert (ends[:, 1] < true).mean() < 0.1
    assert (ends[:, 0] > true).mean() < 0.1
