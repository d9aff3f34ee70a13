"""Many questions at once: Holm for gates, where one wrong answer is too many, Benjamini–Hochberg for lists of findings.

An audit of 30 occupations and three attributes asks 90 questions. Tested at 5 % each, four or five of them would find
something in a perfectly fair model.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

Floats = NDArray[np.float64]
Key = TypeVar("Key")


@dataclass(frozen=True)
class HolmStep:
    """What the step-down procedure did with one hypothesis.

    Attributes:
        rejected: Whether it was rejected.
        level: The level at which it was rejected, or last tested.
    """

    rejected: bool
    level: float


def holm_steps(rejects: Sequence[Callable[[float], bool]], level: float = 0.05) -> tuple[HolmStep, ...]:
    """Step down through tests that are known only as "does it reject at this level?", as an interval is.

    With m hypotheses every test starts at ``level / m``; each rejection leaves one hypothesis fewer, and the rest are
    tested again at ``level / (m - rejected)``. With tests of the kind p ≤ level this is Holm's procedure (Holm 1979),
    valid whatever the tests have to do with each other.

    Args:
        rejects: One test per hypothesis; a test that rejects at a level must reject at every higher one.
        level: Chance of any wrong rejection, in (0, 1).

    Raises:
        ValueError: If there is no test, or the level is not in (0, 1).
    """
    if not rejects:
        raise ValueError("expected at least one test to step through, found none")
    _check_level(level)
    m = len(rejects)

    def step(rejected: int) -> float:
        return level / (m - min(rejected, m - 1))

    def needs(test: Callable[[float], bool]) -> int:
        return _first(m, lambda rejected: test(step(rejected)))

    # After so many rejections each test rejects; found by halving, a test is asked a few times and not every round.
    needed = np.array(list(map(needs, rejects)))
    decided = np.full(m, -1)
    while ((decided < 0) & (needed <= (rejected := int((decided >= 0).sum())))).any():
        decided[(decided < 0) & (needed <= rejected)] = rejected
    return tuple(HolmStep(after >= 0, step(after if after >= 0 else rejected)) for after in decided.tolist())


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted for the false discovery rate, (m,) to (m,) (Benjamini and Hochberg 1995).

    Of what is called at a level, at most that share is expected to be false, for independent tests and for positively
    dependent ones.

    Raises:
        ValueError: If nothing was tested, or a p-value lies outside [0, 1].
    """
    adjusted: Floats = false_discovery_control(_checked(p_values))
    return adjusted


def findings(p_values: Mapping[Key, float], level: float = 0.05) -> dict[Key, float]:
    """Return what departs from parity, with adjusted p-values, the clearest first.

    Benjamini and Hochberg (1995): of the list, at most the share ``level`` is expected to be false, for independent
    tests (prompts have images of their own) and for positively dependent ones.

    Args:
        p_values: What was tested → its p-value.
        level: Share of false findings to expect at most, in (0, 1).

    Raises:
        ValueError: If nothing was tested, or a p-value lies outside [0, 1].
    """
    _check_level(level)
    adjusted = benjamini_hochberg(list(p_values.values()))
    listed = {key: float(p) for key, p in zip(p_values, adjusted, strict=True) if p <= level}
    return dict(sorted(listed.items(), key=lambda item: item[1]))


def _first(m: int, holds: Callable[[int], bool]) -> int:
    """Return the least number in [0, m) that ``holds``, which then holds for all above it; m + 1 where none does."""
    if holds(0):
        return 0
    if m == 1 or not holds(m - 1):
        return m + 1
    return bisect.bisect_left(range(m), True, lo=1, hi=m - 1, key=holds)


def _checked(p_values: ArrayLike) -> Floats:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not p.size:
        raise ValueError(f"expected at least one p-value in one row, found shape {p.shape}; leave out what has no test")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], found {p[~((p >= 0) & (p <= 1))].tolist()}")
    return p


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"expected a level in (0, 1), found {level}")
