"""Coverage of figures over all images if some have no perceived group, with group-dependent missingness.

The judge leaves a tenth to two fifths of the first group unclassified and a twentieth of the others. It errs by the
setting's accuracy; below 1, its confusion matrix is estimated from 200 labelled images per group and used for the
correction. Every interval must contain the true figure of all images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.measure.unclassified.all_images import AllImages
from benchmarks.coverage.settings import CONFIDENCE, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

LABELS = 200
MISSING = {"a tenth missing": 0.1, "two fifths missing": 0.4}
ELSEWHERE = 0.05
CONFIDENCES = (CONFIDENCE, 0.9975)
"""Confidence of a printed interval, and of one of 20 gates."""


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 3), (50,)) if quick else ((2, 3), (50, 500))
    every = itertools.product(groups, images, ("strong",), (1.0, 0.85), MISSING)
    uneven = itertools.product(groups, (500,), ("one too often",), (1.0, 0.85), ("a tenth missing",))
    return [
        *(Setting(k, n, t, a, detail) for k, n, t, a, detail in every if exists(k, t)),
        *(Setting(k, n, t, a, detail, "labour") for k, n, t, a, detail in uneven),
    ]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tallies of the first group's share and of the discrepancy at every confidence."""
    drawn = list(_drawn(setting, simulations))
    distance = float(np.linalg.norm(setting.shares - setting.goal))
    found = []
    for confidence in CONFIDENCES:
        shares = [images.share_interval(0, confidence) for images in drawn]
        distances = [images.discrepancy_interval(confidence) for images in drawn]
        of_share = tallied("share of all images", setting, float(setting.shares[0]), {OURS: shares})
        of_distance = tallied("discrepancy of all images", setting, distance, {OURS: distances})
        found += [replace(tally, confidence=confidence) for tally in (of_share, of_distance)]
    return found


def _drawn(setting: Setting, simulations: int) -> Iterator[AllImages]:
    rng, groups = setting.rng(), setting.groups
    gone = np.full(groups, ELSEWHERE)
    gone[0] = MISSING[setting.detail]
    q = np.append((setting.shares * (1 - gone)) @ setting.rates, setting.shares @ gone)
    goal, names = setting.goal[None], tuple(map(str, range(groups)))
    for _ in range(simulations):
        counts = rng.multinomial(setting.n, q)
        codes = np.repeat(np.append(np.arange(groups), -1), counts)
        matrix = None
        if setting.accuracy < 1:
            matrix = ConfusionMatrix.of(names, rng.multinomial(LABELS, setting.rates))
        yield AllImages(codes, np.zeros(setting.n, dtype=np.int64), goal, matrix=matrix)
