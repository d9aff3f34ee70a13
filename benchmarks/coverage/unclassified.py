"""Figures of all images where some have no perceived group, whose number depends on the group.

The judge leaves a tenth to two fifths of the first group unclassified and a twentieth of the others, and errs by the
setting's accuracy; below 1 its confusion matrix is known from 200 labelled images per group and taken out. What every
interval is to hold is the figure of all images, as they truly are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from audit.measure.discrepancy.fairness import uniform
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.unclassified.all_images import AllImages
from benchmarks.coverage.settings import CONFIDENCE, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

LABELS = 200
MISSING = {"a tenth missing": 0.1, "two fifths missing": 0.4}
ELSEWHERE = 0.05


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 3), (50,)) if quick else ((2, 3, 4), (50, 500))
    every = itertools.product(groups, images, ("parity", "strong", "rare"), (1.0, 0.85), MISSING)
    return [Setting(k, n, t, a, "hard", detail) for k, n, t, a, detail in every if exists(k, t)]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tallies of the first group's share and of the discrepancy."""
    shares, distances = [], []
    for images in _drawn(setting, simulations):
        shares.append(images.share_interval(0, CONFIDENCE))
        distances.append(images.discrepancy_interval(CONFIDENCE))
    truth = float(np.linalg.norm(setting.shares - 1 / setting.groups))
    return [
        tallied("share of all images", setting, float(setting.shares[0]), {OURS: shares}),
        tallied("discrepancy of all images", setting, truth, {OURS: distances}),
    ]


def _drawn(setting: Setting, simulations: int) -> Iterator[AllImages]:
    rng, groups = setting.rng(), setting.groups
    gone = np.full(groups, ELSEWHERE)
    gone[0] = MISSING[setting.detail]
    q = np.append((setting.shares * (1 - gone)) @ setting.rates, setting.shares @ gone)
    goal, names = np.array([uniform(groups)]), tuple(map(str, range(groups)))
    for _ in range(simulations):
        counts = rng.multinomial(setting.n, q)
        codes = np.repeat(np.append(np.arange(groups), -1), counts)
        matrix = None
        if setting.accuracy < 1:
            matrix = ConfusionMatrix.of(names, rng.multinomial(LABELS, setting.rates))
        yield AllImages(codes, np.zeros(setting.n, dtype=np.int64), goal, matrix=matrix)
