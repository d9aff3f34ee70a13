"""Multiple testing: Holm for gates, Benjamini-Hochberg for findings.

An audit of 30 occupations and three attributes has 90 tests. At a level of 5 % each, four or five of them would be
significant for a perfectly fair model.
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
    """The result of the step-down procedure for one hypothesis.

    Attributes:
        rejected: Whether it was rejected.
        level: The level at which it was rejected, or last tested.
    """

    rejected: bool
    level: float


def holm_steps(rejects: Sequence[Callable[[float], bool]], level: float = 0.05) -> tuple[HolmStep, ...]:
    """Step down through tests that are given as functions of a level, for example by intervals.

    With m hypotheses every test starts at ``level / m``. Each rejection leaves one hypothesis fewer, and the others are
    tested again at ``level / (m - rejected)``. For tests of the form p ≤ level this is Holm's procedure (Holm 1979),
    which is valid for any dependence between the tests.

    Args:
        rejects: One test per hypothesis; a test that rejects at a level must reject at every higher one.
        level: Probability of any wrong rejection, in (0, 1).

    Raises:
        ValueError: If there are no tests, or the level is not in (0, 1).
    """
    if not rejects:
        raise ValueError("expected at least one test to step through, found none")
    _check_level(level)
    m = len(rejects)

    def step(rejected: int) -> float:
        return level / (m - min(rejected, m - 1))

    def needs(test: Callable[[float], bool]) -> int:
        return _first(m, lambda rejected: test(step(rejected)))

    # The number of rejections after which each test rejects; bisection needs fewer calls of a test than every round.
    needed = np.array(list(map(needs, rejects)))
    decided = np.full(m, -1)
    while ((decided < 0) & (needed <= (rejected := int((decided >= 0).sum())))).any():
        decided[(decided < 0) & (needed <= rejected)] = rejected
    return tuple(HolmStep(after >= 0, step(after if after >= 0 else rejected)) for after in decided.tolist())


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted for the false discovery rate, (m,) to (m,) (Benjamini and Hochberg 1995).

    Of the hypotheses rejected at a level, at most that share is expected to be false, for independent tests and for
    positively dependent ones.

    Raises:
        ValueError: If there are no p-values, or one is outside [0, 1].
    """
    adjusted: Floats = false_discovery_control(_checked(p_values))
    return adjusted


def findings(p_values: Mapping[Key, float], level: float = 0.05) -> dict[Key, float]:
    """Return the significant departures from parity with adjusted p-values, the smallest first.

    Benjamini and Hochberg (1995): of the list, at most the share ``level`` is expected to be false, for independent
    tests (prompts have different images) and for positively dependent ones.

    Args:
        p_values: Key of the test → its p-value.
        level: Largest expected share of false findings, in (0, 1).

    Raises:
        ValueError: If there are no p-values, or one is outside [0, 1].
    """
    _check_level(level)
    adjusted = benjamini_hochberg(list(p_values.values()))
    listed = {key: float(p) for key, p in zip(p_values, adjusted, strict=True) if p <= level}
    return dict(sorted(listed.items(), key=lambda item: item[1]))


def _first(m: int, holds: Callable[[int], bool]) -> int:
    """Return the smallest number in [0, m) for which the monotone ``holds`` is true; m + 1 if there is none."""
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
