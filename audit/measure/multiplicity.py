"""Many questions at once: Holm for gates, where one wrong answer is too many, Benjamini–Hochberg for lists of findings.

An audit of 30 occupations and three attributes asks 90 questions. Tested at 5 % each, four or five of them would find
something in a perfectly fair model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

Floats = NDArray[np.float64]
Key = TypeVar("Key")

OUTSIDE, UNDECIDED, INSIDE = -1, 0, 1
"""What ``sides`` may say of a gate."""


@dataclass(frozen=True)
class HolmStep:
    """What the step-down procedure did with one hypothesis.

    Attributes:
        rejected: Whether it was rejected.
        level: The level at which it was rejected, or last tested.
    """

    rejected: bool
    level: float


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values (Holm 1979), valid whatever the tests have to do with each other.

    Rejecting every adjusted value ≤ α makes the chance of even one wrong rejection at most α.

    Args:
        p_values: One per hypothesis, shape (m,).

    Returns:
        Adjusted p-values in the same order, shape (m,).

    Raises:
        ValueError: If there is no p-value, or one lies outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    steps = (p.size - np.arange(p.size)) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def holm_steps(rejects: Sequence[Callable[[float], bool]], level: float = 0.05) -> tuple[HolmStep, ...]:
    """Step down through tests that are known only as "does it reject at this level?", as an interval is.

    With m hypotheses every test starts at ``level / m``; each rejection leaves one hypothesis fewer, and the rest are
    tested again at ``level / (m - rejected)``. With tests of the kind p ≤ level this is Holm's procedure.

    Args:
        rejects: One test per hypothesis; a test that rejects at a level must reject at every higher one.
        level: Chance of any wrong rejection, in (0, 1).

    Raises:
        ValueError: If there is no test, or the level is not in (0, 1).
    """
    if not rejects:
        raise ValueError("expected at least one test to step through, found none")
    _check_level(level)
    rejected: dict[int, float] = {}
    while True:
        step = level / max(1, len(rejects) - len(rejected))
        found = [index for index, test in enumerate(rejects) if index not in rejected and test(step)]
        rejected |= dict.fromkeys(found, step)
        if not found:
            break
    return tuple(HolmStep(index in rejected, rejected.get(index, step)) for index in range(len(rejects)))


def sides(p_outside: ArrayLike, p_inside: ArrayLike, level: float = 0.05) -> NDArray[np.int8]:
    """Say on which side of its limit each gate's figure lies, with a chance of at most ``level`` of any wrong answer.

    Every gate has two one-sided hypotheses. Holm at ``level / 2`` over "it is outside" guards against passing wrongly,
    Holm at ``level / 2`` over "it is inside" against failing wrongly; the sum of both holds for tests that depend on
    each other in any way. (Holm over two-sided tests with the direction read off afterwards decides more, but is proven
    for special dependence only: Shaffer 1980.) One gate alone is decided by its 95 % interval.

    Args:
        p_outside: p-values of "the figure is outside the limit", shape (m,); small ones speak for passing.
        p_inside: p-values of "the figure is inside the limit", shape (m,).
        level: Chance of any wrong answer, in (0, 1).

    Returns:
        ``INSIDE``, ``OUTSIDE`` or ``UNDECIDED`` per gate, shape (m,).

    Raises:
        ValueError: If there is no gate, the shapes differ, or a p-value lies outside [0, 1].
    """
    inside, outside = holm(p_outside) <= level / 2, holm(p_inside) <= level / 2
    _check_level(level)
    if inside.shape != outside.shape:
        raise ValueError(f"expected two p-values per gate, found {inside.size} and {outside.size}")
    both = inside & outside  # p-values that contradict each other decide nothing
    return np.select([both, inside, outside], [UNDECIDED, INSIDE, OUTSIDE], UNDECIDED).astype(np.int8)


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
