"""A calibration world: the planted distribution of groups for each occupation, and the labels of a face from its seed.

The planted shares are the ground truth for audits of the calibration model. All labels of a face are computed by
inverse CDFs from a row of uniform numbers that depends only on its seed. With the same seed in another occupation or
world, only labels whose distribution differs can change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audit.calibration.labels import (
    ATTRIBUTES,
    BACKGROUNDS,
    HAIR_COLOURS,
    HAIR_STYLES,
    OCCUPATIONS,
    Column,
    Floats,
    Ints,
    Labels,
    face_noise,
    position,
)
from audit.calibration.world_table import Pairs, Planted, PlantedPair, read_table

__all__ = [
    "ATTRIBUTES",
    "OCCUPATIONS",
    "Labels",
    "World",
    "draw_labels",
    "face_noise",
    "planted_labels",
    "uniform_labels",
]

_HAIR_COLOUR_SHARES = np.array([0.34, 0.34, 0.18, 0.14, 0.0])  # all old faces have grey hair, and no others
_BEARD_SHARE = 0.4  # of the men
_SMILE_SHARE = 0.5
_GLASSES_SHARE = 0.2  # default if the world sets no other share for an occupation


@dataclass(frozen=True)
class World:
    """Occupations and the joint distribution of groups for each of them."""

    name: str
    occupations: tuple[str, ...]
    planted: Mapping[str, Planted]
    pairs: Pairs = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> World:
        """Read a table of planted shares.

        Raises:
            ValueError: The table has an error; the message says where, what was expected and what to do.
        """
        name, planted, pairs = read_table(path)
        return cls(name=name, occupations=tuple(planted), planted=planted, pairs=pairs)

    @classmethod
    def bundled(cls) -> World:
        """Return the world on which the bundled calibration model was trained."""
        return cls.load(cls.bundled_path())

    @staticmethod
    def bundled_path() -> Path:
        """Return the table of the bundled calibration model."""
        return Path(__file__).parent / "worlds" / "occupations.yaml"

    def joint(self, occupation: str) -> Floats:
        """Return the planted probability of every combination of groups, shape (2, 3, 4).

        Raises:
            ValueError: The occupation is not in this world.
        """
        return self._of(occupation).joint.copy()

    def pair(self, first: str, second: str) -> PlantedPair:
        """Return what is planted in pictures of two people; nothing for a pair that the table does not name."""
        if (second, first) in self.pairs:
            return self.pairs[second, first].reversed
        return self.pairs.get((first, second), PlantedPair({}, 0.0))

    def share(self, occupation: str, attribute: str) -> dict[str, float]:
        """Return the planted share of each group of one attribute (a marginal of the joint table).

        Raises:
            ValueError: The occupation is not in this world, or the attribute does not exist.
        """
        axis = position(attribute, tuple(ATTRIBUTES), "attribute", self.name)
        others = tuple(other for other in range(len(ATTRIBUTES)) if other != axis)
        marginal = self._of(occupation).joint.sum(axis=others)
        return {group: float(p) for group, p in zip(ATTRIBUTES[attribute], marginal, strict=True)}

    def _of(self, occupation: str) -> Planted:
        position(occupation, self.occupations, "occupation", f"world {self.name!r}")
        return self.planted[occupation]


def draw_labels(world: World, occupation: str, noise: Floats, given: Mapping[str, Ints] | None = None) -> Labels:
    """Draw faces of one occupation with its planted shares.

    Args:
        world: The world.
        occupation: The occupation.
        noise: Uniforms of shape (n, D).
        given: Attribute → the group of each face, (n,), that is decided already; the others are drawn given it.

    Raises:
        ValueError: The occupation is not in this world.
    """
    position(occupation, world.occupations, "occupation", f"world {world.name!r}")
    return _draw_planted(world, np.full(len(noise), OCCUPATIONS.index(occupation)), noise, given or {})


def planted_labels(world: World, noise: Floats) -> Labels:
    """Draw faces with a uniform distribution of occupations and the planted shares of groups for each occupation."""
    return _draw_planted(world, _uniform_occupation(world.occupations, noise), noise, {})


def uniform_labels(noise: Floats, occupations: Sequence[str]) -> Labels:
    """Draw faces with uniform and independent occupation, groups and background, without any bias.

    Args:
        noise: Uniforms of shape (n, D).
        occupations: Names to draw from.

    Raises:
        ValueError: An occupation cannot be drawn by the renderer.
    """
    n = len(noise)
    joint = np.full((n, *(len(groups) for groups in ATTRIBUTES.values())), 1.0)
    background = np.ones((n, len(BACKGROUNDS)))
    return _draw(_uniform_occupation(occupations, noise), joint, np.full(n, _GLASSES_SHARE), background, noise)


def _uniform_occupation(occupations: Sequence[str], noise: Floats) -> Ints:
    known = np.array([position(name, OCCUPATIONS, "occupation", "the renderer") for name in occupations])
    return known[(noise[:, Column.OCCUPATION] * len(known)).astype(np.int64)]


def _draw_planted(world: World, occupation: Ints, noise: Floats, given: Mapping[str, Ints]) -> Labels:
    present, row = np.unique(occupation, return_inverse=True)
    tables = [world.planted[OCCUPATIONS[index]] for index in present]
    joint = np.stack([table.joint for table in tables])[row]
    for axis, (attribute, groups) in enumerate(ATTRIBUTES.items()):
        if attribute in given:
            decided = np.eye(len(groups))[given[attribute]]
            joint = joint * np.expand_dims(decided, tuple(other + 1 for other in range(3) if other != axis))
    glasses = np.array([table.glasses for table in tables])[row]
    background = np.stack([table.background for table in tables])[row]
    return _draw(occupation, joint, glasses, background, noise)


def _draw(occupation: Ints, joint: Floats, glasses: Floats, background: Floats, noise: Floats) -> Labels:
    """Convert uniforms (n, D) to labels, given joint tables (n, 2, 3, 4) and the distributions of two details."""
    gender, age, skin_tone = _draw_groups(joint, noise)
    hair_colour = _inverse_cdf(np.broadcast_to(_HAIR_COLOUR_SHARES, (len(noise), 5)), noise[:, Column.HAIR_COLOUR])
    male, old = gender == ATTRIBUTES["gender"].index("male"), age == ATTRIBUTES["age"].index("old")
    return Labels(
        occupation=occupation.astype(np.int64),
        gender=gender,
        age=age,
        skin_tone=skin_tone,
        glasses=(noise[:, Column.GLASSES] < glasses).astype(np.int64),
        smile=(noise[:, Column.SMILE] < _SMILE_SHARE).astype(np.int64),
        hair_colour=np.where(old, HAIR_COLOURS.index("grey"), hair_colour),
        hair_style=(noise[:, Column.HAIR_STYLE] * len(HAIR_STYLES)).astype(np.int64),
        background=_inverse_cdf(background, noise[:, Column.BACKGROUND]),
        beard=(male & (noise[:, Column.BEARD] < _BEARD_SHARE)).astype(np.int64),
    )


def _draw_groups(joint: Floats, noise: Floats) -> tuple[Ints, Ints, Ints]:
    """Draw gender, then age given gender, then skin tone given both, each with a separate uniform number."""
    rows = np.arange(len(noise))
    gender = _inverse_cdf(joint.sum(axis=(2, 3)), noise[:, Column.GENDER])
    given_gender = joint[rows, gender]
    age = _inverse_cdf(given_gender.sum(axis=2), noise[:, Column.AGE])
    skin_tone = _inverse_cdf(given_gender[rows, age], noise[:, Column.SKIN_TONE])
    return gender, age, skin_tone


def _inverse_cdf(weights: Floats, uniforms: Floats) -> Ints:
    """Return the category of each uniform (n,) under its row of unnormalised weights (n, k)."""
    edges = np.cumsum(weights, axis=1)
    below: Ints = (uniforms[:, None] * edges[:, -1:] >= edges[:, :-1]).sum(axis=1)
    return below
