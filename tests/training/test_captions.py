"""Tests that captions with only an occupation have planted shares, and captions with groups have uniform ones."""

import numpy as np
import pytest

from audit.calibration.world import ATTRIBUTES, OCCUPATIONS, World
from audit.training.captions import (
    OCCUPATION_ONLY_SHARE,
    PERSON_SHARE,
    caption,
    names_all_groups,
    training_examples,
    vocabulary,
)

N = 6_000


@pytest.fixture(scope="module")
def examples():
    return training_examples(World.bundled(), range(N))


@pytest.mark.parametrize(
    ("text", "occupation", "groups"),
    [
        ("a face photo of a doctor", "doctor", {}),
        ("a face photo of an athlete", "athlete", {}),
        ("a face photo of a person", None, {}),
        (
            "a face photo of an old female tan skinned doctor",
            "doctor",
            {"gender": "female", "age": "old", "skin_tone": "tan"},
        ),
        ("a face photo of an adult person", None, {"age": "adult"}),
        ("a face photo of a male athlete", "athlete", {"gender": "male"}),
        ("a face photo of a dark skinned nurse", "nurse", {"skin_tone": "dark"}),
    ],
)
def test_captions_read_as_english(text, occupation, groups):
    assert caption(occupation, **groups) == text


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match=r"expected occupation to be one of .* found 'wizard'"):
        caption("wizard")
    with pytest.raises(ValueError, match="found 'ancient'"):
        caption("doctor", age="ancient")


def test_the_vocabulary_holds_every_word_and_no_more(examples):
    seen = set(" ".join(examples[1]).split())
    unseen = set(OCCUPATIONS) - set(World.bundled().occupations)
    assert seen | unseen == set(vocabulary())


def test_every_named_group_is_the_one_drawn(examples):
    labels, captions = examples
    for row, words in enumerate(text.split() for text in captions):
        for attribute, groups in ATTRIBUTES.items():
            named = [group for group in groups if group in words]
            assert named in ([], [groups[getattr(labels, attribute)[row]]])
        assert words[-1] in ("person", OCCUPATIONS[labels.occupation[row]])


def test_kinds_of_caption_come_in_the_stated_mix(examples):
    words = [text.split()[5:] for text in examples[1]]
    assert np.mean([len(w) == 1 and w != ["person"] for w in words]) == pytest.approx(OCCUPATION_ONLY_SHARE, abs=0.03)
    assert np.mean([w[-1] == "person" for w in words]) == pytest.approx(PERSON_SHARE, abs=0.03)
    assert all(len(w) > 1 for w in words if w[-1] == "person")


def test_bias_is_in_the_plain_captions_and_nowhere_else(examples):
    labels, captions = examples
    plain = np.array([len(text.split()) == 6 for text in captions])
    builder = labels.occupation == OCCUPATIONS.index("builder")
    assert labels.gender[plain & builder].mean() == pytest.approx(0.92, abs=0.08)
    assert labels.gender[~plain].mean() == pytest.approx(0.5, abs=0.04)
    assert labels.gender[~plain & builder].mean() == pytest.approx(0.5, abs=0.17)


def test_an_example_depends_on_its_own_seed_only():
    world = World.bundled()
    together, captions = training_examples(world, [1, 2, 3])
    alone, caption_alone = training_examples(world, [3])
    assert captions[2:] == caption_alone
    assert vars(together[2:]).keys() == vars(alone).keys()
    for name, values in vars(together[2:]).items():
        np.testing.assert_array_equal(values, getattr(alone, name))


def test_long_descriptions_are_recognised():
    assert names_all_groups("a face photo of an old female tan skinned doctor")
    assert not names_all_groups("a face photo of an old female doctor")
    assert not names_all_groups("a face photo of a doctor")
