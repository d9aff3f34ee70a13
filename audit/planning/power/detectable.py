"""Smallest departures from a target and smallest changes between arms that n images detect."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from audit.measure.discrepancy.fairness import _distribution, uniform
from audit.planning.power.pairs import smallest_paired_change
from audit.planning.power.parity import Direction, ParityTest
from audit.records.attributes import Attribute


@dataclass(frozen=True)
class Detectable:
    """What n images of one prompt can detect about one attribute.

    Attributes:
        attribute: The attribute.
        n: Classified images per prompt and arm.
        level: Level of each single test.
        power: Chance of detection that is promised.
        direction: The stated direction: the groups that gain.
        distance: Smallest distance from the target that is detected along it, None where none is.
        share: The same as what the largest gain among the groups adds to a share; for two groups |π₁ − r₁|.
        hardest_direction: The direction in which a departure is hardest to see.
        hardest_distance: Smallest distance that is detected in every direction, None where none is.
        paired_change: Smallest change of one group's share between two arms with the same noise, in the middle of the
            scale and as if the pairs were independent (both make it hardest to see), None where none is.
    """

    attribute: str
    n: int
    level: float
    power: float
    direction: tuple[str, ...]
    distance: float | None
    share: float | None
    hardest_direction: tuple[str, ...]
    hardest_distance: float | None
    paired_change: float | None


def planned_level(level: float, tests: int) -> float:
    """Return the level of the first step of Holm and of Benjamini–Hochberg over ``tests`` tests.

    Raises:
        ValueError: If there is no test, or the level is not in (0, 1).
    """
    if tests < 1 or not 0 < level < 1:
        raise ValueError(f"expected at least 1 test and a level in (0, 1), found {tests} tests at {level}")
    return level / tests


def detectable(
    attribute: Attribute,
    n: int,
    *,
    target: ArrayLike | None = None,
    raised: tuple[int, ...] = (0,),
    level: float = 0.05,
    power: float = 0.8,
) -> Detectable:
    """Return the smallest departures from parity, and between arms, that ``n`` images detect.

    Args:
        attribute: The attribute with its groups.
        n: Classified images per prompt and arm, at least 1.
        target: The distribution that counts as fair, shape (K,); uniform unless given.
        raised: The stated direction: indices of the groups that gain.
        level: Level of one test; ``planned_level`` where there are several.
        power: Chance of detection, in (0, 1).

    Raises:
        ValueError: If there is no image, or the target or direction does not fit the groups.
    """
    goal = _distribution(uniform(len(attribute.groups)) if target is None else target)
    test = ParityTest(n, tuple(goal.tolist()), level)
    stated = Direction.towards(raised, goal.size)
    distance = test.smallest_distance(stated, power)
    hardest, hardest_distance = test.hardest(power)
    return Detectable(
        attribute=attribute.name,
        n=n,
        level=level,
        power=power,
        direction=tuple(attribute.groups[index] for index in stated.raised),
        distance=distance,
        share=None if distance is None else distance * max(map(abs, stated.unit)),
        hardest_direction=tuple(attribute.groups[index] for index in hardest.raised),
        hardest_distance=hardest_distance,
        paired_change=smallest_paired_change(n, level=level, power=power),
    )
