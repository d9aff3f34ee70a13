"""Coverage of shares: of a group, a combination of groups, unclassified images, a judge's correct answers, and more.

All use one interval (``audit.measure.inference.intervals.share_estimate``), and every outcome is enumerated.

The share that determines two-stage sampling has its own interval, studied on simulated designs.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.two_stage import TwoStage, two_stage_interval
from benchmarks.coverage.settings import ACCURACIES, CONFIDENCE, GROUPS, IMAGES, TRUTHS, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]

DESIGNS = {"pilot 32, ± 0.1": TwoStage(32, 0.1), "pilot 64, ± 0.05": TwoStage(64, 0.05)}


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 4), (8, 50, 500)) if quick else (GROUPS, IMAGES)
    fixed = [
        Setting(k, n, truth, accuracy)
        for k, n, truth, accuracy in itertools.product(groups, images, TRUTHS, ACCURACIES)
        if exists(k, truth)
    ]
    staged = itertools.product(DESIGNS, ("parity", "mild", "strong", "rare", "rendered"))
    return fixed + [Setting(2, DESIGNS[detail].pilot, truth, detail=detail) for detail, truth in staged]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Study every share of the cell."""
    if setting.detail:
        return [_two_stages(setting, simulations)]
    return [_fixed(setting, share) for share in np.unique(setting.labels.round(12)).tolist()]


def _fixed(setting: Setting, share: float) -> Tally:
    intervals = {name: _ends(setting.n, name) for name in (OURS, "wilson", "clopper_pearson")}
    weights = binom.pmf(np.arange(setting.n + 1), setting.n, share)
    return tallied("share", setting, share, intervals, weights=weights)


@cache
def _ends(n: int, name: str) -> Floats:
    """Return the interval of every count of ``n`` images, shape (n + 1, 2)."""
    if name == OURS:
        return np.array([(one.low, one.high) for one in (share_estimate(k, n, CONFIDENCE) for k in range(n + 1))])
    method = {"wilson": "wilson", "clopper_pearson": "exact"}[name]
    return np.array([binomtest(k, n).proportion_ci(CONFIDENCE, method) for k in range(n + 1)])


def _two_stages(setting: Setting, simulations: int) -> Tally:
    design, rng, share = DESIGNS[setting.detail], setting.rng(), float(setting.labels[0])
    first = rng.binomial(design.pilot, share, size=simulations)
    every = first + rng.binomial(design.totals[first] - design.pilot, share)
    outcomes, times = np.unique(np.stack([first, every], axis=1), axis=0, return_counts=True)
    found = [two_stage_interval(design, *outcome) for outcome in outcomes.tolist()]
    ends = [(one.low, one.high) for one in found]
    return tallied("share of two stages", setting, share, {OURS: ends}, weights=times)
