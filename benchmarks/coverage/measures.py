"""Coverage of common measures of shares: ratios, entropies, divergences, with hard labels and a uniform target."""

from __future__ import annotations

import itertools

import numpy as np

from audit.measure.discrepancy.fairness import uniform
from audit.measure.discrepancy.group_measures import MEASURES, group_measures
from benchmarks.coverage.settings import CONFIDENCE, GROUPS, IMAGES, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 3), (8, 50)) if quick else (GROUPS, IMAGES)
    truths = ("parity", "mild", "strong", "rare", "rendered")
    return [Setting(k, n, truth) for k, n, truth in itertools.product(groups, images, truths) if exists(k, truth)]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return a tally per measure."""
    goal = np.array(uniform(setting.groups))
    drawn = setting.rng().multinomial(setting.n, setting.labels, size=simulations)
    counts, times = np.unique(drawn, axis=0, return_counts=True)
    found = [group_measures(row, goal, CONFIDENCE) for row in counts]
    return [
        tallied(
            measure.label,
            setting,
            float(measure.function(setting.labels, goal)),
            {OURS: [(row[name].low, row[name].high) for row in found]},
            weights=times,
        )
        for name, measure in MEASURES.items()
    ]
