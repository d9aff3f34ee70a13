"""A selected strength was tried, is within the budget of side effects, and reports if the edit has no control."""

import pytest

from audit.dissect.strengths import (
    PATIENCE,
    GroupStrength,
    Tried,
    choose_strength,
    choose_strengths,
    is_finished,
    strengths_as_data,
    strengths_of_data,
)


def rungs(*seen):
    """Tried strengths from (strength, shown, share whose age changed)."""
    return [Tried(strength, shown, {"age": changed}) for strength, shown, changed in seen]


AGE = rungs((0.0, 0.33, 0.0), (0.5, 0.4, 0.02), (1.5, 0.53, 0.06), (3.0, 0.6, 0.2), (6.0, 0.72, 0.35))
"""The age edit of the bundled model: from 1.5, more images change in gender than are gained for their age group."""


def test_the_search_stops_when_side_effects_grow_faster_than_the_effect():
    assert choose_strength(AGE, 1.0).strength == 1.5
    assert choose_strength(AGE, 100.0).strength == 6.0
    assert choose_strength(AGE, 0.1).strength == 0.0


def test_a_selected_strength_was_tried():
    for budget in (0.1, 0.5, 1.0, 10.0):
        for drawn in range(1, len(AGE) + 1):
            found = choose_strength(AGE[:drawn], budget)
            assert found.drawn in AGE[:drawn]


def test_an_edit_without_a_significant_effect_is_not_used():
    assert choose_strength(rungs((0.0, 0.2, 0.0), (0.5, 0.24, 0.0), (1.0, 0.29, 0.0)), 1.0).strength == 0.0
    assert choose_strength(rungs((0.0, 0.67, 0.0), (0.5, 0.91, 0.17)), 1.0).strength == 0.5


def test_of_equal_strengths_the_weakest_is_selected():
    assert choose_strength(rungs((0.0, 0.5, 0.0), (0.5, 0.5, 0.0), (1.0, 0.5, 0.0)), 1.0).strength == 0.0


def test_a_sufficient_edit_is_preferred_to_a_weaker_one_without_a_significant_difference():
    firefighter = rungs((0.0, 0.0, 0.0), (0.5, 0.17, 0.25), (1.0, 0.91, 0.58), (1.5, 1.0, 0.67))
    assert choose_strength(firefighter, 1.0).strength == 1.5
    dear = rungs((0.0, 0.3, 0.0), (0.5, 0.6, 0.1), (1.0, 0.95, 0.7))
    assert choose_strength(dear, 1.0).strength == 0.5
    worthless = rungs((0.0, 0.3, 0.0), (0.5, 0.95, 0.7))
    assert choose_strength(worthless, 1.0).strength == 0.0


def test_no_images_are_steered_to_a_large_group_if_another_cannot_be_controlled():
    tones = {
        "light": rungs((0.0, 0.69, 0.0), (1.5, 1.0, 0.1)),
        "tan": rungs((0.0, 0.1, 0.0), (1.5, 0.6, 0.1)),
        "dark": rungs((0.0, 0.0, 0.0), (1.5, 0.0, 0.2)),
    }
    assert {g: found.strength for g, found in choose_strengths(tones, 1.0).items()} == {
        "light": 0,
        "tan": 1.5,
        "dark": 0,
    }
    tones["dark"] = rungs((0.0, 0.0, 0.0), (1.5, 0.95, 0.2))
    assert {found.strength for found in choose_strengths(tones, 1.0).values()} == {1.5}


def test_lost_faces_are_side_effects_too():
    faceless = [Tried(0.0, 0.2, {}), Tried(1.0, 0.9, {}, lost=0.8)]
    assert choose_strength(faceless, 1.0).strength == 0.0


@pytest.mark.parametrize(("shown", "control"), [(0.92, "full"), (0.91, "partial"), (0.5, "partial"), (0.49, "none")])
def test_an_edit_that_most_images_do_not_follow_has_no_control(shown, control):
    assert GroupStrength(1.0, "searched", (Tried(1.0, shown, {}),)).control == control


def test_a_predicted_strength_has_no_trial_results():
    assert GroupStrength(1.0, "predicted").control is None
    assert GroupStrength(1.0, "predicted").as_data()["shown"] is None


def test_the_search_ends_when_an_edit_is_sufficient_or_nothing_is_gained():
    assert is_finished(rungs((0.0, 0.95, 0.0)), 1.0)
    assert not is_finished(rungs((0.0, 0.3, 0.0)), 1.0)
    worse = [(0.5 * n, 0.3, 0.1 * n) for n in range(PATIENCE + 1)]
    assert not is_finished(rungs(*worse[:-1]), 1.0)
    assert is_finished(rungs(*worse), 1.0)
    slow = rungs((0.0, 0.1, 0.0), (0.5, 0.2, 0.2), (1.0, 0.7, 0.3))  # worse at first, then better
    assert not is_finished(slow, 1.0)


def test_strengths_can_be_stored_and_read():
    strengths = {"gender": {"doctor": {"female": choose_strength(AGE, 1.0), "male": GroupStrength(0.4, "predicted")}}}
    assert strengths_of_data(strengths_as_data(strengths)) == strengths
