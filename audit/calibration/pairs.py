"""Draws pictures of two people, side by side in random order, with the groups that a world plants in pairs.

A picture is two squares wide. Where the second square is empty, the picture shows one person. The groups of the two
people are drawn from the joint table of the pair; everything else about each person is drawn as for that occupation
alone, given these groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.calibration.labels import ATTRIBUTES, Floats, Ints, Labels, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels
from audit.records.work import derive_seed

_SIDE, _MISSING, _WHO = range(3)
"""Columns of a picture's own uniform numbers; those of the attributes follow."""


@dataclass(frozen=True)
class DrawnPairs:
    """Pictures of two people and what they show.

    Attributes:
        images: uint8, (n, 3, 64, 128).
        people: Labels of the first and of the second occupation's person.
        left: (n,) which of the two is on the left, 0 or 1.
        missing: (n,) which of the two is not in the picture, −1 if both are.
    """

    images: Tensor
    people: tuple[Labels, Labels]
    left: Ints
    missing: Ints


def draw_pairs(world: World, first: str, second: str, seeds: Sequence[int]) -> DrawnPairs:
    """Draw one picture for each seed; a picture depends on its seed alone.

    Raises:
        ValueError: An occupation is not in this world.
    """
    planted = world.pair(first, second)
    own = np.stack([_uniforms(seed) for seed in seeds])
    given = {name: _cells(table, own[:, _WHO + 1 + _axis(name)]) for name, table in planted.joint.items()}
    people, squares = [], []
    for place, occupation in enumerate((first, second)):
        noise = face_noise([derive_seed(seed, "person", place) for seed in seeds])
        people.append(draw_labels(world, occupation, noise, {name: both[place] for name, both in given.items()}))
        squares.append(render(people[-1], noise).images)
    missing = np.where(own[:, _MISSING] < planted.alone, (own[:, _WHO] < 0.5).astype(np.int64), -1)
    for place, square in enumerate(squares):
        _empty(square, missing == place)
    left = (own[:, _SIDE] < 0.5).astype(np.int64)
    order = torch.as_tensor(left == 0)[:, None, None, None]
    images = torch.where(order, torch.cat(squares, -1), torch.cat(squares[::-1], -1))
    return DrawnPairs(images, (people[0], people[1]), left, missing)


def _uniforms(seed: int) -> Floats:
    return np.random.default_rng(derive_seed(seed, "pair")).random(_WHO + 1 + len(ATTRIBUTES))


def _axis(attribute: str) -> int:
    return tuple(ATTRIBUTES).index(attribute)


def _cells(table: Floats, uniforms: Floats) -> tuple[Ints, Ints]:
    """Return the groups of both people for each uniform number, by the inverse CDF of a joint table."""
    edges = np.cumsum(table.ravel())
    cells = np.minimum(np.searchsorted(edges, uniforms * edges[-1], side="right"), table.size - 1)
    first, second = np.unravel_index(cells, table.shape)
    return first.astype(np.int64), second.astype(np.int64)


def _empty(squares: Tensor, rows: npt.NDArray[np.bool_]) -> None:
    """Replace some squares by their background alone, in place."""
    chosen = torch.as_tensor(np.flatnonzero(rows))
    squares[chosen] = squares[chosen][:, :, :1, :1].expand(-1, -1, *squares.shape[-2:])
