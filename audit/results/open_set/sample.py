"""The images that an open set is found in: embeddings, named groups and pictures, in discovery and held-out halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.open_set.components import indicators
from audit.records.inside.open_set import Strip

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

SHOWN = 5
"""Pictures at each end of a strip."""


@dataclass(frozen=True)
class Sample:
    """Images of all prompts.

    Attributes:
        names: P ids of the prompts.
        prompts: (n,) index of each image's prompt.
        numbers: (n,) number of each image in its prompt.
        vectors: (n, d) embeddings.
        codes: Attribute → (n,) index of the group, −1 for none.
        groups: Attribute → number of its groups.
    """

    names: tuple[str, ...]
    prompts: Ints
    numbers: Ints
    vectors: Floats
    codes: Mapping[str, Ints]
    groups: Mapping[str, int]

    @property
    def indicators(self) -> Floats:
        """Indicators (n, G) of the named groups, (n, 0) without attributes."""
        parts = [indicators(self.codes[name], count) for name, count in self.groups.items()]
        return np.concatenate([np.zeros((len(self.prompts), 0)), *parts], axis=1)

    @cached_property
    def strata(self) -> Ints:
        """Combination of named groups of each image, (n,)."""
        if not self.groups:
            return np.zeros(len(self.prompts), int)
        rows = np.stack([self.codes[name] for name in self.groups], axis=1)
        found: Ints = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        return found

    def half(self, *, held_out: bool) -> Ints:
        """Return the rows of one half: the first images of each prompt discover, the others are held out."""
        middle = (int(self.numbers.max()) + 1) // 2
        return np.flatnonzero((self.numbers >= middle) == held_out)

    def key(self, row: int) -> str:
        """Return the key of an image's picture."""
        return f"{self.names[self.prompts[row]]}/{self.numbers[row]}"

    def keys(self, rows: Sequence[int] | Ints) -> tuple[str, ...]:
        """Return the keys of some images."""
        return tuple(self.key(int(row)) for row in rows)

    def strip(self, prompt: int, scores: Floats) -> Strip:
        """Return the held-out images of a prompt with the highest and the lowest scores (n,)."""
        held = self.half(held_out=True)
        own = held[self.prompts[held] == prompt]
        ranked = own[np.argsort(-scores[own], kind="stable")]
        shown = min(SHOWN, len(ranked) // 2)
        return Strip(self.keys(ranked[:shown]), self.keys(ranked[::-1][:shown]))
