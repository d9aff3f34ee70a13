"""Coverage of one-sided interval ends, as gates use them, at the confidences of gates.

A gate that is one of several needs more confidence, and only one end: the end may miss with half of the interval's
error rate. Targets are even, dominated by one group, or as in labour statistics; the model draws the target itself, or
shares near it. If there are few outcomes, each is counted with its probability.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multinomial

from audit.measure.discrepancy.estimate import discrepancy_intervals
from audit.measure.discrepancy.fairness import maximum
from audit.measure.discrepancy.samples import Samples
from audit.measure.unclassified.all_images import AllImages
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCES = (0.95, 0.99, 0.99375, 0.9975, 0.9995)
"""Confidences of one gate at 95 % and 99 %, one of 8 and 20 gates at 95 %, and one of 20 at 99 %."""

COUNTED, LEAST_CHANCE = 2_500, 1e-9
"""Largest number of outcomes to enumerate with their probabilities; negligible ones are skipped."""

TOGETHER = 32
"""Number of samples whose intervals are computed together at all confidences, so that tests run once."""

NEAR = ("as wanted", "one too often", "one absent")
"""True shares for an uneven target."""

PROMPTS = {"mean over 2 prompts": 2, "mean over 7 prompts": 7, "mean over 40 prompts": 40}


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    if quick:
        return [
            Setting(3, 20, "one too often", target="dominated"),
            Setting(2, 13, "one too often", detail=next(iter(PROMPTS))),
        ]
    uneven = itertools.product((2, 3, 4), (8, 61, 500), NEAR, ("dominated", "labour"))
    even = itertools.product((2, 3, 4), (8, 61, 500), ("parity", "strong", "rare"))
    seven = itertools.product((8, 100, 500), ("as wanted", "one too often"))
    means = itertools.product((13,), ("parity", "rare"), PROMPTS)
    return [
        *(Setting(k, n, truth, target=target) for k, n, truth, target in uneven),
        *(Setting(k, n, truth) for k, n, truth in even),
        *(Setting(7, n, truth, target="labour") for n, truth in seven),
        *(Setting(2, n, truth, detail=detail) for n, truth, detail in means),
    ]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return a tally per interval end and confidence."""
    if setting.detail:
        return _means(setting, simulations)
    counts, weights = _outcomes(setting, simulations)
    ends = np.concatenate(
        [_intervals(setting, part) for part in np.array_split(counts, -(-len(counts) // TOGETHER))], 1
    )
    truth, largest = float(np.linalg.norm(setting.shares - setting.goal)), maximum(tuple(setting.goal))
    return [
        tally
        for confidence, found in zip(CONFIDENCES, ends, strict=True)
        for tally in _either_end("discrepancy", setting, (truth, largest), found, confidence, weights)
    ]


def _intervals(setting: Setting, counts: Ints) -> Floats:
    """Return the intervals of some outcomes at every confidence, shape (confidences, m, 2)."""
    samples = Samples.of_counts(counts)
    found = [discrepancy_intervals(samples, setting.goal, each, each_tail=True) for each in CONFIDENCES]
    return np.array(found)


def _means(setting: Setting, simulations: int) -> list[Tally]:
    """Average over prompts with equal true shares, as a gate on the whole arm does."""
    prompts = PROMPTS[setting.detail]
    drawn = setting.rng().multinomial(setting.n, setting.shares, size=(simulations, prompts))
    goals = np.broadcast_to(setting.goal, (prompts, setting.groups))
    owners = np.repeat(np.arange(prompts), setting.n)
    audits = [
        AllImages(np.repeat(np.tile(np.arange(setting.groups), prompts), row.ravel()), owners, goals) for row in drawn
    ]
    square = float(((setting.shares - setting.goal) ** 2).sum())
    largest = maximum(tuple(setting.goal)) ** 2
    return [
        tally
        for confidence in CONFIDENCES
        for tally in _either_end(
            "mean squared discrepancy over prompts",
            setting,
            (square, largest),
            np.array([one.mean_square_interval(confidence) for one in audits]),
            confidence,
        )
    ]


def _either_end(
    figure: str,
    setting: Setting,
    truth_and_largest: tuple[float, float],
    ends: Floats,
    confidence: float,
    weights: Floats | None = None,
) -> Iterator[Tally]:
    """Yield how often the lower end is at most the truth, and how often the upper end is at least the truth."""
    truth, largest = truth_and_largest
    below = np.stack([ends[:, 0], np.full(len(ends), max(largest, truth))], axis=1)
    above = np.stack([np.zeros(len(ends)), ends[:, 1]], axis=1)
    for name, found in ((f"{figure}, lower end", below), (f"{figure}, upper end", above)):
        tally = tallied(name, setting, truth, {OURS: found}, weights=weights)
        yield replace(tally, confidence=(1 + confidence) / 2)


def _outcomes(setting: Setting, simulations: int) -> tuple[Ints, Floats]:
    """Return outcomes, (m, K), with their probabilities or their frequencies among the samples."""
    n, groups = setting.n, setting.groups
    if math.comb(n + groups - 1, groups - 1) <= COUNTED:
        every = np.array([row for row in itertools.product(range(n + 1), repeat=groups - 1) if sum(row) <= n])
        counts = np.column_stack([every, n - every.sum(axis=1)])
        chances = multinomial.pmf(counts, n, setting.shares)
        seen = chances > LEAST_CHANCE
        return counts[seen], chances[seen] / chances[seen].sum()
    drawn = setting.rng().multinomial(n, setting.shares, size=simulations)
    counts, times = np.unique(drawn, axis=0, return_counts=True)
    return counts, times.astype(np.float64)
