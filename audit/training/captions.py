"""Captions of the calibration model's training pictures.

Captions that name only an occupation have the planted group shares: they create the bias. Captions that name groups
have uniform shares, so that a prompt with groups works for every occupation and adds no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations

import numpy as np
import numpy.typing as npt

from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS, Column, Labels, face_noise
from audit.calibration.world import World, planted_labels, uniform_labels

OCCUPATION_ONLY_SHARE = 0.55
"""Share of training captions that name an occupation only."""

PERSON_SHARE = 0.15
"""Share of training captions that name groups and no occupation; the rest names an occupation and groups."""

_SUBSETS: tuple[frozenset[str], ...] = tuple(
    frozenset(subset) for size in (1, 2, 3) for subset in combinations(ATTRIBUTES, size) for _ in range(size)
)
"""Groups that a caption names; repeated entries are more frequent, since long descriptions are hard to learn."""

_GROUPS = frozenset(group for names in ATTRIBUTES.values() for group in names)


def caption(
    occupation: str | None, *, gender: str | None = None, age: str | None = None, skin_tone: str | None = None
) -> str:
    """Return for example ``a face photo of an old female tan skinned doctor``; without an occupation, of a ``person``.

    Raises:
        ValueError: The renderer cannot draw the occupation or a group.
    """
    _check("occupation", occupation, OCCUPATIONS)
    for attribute, group in {"gender": gender, "age": age, "skin_tone": skin_tone}.items():
        _check(attribute, group, ATTRIBUTES[attribute])
    words = [age, gender, f"{skin_tone} skinned" if skin_tone else None, occupation or "person"]
    phrase = " ".join(word for word in words if word)
    return f"a face photo of {'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def training_examples(world: World, seeds: Sequence[int]) -> tuple[Labels, list[str]]:
    """Draw captioned faces. Each depends on its own seed only; ``face_noise(seeds)`` has its other details.

    Returns:
        Labels of n faces, and their n captions.

    Raises:
        ValueError: ``seeds`` is empty.
    """
    noise = face_noise(seeds)
    kind = noise[:, Column.CAPTION]
    plain, person = kind < OCCUPATION_ONLY_SHARE, kind >= 1 - PERSON_SHARE
    labels = _choose(plain, planted_labels(world, noise), uniform_labels(noise, world.occupations))
    subsets = (noise[:, Column.NAMED] * len(_SUBSETS)).astype(int)
    named = [frozenset[str]() if plain[row] else _SUBSETS[subset] for row, subset in enumerate(subsets)]
    return labels, [_describe(labels, row, named[row], person=bool(person[row])) for row in range(len(labels))]


def names_all_groups(text: str) -> bool:
    """Return whether a caption names a group of every attribute."""
    return _groups_named(text) == len(ATTRIBUTES)


def names_no_group(text: str) -> bool:
    """Return whether a caption names an occupation only."""
    return _groups_named(text) == 0


def vocabulary() -> list[str]:
    """Return every word that a caption can contain, sorted."""
    return sorted({"a", "an", "face", "photo", "of", "skinned", "person", *_GROUPS, *OCCUPATIONS})


def _groups_named(text: str) -> int:
    return sum(word in _GROUPS for word in text.split())


def _describe(labels: Labels, row: int, named: frozenset[str], *, person: bool) -> str:
    groups = {name: ATTRIBUTES[name][getattr(labels, name)[row]] for name in named}
    return caption(None if person else OCCUPATIONS[labels.occupation[row]], **groups)


def _choose(condition: npt.NDArray[np.bool_], first: Labels, second: Labels) -> Labels:
    names = [field.name for field in fields(Labels)]
    return Labels(**{name: np.where(condition, getattr(first, name), getattr(second, name)) for name in names})


def _check(kind: str, word: str | None, known: tuple[str, ...]) -> None:
    if word is not None and word not in known:
        raise ValueError(f"expected {kind} to be one of {', '.join(known)}; found {word!r}; choose one of them")
