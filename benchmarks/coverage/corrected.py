"""Coverage of figures that are corrected for the judge's errors.

The judge's rates are estimated from labelled images, which are drawn again for every sample.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.corrected import corrected_discrepancies
from audit.measure.discrepancy.fairness import uniform
from audit.measure.discrepancy.samples import Samples
from audit.measure.shares.classifier_error import ConfusionMatrix, IllConditioned
from audit.measure.shares.corrected import corrected_shares
from benchmarks.coverage.settings import CONFIDENCE, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]

LABELLED = {"200 labels": 200, "50 labels": 50}


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 3), (8, 50)) if quick else ((2, 3, 7), (8, 50, 500))
    truths = ("parity", "strong")
    every = itertools.product(groups, images, truths, (0.85,), ("200 labels",))
    few = itertools.product((2, 3), (50,), ("parity", "strong"), (0.85,), ("50 labels",))
    return [Setting(k, n, t, a, detail) for k, n, t, a, detail in (*every, *few) if exists(k, t)]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tallies of the rarest and the most frequent share, and of the squared discrepancy."""
    goal, rng, groups = uniform(setting.groups), setting.rng(), setting.groups
    names, labels = tuple(map(str, range(groups))), LABELLED[setting.detail]
    shares, squares, values = [], [], []
    for _ in range(simulations):
        matrix = ConfusionMatrix.of(names, rng.multinomial(labels, setting.rates))
        counts = rng.multinomial(setting.n, setting.labels)[None]
        try:
            found = corrected_shares(counts, matrix, CONFIDENCE)
        except IllConditioned:
            continue  # refused, therefore without a figure
        (squared,) = corrected_discrepancies(Samples.of_counts(counts), goal, matrix, CONFIDENCE)
        shares.append(np.stack([found.low[0], found.high[0]], axis=1))
        squares.append((squared.low, squared.high))
        values.append(squared.value)
    ends, truth = np.array(shares), float(((setting.shares - 1 / groups) ** 2).sum())
    ranks = np.argsort(setting.shares, kind="stable")
    return [
        *(
            tallied("corrected share", setting, float(setting.shares[g]), {OURS: ends[:, g]})
            for g in sorted({int(ranks[0]), int(ranks[-1])})
        ),
        tallied("corrected squared discrepancy", setting, truth, {OURS: squares}, errors=np.array(values) - truth),
    ]
