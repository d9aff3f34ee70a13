"""Coverage of the fairness discrepancy's interval, compared with alternatives.

*Bootstrap*: the percentile bootstrap of the plug-in. *Joint*: all distances inside a box of simultaneous intervals of
all shares. With two groups also the folded Wilson and Clopper–Pearson intervals of a share. For uneven targets only the
interval itself is studied. Samples with fixed numbers of images steered to each group are studied too: their interval
treats the images as identically distributed.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from audit.measure.discrepancy.estimate import debiased_squares, discrepancy_intervals
from audit.measure.discrepancy.fairness import maximum, uniform
from audit.measure.discrepancy.samples import Samples
from benchmarks.coverage.settings import (
    CONFIDENCE,
    GROUPS,
    NEAR_TARGET,
    TRUTHS,
    Setting,
    batches,
    exists,
)
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIGURE = "fairness discrepancy"
STEERED = "steered"

RESAMPLES = 200
"""Resamples of the percentile bootstrap, enough to estimate coverage."""


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups = (2, 4) if quick else GROUPS
    images = (8, 50, 500)
    accuracies = {n: (1.0, 0.85) if n == images[-1] else (1.0,) for n in images}
    every = itertools.product(groups, images, TRUTHS)
    drawn = [Setting(k, n, t, accuracy) for k, n, t in every if exists(k, t) for accuracy in accuracies[n]]
    steered = itertools.product(groups, images[1:], ("strong", "rare"))
    uneven = itertools.product(groups[:3], (8, 61, 500), NEAR_TARGET, ("dominated", "labour"))
    return [
        *drawn,
        *(Setting(k, n - n % k, truth, detail=STEERED) for k, n, truth in steered),
        *(Setting(k, n, truth, target=target) for k, n, truth, target in uneven),
    ]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Simulate one cell; equal counts are computed once."""
    if setting.detail == STEERED:
        return [_steered(setting, simulations)]
    return [_counted(setting, simulations)]


def _counted(setting: Setting, simulations: int) -> Tally:
    drawn = setting.rng().multinomial(setting.n, setting.labels, size=simulations)
    counts, times = np.unique(drawn, axis=0, return_counts=True)
    samples = Samples.of_counts(counts)
    intervals = {OURS: discrepancy_intervals(samples, setting.goal, CONFIDENCE)}
    if setting.target == "even":
        intervals |= _replaced(setting, counts)
    squared = _distance(setting, setting.labels) ** 2
    errors = debiased_squares(samples, setting.goal) - squared
    return tallied(FIGURE, setting, math.sqrt(squared), intervals, weights=times, errors=errors)


def _replaced(setting: Setting, counts: Ints) -> dict[str, Floats]:
    """Return the alternative intervals for an even target."""
    intervals = {
        "bootstrap": _bootstrap_of_counts(counts, setting.rng("bootstrap")),
        "joint": _box(*_wilson(counts, (1 - CONFIDENCE) / setting.groups)),
    }
    if setting.groups == 2:
        intervals["wilson"] = _box(*_wilson(counts, 1 - CONFIDENCE))
        intervals["clopper_pearson"] = _box(*_clopper_pearson(counts))
    return intervals


def _steered(setting: Setting, simulations: int) -> Tally:
    """Steer equal numbers of images to each group; half of the images follow."""
    goal, rng, n, groups = uniform(setting.groups), setting.rng(), setting.n, setting.groups
    assigned = np.arange(n) % groups
    ours, squares = [], []
    for size in batches(simulations, n):
        own = rng.choice(groups, size=(size, n), p=setting.labels)
        labels = np.where(rng.random((size, n)) < 0.5, assigned, own)
        samples = _samples(np.eye(groups)[labels], np.tile(assigned, size))
        ours.append(discrepancy_intervals(samples, goal, CONFIDENCE))
        squares.append(debiased_squares(samples, goal))
    distance = _distance(setting, (setting.labels + 1 / groups) / 2)
    errors = np.concatenate(squares) - distance**2
    return tallied(FIGURE, setting, distance, {OURS: np.concatenate(ours)}, errors=errors)


def _samples(rows: Floats, strata: Ints | None = None) -> Samples:
    """Gather S samples of n rows each, shape (S, n, K)."""
    size, n, groups = rows.shape
    return Samples.of(rows.reshape(-1, groups), np.repeat(np.arange(size), n), size, strata)


def _distance(setting: Setting, labels: Floats) -> float:
    return float(np.linalg.norm(labels - setting.goal))


def _bootstrap_of_counts(counts: Ints, rng: np.random.Generator) -> Floats:
    """Return the percentile bootstrap of the plug-in distance, for comparison: (m, K) to (m, 2)."""
    n = int(counts[0].sum())
    return _percentiles(rng.multinomial(n, counts / n, size=(RESAMPLES, len(counts))).swapaxes(0, 1) / n)


def _percentiles(shares: Floats) -> Floats:
    """Return the ends over resamples of shares (m, R, K), shape (m, 2)."""
    distances = np.linalg.norm(shares - 1 / shares.shape[2], axis=2)
    return np.quantile(distances, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1).T


def _wilson(counts: Ints, alpha: float) -> tuple[Floats, Floats]:
    z, n = ndtri(1 - alpha / 2), counts.sum(axis=1, keepdims=True)
    shares = counts / n
    centre = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _clopper_pearson(counts: Ints) -> tuple[Floats, Floats]:
    n, tail = counts.sum(axis=1, keepdims=True), (1 - CONFIDENCE) / 2
    low = np.where(counts > 0, betaincinv(np.maximum(counts, 1), n - counts + 1, tail), 0.0)
    high = np.where(counts < n, betaincinv(counts + 1, np.maximum(n - counts, 1), 1 - tail), 1.0)
    return low, high


def _box(low: Floats, high: Floats) -> Floats:
    """Return the nearest and the farthest point of boxes (m, K), shape (m, 2)."""
    target = 1 / low.shape[1]
    nearest = np.maximum(0, np.maximum(low - target, target - high))
    farthest = np.linalg.norm(np.maximum(high - target, target - low), axis=1)
    return np.stack([np.linalg.norm(nearest, axis=1), np.minimum(farthest, maximum(uniform(low.shape[1])))], axis=1)
