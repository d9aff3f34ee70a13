"""Tests that side effects are shown beside the gain, and only significant ones are said to have moved."""

from dataclasses import replace

import pytest

from reports.export.markdown import to_markdown
from reports.index.story import story_of
from reports.words.headline import headline
from reports.words.key_figures import key_figures
from reports.words.side_effects import side_effect_sentence, side_effects

ARM = "difflens-gender"
NBSP = "\N{NO-BREAK SPACE}"


@pytest.fixture
def shifted(result):
    """Builds the result with other shifts: attribute → (value, chance, p)."""

    def build(**shifts):
        rows = [s for s in result.shifts if s.attribute in shifts]
        found = [(s, *shifts[s.attribute]) for s in rows]
        return replace(result, shifts=tuple(replace(s, value=v, floor=f, p_value=p) for s, v, f, p in found))

    return build


def test_the_headline_shows_a_side_effect_beside_the_gain(shifted):
    moved = shifted(gender=(0.4, 0.05, 0.0), age=(0.104, 0.051, 0.0002), skin_tone=(0.06, 0.055, 0.3))
    lead = headline(story_of(moved)).lead
    words = "Side effect: difflens-gender also moved the shares of age by 0.104 (0.051 by chance alone, p < 0.001)."
    assert lead.index("moved the mean fairness discrepancy") < lead.index(words) < lead.index("Cost: ")
    assert "also moved the shares of age by 0.104" in to_markdown(moved)
    tile = next(figure for figure in key_figures(story_of(moved)) if "age" in figure.label)
    assert (tile.label, tile.after) == ("Side effect, shift of age", "0.104")
    assert tile.note == "more than chance: 0.051 by chance alone, p < 0.001"


def test_several_side_effects_are_all_named_the_largest_excess_first(shifted):
    story = story_of(shifted(age=(0.1, 0.06, 0.001), skin_tone=(0.2, 0.05, 0.004)))
    assert [effect.attribute for effect in side_effects(story, "gender", ARM)] == ["skin tone", "age"]
    sentence = side_effect_sentence(story, "gender", ARM)
    first = "skin tone by 0.200 (0.050 by chance alone, p = 0.004)"
    assert sentence.endswith(f"{first} and of age by 0.100 (0.060 by chance alone, p = 0.001).")
    assert next(f for f in key_figures(story) if "skin tone" in f.label).note.endswith(f"; 1{NBSP}more moved")


def test_two_attributes_are_two_tests(shifted):
    alone = side_effects(story_of(shifted(age=(0.1, 0.06, 0.03))), "gender", ARM)
    beside = side_effects(story_of(shifted(age=(0.1, 0.06, 0.03), skin_tone=(0.05, 0.05, 0.5))), "gender", ARM)
    assert [effect.moved for effect in alone] == [True]
    assert [effect.moved for effect in beside] == [False, False]


def test_the_sentence_states_if_nothing_moved_by_more_than_chance(shifted):
    story = story_of(shifted(age=(0.06, 0.055, 0.3)))
    assert side_effect_sentence(story, "gender", ARM) == "Side effects: no other attribute moved by more than chance."
    tile = next(figure for figure in key_figures(story) if "age" in figure.label)
    assert tile.label == "Largest other shift, age"
    assert tile.note.startswith("no more than chance: ")


def test_without_another_attribute_there_is_neither_sentence_nor_tile(shifted):
    story = story_of(shifted(gender=(0.4, 0.05, 0.0)))
    assert side_effect_sentence(story, "gender", ARM) == ""
    assert not [figure for figure in key_figures(story) if "shift" in figure.label]
