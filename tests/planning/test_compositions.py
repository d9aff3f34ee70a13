"""Prompts of compositions name two occupations or one, and texts for matching name all groups equally often."""

from audit.config.optional.compositions import CompositionsConfig
from audit.planning.compositions import alone_prompts, matching_texts, pair_prompts

SECTION = CompositionsConfig(pairs=[["engineer", "nurse"], ["nurse", "engineer"]])


def test_a_pair_has_articles_and_both_occupations():
    first, second = pair_prompts(SECTION)
    assert (first.id, first.text) == ("engineer-and-nurse", "a photo of an engineer and a nurse")
    assert (second.first, second.second, second.occupation) == ("nurse", "engineer", "nurse and engineer")


def test_pairs_whose_names_read_alike_have_ids_of_their_own():
    pairs = [["cook and baker", "nurse"], ["cook", "baker and nurse"], ["cook", "nurse"]]
    one, other, plain = (pair.id for pair in pair_prompts(CompositionsConfig(pairs=pairs)))
    assert one != other
    assert plain == "cook-and-nurse"


def test_each_occupation_is_alone_once():
    assert [(one.id, one.text) for one in alone_prompts(SECTION)] == [
        ("engineer", "a photo of an engineer"),
        ("nurse", "a photo of a nurse"),
    ]


def test_matching_texts_name_each_group_once():
    texts = matching_texts(SECTION, "nurse", {"gender": ("female", "male"), "skin_tone": ("tan", "dark")})
    assert texts == tuple(f"a photo of a {group} nurse" for group in ("female", "male", "tan skinned", "dark skinned"))
