"""Figures of tables: agreement of two judges, and how closely two attributes go together in a prompt.

*Agreement*: both judges see the truth of an image with the cell's accuracy, independently of each other. *Together*:
the second attribute repeats the first with probability 0, 0.3 or 0.8 and is drawn from the same shares otherwise.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from audit.measure.agreement import cohen_kappa
from audit.measure.intersections import cramers_v
from benchmarks.coverage.settings import CONFIDENCE, Setting, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOGETHER = {"together 0": 0.0, "together 0.3": 0.3, "together 0.8": 0.8}


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 3), (20, 100)) if quick else ((2, 3, 4), (8, 20, 50, 100, 500))
    truths = ("parity", "mild", "strong", "rendered")
    judges = itertools.product(groups, images, truths, (0.95, 0.85, 0.6))
    pairs = itertools.product(groups, images, truths, TOGETHER)
    return [
        *(Setting(k, n, t, accuracy, detail="two judges") for k, n, t, accuracy in judges if exists(k, t)),
        *(Setting(k, n, t, detail=together) for k, n, t, together in pairs if exists(k, t)),
    ]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tally of the cell; tables of which the figure does not exist are left out."""
    return [_kappa(setting, simulations) if setting.detail == "two judges" else _v(setting, simulations)]


def _kappa(setting: Setting, simulations: int) -> Tally:
    shares = np.einsum("g,gi,gj->ij", setting.shares, setting.rates, setting.rates)
    chance = float(shares.sum(axis=1) @ shares.sum(axis=0))
    tables, times = _drawn(setting, shares, simulations)
    defined = np.array([(table.sum(axis=1) @ table.sum(axis=0)) < table.sum() ** 2 for table in tables])
    found = [cohen_kappa(table, CONFIDENCE) for table in tables[defined]]
    truth = (float(np.trace(shares)) - chance) / (1 - chance)
    ends = [(one.low, one.high) for one in found]
    return tallied("Cohen's kappa", setting, truth, {OURS: ends}, weights=times[defined])


def _v(setting: Setting, simulations: int) -> Tally:
    together, p = TOGETHER[setting.detail], setting.shares
    shares = together * np.diag(p) + (1 - together) * np.outer(p, p)
    tables, times = _drawn(setting, shares, simulations)
    full = np.array([bool(table.sum(axis=0).all() and table.sum(axis=1).all()) for table in tables])
    found = [cramers_v(table, CONFIDENCE) for table in tables[full]]
    # V² is Σ (p_ij − p_i p_j)² / (p_i p_j) by K − 1: here the part that repeats, squared, whatever the shares.
    ends = [(one.low, one.high) for one in found]
    return tallied("Cramér's V", setting, together, {OURS: ends}, weights=times[full])


def _drawn(setting: Setting, shares: Floats, simulations: int) -> tuple[Ints, Ints]:
    drawn = setting.rng().multinomial(setting.n, shares.ravel(), size=simulations)
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    return tables.reshape(-1, *shares.shape), times
