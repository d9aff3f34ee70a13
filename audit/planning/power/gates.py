"""Predicts how a gate will be decided, from the number of images and the true shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from audit.measure.discrepancy.fairness import _distribution
from audit.measure.inference.intervals import share_estimate
from audit.planning.power.search import NEGLIGIBLE, every_outcome, settled

Floats = NDArray[np.float64]
CountsInterval = Callable[[NDArray[np.int64], float], tuple[float, float]]
"""(counts of shape (K,), confidence) → the interval of a gate's figure."""


@dataclass(frozen=True)
class GatePower:
    """Probabilities of the three verdicts of a gate, given the true shares; they add up to 1."""

    passes: float
    fails: float
    inconclusive: float


@dataclass(frozen=True)
class PlannedGate:
    """A gate on a figure of the counts, before any image is counted.

    Attributes:
        limit: The gate's limit.
        side: Whether it is the largest or the smallest value allowed.
        interval: The interval that the gate will be judged by, for example ``share_interval(0)``, or that of the
            fairness discrepancy with its target filled in.
        confidence: Its confidence: ``1 - planned_level(0.05, gates)`` where a run has several gates.
        samples: Outcomes to draw where there are too many to go through; each costs an interval.
    """

    limit: float
    side: Literal["max", "min"]
    interval: CountsInterval
    confidence: float = 0.95
    samples: int = 2_000


def gate_power(gate: PlannedGate, n: int, shares: ArrayLike) -> GatePower:
    """Return how a gate will be decided with n classified images, given the true shares of shape (K,).

    Raises:
        ValueError: If there is no image or the shares are no distribution.
    """
    truth = _distribution(shares)
    if n < 1:
        raise ValueError(f"expected at least 1 image, found {n}")
    passes = fails = total = 0.0
    for counts, weight in _likely(n, truth, gate.samples):
        low, high = gate.interval(counts, gate.confidence)
        inside, outside = (high, low) if gate.side == "max" else (-low, -high)
        bound = gate.limit if gate.side == "max" else -gate.limit
        passes, fails, total = passes + (inside <= bound) * weight, fails + (outside > bound) * weight, total + weight
    passes, fails = passes / total, fails / total
    return GatePower(passes=passes, fails=fails, inconclusive=max(0.0, 1 - passes - fails))


def images_for_gate(gate: PlannedGate, shares: ArrayLike, power: float = 0.8, largest: int = 10_000) -> int | None:
    """Return the smallest number of images that decides a gate with probability ``power``; None above ``largest``.

    Decided means: the likelier of pass and fail, which is the right one as soon as anything is decided often.

    Args:
        gate: The gate.
        shares: The assumed truth, shape (K,).
        power: Chance of that verdict, above a half.
        largest: Where the search ends.

    Raises:
        ValueError: If the shares are no distribution.
    """
    truth = _distribution(shares)

    def decided(n: int) -> bool:
        found = gate_power(gate, n, truth)
        return max(found.passes, found.fails) >= power

    return settled(decided, largest)


def share_interval(group: int) -> CountsInterval:
    """Return the interval of one group's share as a function of the counts."""

    def interval(counts: NDArray[np.int64], confidence: float) -> tuple[float, float]:
        found = share_estimate(int(counts[group]), int(counts.sum()), confidence)
        return found.low, found.high

    return interval


def _likely(n: int, truth: Floats, samples: int) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Yield outcomes of n images with their probabilities: all likely ones for two groups, samples for more groups."""
    if truth.size == 2:
        counts, orders = every_outcome(n, truth.size)
        weights = np.exp(orders + xlogy(counts, truth).sum(axis=1))
        kept = weights > NEGLIGIBLE / weights.size
        counts, weights = counts[kept], weights[kept]
    else:
        drawn = np.random.default_rng(1).multinomial(n, truth, size=samples)
        counts, times = np.unique(drawn, axis=0, return_counts=True)
        weights = times / samples
    yield from zip(counts.astype(np.int64), weights.tolist(), strict=True)
