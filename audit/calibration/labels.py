"""The labels of a drawn face: attributes, occupations and details, and the uniform numbers that determine them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt

# Shapes: n faces, D columns of noise; a joint table is (gender 2, age 3, skin tone 4).
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("young", "adult", "old"),
    "skin_tone": ("light", "medium", "tan", "dark"),
}
"""Perceived attributes and their groups; skin tone is a scale of lightness, not a race."""

OCCUPATIONS: tuple[str, ...] = (
    "doctor",
    "nurse",
    "firefighter",
    "receptionist",
    "chef",
    "teacher",
    "builder",
    "farmer",
    "judge",
    "pilot",
    "mechanic",
    "librarian",
    "gardener",
    "painter",
    "scientist",
    "cashier",
    "sailor",
    "soldier",
    "courier",
    "athlete",
)
"""All occupations that the renderer can draw."""

BACKGROUNDS: tuple[str, ...] = ("sage", "sky", "sand", "lilac", "slate", "rose")
HAIR_COLOURS: tuple[str, ...] = ("black", "brown", "auburn", "blond", "grey")
HAIR_STYLES: tuple[str, ...] = ("plain", "fringe", "curly")

DETAILS: dict[str, tuple[str, ...]] = {
    "glasses": ("without", "with"),
    "smile": ("closed", "open"),
    "hair_colour": HAIR_COLOURS,
    "background": BACKGROUNDS,
}
"""Details that no caption names → what they can be, in the order of their labels."""


class Column(IntEnum):
    """Columns of a face's uniform numbers; new columns must be added at the end, so that old faces do not change."""

    OCCUPATION = 0
    GENDER = 1
    AGE = 2
    SKIN_TONE = 3
    GLASSES = 4
    SMILE = 5
    HAIR_COLOUR = 6
    HAIR_STYLE = 7
    BACKGROUND = 8
    BEARD = 9
    CAPTION = 10
    NAMED = 11
    SHIFT_X = 12
    SHIFT_Y = 13
    SCALE = 14
    TILT = 15
    SKIN_SHADE = 16
    HAIR_SHADE = 17
    DRESS_SHADE = 18
    BACKGROUND_SHADE = 19
    BACKGROUND_WARMTH = 20
    FACE_WIDTH = 21
    EYE_HEIGHT = 22
    MOUTH_HEIGHT = 23


@dataclass(frozen=True)
class Labels:
    """The labels of n faces: arrays of shape (n,), dtype int64.

    Attributes:
        occupation: Index in ``OCCUPATIONS``.
        gender: Index in ``ATTRIBUTES["gender"]``.
        age: Index in ``ATTRIBUTES["age"]``.
        skin_tone: Index in ``ATTRIBUTES["skin_tone"]``.
        glasses: 1 with glasses, 0 without.
        smile: 1 for an open smile, 0 for a closed mouth.
        hair_colour: Index in ``HAIR_COLOURS``; always grey for old faces and never for others.
        hair_style: Index in ``HAIR_STYLES``.
        background: Index in ``BACKGROUNDS``.
        beard: 1 with a beard, 0 without; always 0 for a female face.
    """

    occupation: Ints
    gender: Ints
    age: Ints
    skin_tone: Ints
    glasses: Ints
    smile: Ints
    hair_colour: Ints
    hair_style: Ints
    background: Ints
    beard: Ints

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.occupation)

    def __getitem__(self, rows: slice | Ints | npt.NDArray[np.bool_]) -> Labels:
        """Return the labels of some rows, in the order of the index."""
        return Labels(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def concatenate(parts: Iterable[Labels]) -> Labels:
        """Join labels in order.

        Raises:
            ValueError: There are no parts.
        """
        listed = list(parts)
        if not listed:
            raise ValueError("expected at least one part to concatenate, found none")
        names = [field.name for field in fields(Labels)]
        return Labels(**{name: np.concatenate([getattr(part, name) for part in listed]) for name in names})


def face_noise(seeds: Sequence[int]) -> Floats:
    """Return the uniform numbers of each face, shape (n, D); a row depends only on its seed.

    Raises:
        ValueError: There are no seeds.
    """
    if len(seeds) == 0:
        raise ValueError("expected at least one seed, found none")
    return np.stack([np.random.default_rng(int(seed)).random(len(Column)) for seed in seeds])


def position(name: str, known: tuple[str, ...], kind: str, where: str) -> int:
    """Return the index of ``name`` in ``known``.

    Raises:
        ValueError: ``known`` does not contain ``name``; the message suggests the nearest name.
    """
    if name in known:
        return known.index(name)
    nearest = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "use one of these"
    raise ValueError(f"{where}: expected {kind} to be one of {', '.join(known)}; found {name!r}; {remedy}")
