"""Coverage of table figures: agreement of two judges, and association of two attributes.

*Agreement*: both judges see the true group of an image with the cell's accuracy, independently. *Together*: the second
attribute repeats the first with probability 0, 0.3 or 0.8 and is otherwise drawn from the same shares, so V equals this
probability. An audit's V covers the groups that occur, and is compared with their V if some groups are missing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from audit.measure.attributes.intersections import dependence
from audit.measure.shares.agreement import cohen_kappa
from benchmarks.coverage.settings import CONFIDENCE, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOGETHER = {"together 0": 0.0, "together 0.3": 0.3, "together 0.8": 0.8}


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 3), (20, 100)) if quick else ((2, 4), (8, 50, 500))
    truths = ("parity", "strong")
    judges = itertools.product(groups, images, truths, (0.95, 0.85, 0.6))
    pairs = itertools.product(groups, images, truths, TOGETHER)
    return [
        *(Setting(k, n, t, accuracy, detail="two judges") for k, n, t, accuracy in judges if exists(k, t)),
        *(Setting(k, n, t, detail=together) for k, n, t, together in pairs if exists(k, t)),
    ]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tally of the cell; tables without a defined figure are drawn again."""
    return [_kappa(setting, simulations) if setting.detail == "two judges" else _v(setting, simulations)]


def _kappa(setting: Setting, simulations: int) -> Tally:
    shares = np.einsum("g,gi,gj->ij", setting.shares, setting.rates, setting.rates)
    chance = float(shares.sum(axis=1) @ shares.sum(axis=0))

    def defined(table: Ints) -> bool:
        return bool(table.sum(axis=1) @ table.sum(axis=0) < table.sum() ** 2)

    tables, times = _drawn(setting, shares, simulations, defined)
    truth = (float(np.trace(shares)) - chance) / (1 - chance)
    ends = [(one.low, one.high) for one in (cohen_kappa(table, CONFIDENCE) for table in tables)]
    return tallied("Cohen's kappa", setting, truth, {OURS: ends}, weights=times)


def _v(setting: Setting, simulations: int) -> Tally:
    together, p = TOGETHER[setting.detail], setting.shares
    shares = together * np.diag(p) + (1 - together) * np.outer(p, p)
    tables, times = _drawn(setting, shares, simulations, lambda table: min(map(sum, _shown(table))) > 1)
    ends, truths = [], []
    for table in tables:
        v = dependence(table).cramers_v
        ends.append((v.low, v.high))
        truths.append(_true_v(shares[np.ix_(*_shown(table))]))
    return tallied("Cramér's V", setting, truths, {OURS: ends}, weights=times)


def _shown(table: Ints) -> tuple[Bools, Bools]:
    """Return which groups of either attribute occur; an audit's V ignores the others."""
    return table.sum(axis=1) > 0, table.sum(axis=0) > 0


def _true_v(shares: Floats) -> float:
    """Return √(φ² / (the smaller side − 1)), φ² = Σ p_ij² / (p_i p_j) − 1: with all groups ``together``."""
    p = shares / shares.sum()
    phi2 = float((p**2 / np.outer(p.sum(axis=1), p.sum(axis=0))).sum()) - 1
    return math.sqrt(max(0.0, phi2) / (min(p.shape) - 1))


def _drawn(setting: Setting, shares: Floats, simulations: int, defined: Callable[[Ints], bool]) -> tuple[Ints, Ints]:
    """Draw tables until enough have a defined figure: return them, (m, K, K), and their frequencies."""
    rng, found = setting.rng(), np.zeros((0, shares.size), dtype=np.int64)
    while len(found) < simulations:
        drawn = rng.multinomial(setting.n, shares.ravel(), size=simulations)
        whole = np.array([defined(table) for table in drawn.reshape(-1, *shares.shape)])
        found = np.concatenate([found, drawn[whole]])[:simulations]
    tables, times = np.unique(found, axis=0, return_counts=True)
    return tables.reshape(-1, *shares.shape), times
