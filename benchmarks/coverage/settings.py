"""Settings of a cell: the true group distribution, and a judge of known accuracy.

The judge classifies an image of group g as g with probability a, the accuracy, and as each other group with equal
probability otherwise. Unless a figure is corrected for the judge, the true value is that of the judge's labels of
infinitely many images: π_a = aπ + (1 − a)(1 − π)/(K − 1).

Legend: K groups, n images of a sample, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from audit.calibration.world import World
from audit.records.work import derive_seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCE = 0.95
GROUPS = (2, 3, 4, 7)
IMAGES = (8, 20, 50, 100, 500, 2000)
ACCURACIES = (1.0, 0.95, 0.85)

ROWS_AT_ONCE = 300_000
"""Largest number of image rows in memory."""

RENDERED = {2: "gender", 3: "age", 4: "skin_tone"}
"""The rendered model's attribute with this number of groups."""


@dataclass(frozen=True)
class Setting:
    """One cell of the study.

    Attributes:
        groups: K.
        n: Images per sample.
        truth: Name of the group distribution, see ``TRUTHS``.
        accuracy: Share of images that the judge labels correctly.
        detail: Other settings of the family.
        target: Name of the target distribution, see ``TARGETS``.
    """

    groups: int
    n: int
    truth: str
    accuracy: float = 1.0
    detail: str = ""
    target: str = "even"

    @property
    def shares(self) -> Floats:
        """The true group distribution, shape (K,)."""
        if self.truth in NEAR_TARGET:
            return NEAR_TARGET[self.truth](self.goal)
        return TRUTHS[self.truth](self.groups)

    @property
    def goal(self) -> Floats:
        """The target distribution, shape (K,)."""
        return TARGETS[self.target](self.groups)

    @property
    def labels(self) -> Floats:
        """Distribution of the judge's labels, shape (K,)."""
        return np.asarray(self.shares @ self.rates)

    @property
    def rates(self) -> Floats:
        """P(perceived h | true g), shape (K, K)."""
        apart = (1 - self.accuracy) / (self.groups - 1)
        return np.full((self.groups, self.groups), apart) + (self.accuracy - apart) * np.eye(self.groups)

    def rng(self, purpose: str = "samples") -> np.random.Generator:
        """Return the cell's random generator."""
        return np.random.default_rng(derive_seed("coverage", purpose, *map(str, vars(self).values())))


def batches(samples: int, rows: int) -> Iterator[int]:
    """Yield batch sizes that add up to ``samples``, each with at most ``ROWS_AT_ONCE`` rows."""
    size = max(1, ROWS_AT_ONCE // rows)
    while samples > 0:
        yield min(size, samples)
        samples -= size


def _tilted(groups: int) -> Floats:
    return np.asarray(0.8 / groups + 0.2 * np.eye(groups)[0])


def _strong(groups: int) -> Floats:
    weights = 0.4 ** np.arange(groups)
    return np.asarray(weights / weights.sum())


def _rare(groups: int) -> Floats:
    return np.asarray([1 - 0.02 * (groups - 1), *[0.02] * (groups - 1)])


def _split(groups: int) -> Floats:
    return np.asarray([0.5 - 0.01 * (groups - 2)] * 2 + [0.02] * (groups - 2))


def _rendered(groups: int) -> Floats:
    return max(rendered_shares(groups), key=lambda shares: float(np.linalg.norm(shares - 1 / groups)))


@cache
def rendered_shares(groups: int) -> tuple[Floats, ...]:
    """Return the rendered model's shares of the attribute with K groups, an array (K,) per occupation."""
    world, attribute = World.bundled(), RENDERED[groups]
    return tuple(np.array([*world.share(name, attribute).values()]) for name in world.occupations)


TRUTHS: dict[str, Callable[[int], Floats]] = {
    "parity": lambda groups: np.full(groups, 1 / groups),
    "mild": _tilted,
    "strong": _strong,
    "rare": _rare,
    "split": _split,
    "rendered": _rendered,
}
"""Group distributions. Mild: one group has 0.2 more than the rest of 0.8 shared evenly. Strong: each group has 0.4 of
the previous one. Rare: all but one have 0.02. Split: two groups share evenly what the others, at 0.02 each, leave.
Rendered: the most skewed occupation of the rendered model, in the attribute with this number of groups."""


def _dominated(groups: int) -> Floats:
    return np.asarray({2: [0.05, 0.95], 3: [0.02, 0.03, 0.95], 4: [0.02, 0.03, 0.05, 0.9]}.get(groups) or _SEVEN[0])


def _labour(groups: int) -> Floats:
    return np.asarray({2: [0.2, 0.8], 3: [0.05, 0.15, 0.8], 4: [0.05, 0.1, 0.25, 0.6]}.get(groups) or _SEVEN[1])


_SEVEN = [0.01, 0.01, 0.02, 0.03, 0.05, 0.08, 0.8], [0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.45]

TARGETS: dict[str, Callable[[int], Floats]] = {
    "even": lambda groups: np.full(groups, 1 / groups),
    "dominated": _dominated,
    "labour": _labour,
}
"""Target distributions: equal shares, one dominating group, and shares as in labour statistics."""


def _one_too_often(goal: Floats) -> Floats:
    moved = goal.copy()
    moved[0] += 0.05
    moved[-1] -= 0.05
    return moved


def _one_absent(goal: Floats) -> Floats:
    moved = goal.copy()
    moved[-1] += moved[0]
    moved[0] = 0.0
    return moved


NEAR_TARGET: dict[str, Callable[[Floats], Floats]] = {
    "as wanted": lambda goal: goal,
    "one too often": _one_too_often,
    "one absent": _one_absent,
    "halfway to even": lambda goal: (goal + 1 / len(goal)) / 2,
}
"""Group distributions that depend on the target: the target itself; its first group .05 more frequent at the cost of
the last; its first group missing; halfway between the target and equal shares."""


def exists(groups: int, truth: str) -> bool:
    """Return whether this distribution exists and has no other name."""
    return not (groups == 2 and truth == "split") and (truth != "rendered" or groups in RENDERED)
