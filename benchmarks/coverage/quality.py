"""Coverage of quality figures: the mean cosine of images (CLIP-I, CLIP-T) and the kernel distance (KID).

Cosines are drawn from a skewed distribution, 1 − Exponential / 8 cut at −1. Features are normal in eight dimensions,
those of the edited set moved by the cell's detail in every dimension; rows are paired by noise and correlate.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from audit.measure.image_sets.kernel import kernel_distance
from audit.measure.inference.intervals import mean_interval
from benchmarks.coverage.settings import CONFIDENCE, Setting
from benchmarks.coverage.tally import OURS, Tally, tallied

DIMENSIONS, CORRELATION = 8, 0.6
MOVED = {"moved 0": 0.0, "moved 0.2": 0.2, "moved 0.5": 0.5}


def settings(quick: bool) -> list[Setting]:
    """Return the cells; groups are irrelevant here."""
    images = (20, 100) if quick else (8, 20, 50, 100, 500)
    kernel = itertools.product(images if quick else (20, 100), MOVED)
    return [
        *(Setting(2, n, "parity", detail="cosines") for n in images),
        *(Setting(2, n, "parity", detail=moved) for n, moved in kernel),
    ]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tally of the cell."""
    return [_cosine(setting, simulations) if setting.detail == "cosines" else _kernel(setting, simulations)]


def _cosine(setting: Setting, simulations: int) -> Tally:
    values = np.maximum(-1.0, 1 - setting.rng().exponential(1 / 8, size=(simulations, setting.n)))
    found = [mean_interval(row, CONFIDENCE) for row in values]
    truth = 1 - (1 - math.exp(-16)) / 8
    return tallied("mean cosine", setting, truth, {OURS: [(one.low, one.high) for one in found]})


def _kernel(setting: Setting, simulations: int) -> Tally:
    rng, shift = setting.rng(), MOVED[setting.detail]
    ends, values = [], []
    for _ in range(simulations):
        common = rng.normal(size=(setting.n, DIMENSIONS)) * math.sqrt(CORRELATION)
        own = rng.normal(size=(2, setting.n, DIMENSIONS)) * math.sqrt(1 - CORRELATION)
        found = kernel_distance(common + own[0] + shift, common + own[1], paired=True)
        ends.append(found.interval(CONFIDENCE))
        values.append(found.value)
    truth = _true_kernel_distance(shift)
    return tallied("kernel distance", setting, truth, {OURS: ends}, errors=np.array(values) - truth)


def _true_kernel_distance(shift: float) -> float:
    """Return E k(x, x') + E k(y, y') − 2E k(x, y) of normal sets a shift apart, k = (x·y / d + 1)³.

    With x ~ N(a, I) and y ~ N(b, I), x·y has mean m = a·b, second central moment s = d + |a|² + |b|² and third central
    moment 6a·b; k's mean follows from E(1 + w)³ with w = x·y / d.
    """

    def mean(of_x: float, of_y: float) -> float:
        d = DIMENSIONS
        m = d * of_x * of_y
        s, third = d + d * of_x**2 + d * of_y**2, 6 * m
        return 1 + 3 * m / d + 3 * (s + m**2) / d**2 + (third + 3 * m * s + m**3) / d**3

    return mean(shift, shift) + mean(0, 0) - 2 * mean(shift, 0)
