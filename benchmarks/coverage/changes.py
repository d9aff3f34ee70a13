"""Coverage of paired changes by an edit, and of differences between two independent samples.

An edit replaces an image's group with probability one half. *Redrawn*: by one from the same distribution, so that
nothing changes overall; *evened*: by a uniform one; *steered*: by the group that the image is steered to, with equal
numbers of images; *lopsided*: always by the first group.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.changes import PairedSamples, discrepancy_changes, two_sample_discrepancy_changes
from audit.measure.discrepancy.fairness import uniform
from audit.measure.discrepancy.samples import Samples
from audit.measure.shares.changes import paired_share_difference_of_counts, two_sample_share_difference
from benchmarks.coverage.settings import CONFIDENCE, Setting, batches, exists
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOVED = 0.5
"""Share of the images that an edit changes."""

TABLES = 10
"""Number of count tables drawn per sample of rows; tables are fast."""

EDITS = ("redrawn", "evened", "steered", "lopsided")


def settings(quick: bool) -> list[Setting]:
    """Return the cells."""
    groups, images = ((2, 4), (8, 50)) if quick else ((2, 4), (8, 50, 500))
    truths = ("parity", "strong", "rare")
    every = itertools.product(groups, images, truths, EDITS)
    return [Setting(k, n, t, detail=edit) for k, n, t, edit in every if exists(k, t)]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tallies of the cell; shares are those of the first group."""
    found = [_paired_squares(setting, simulations)]
    found += [_paired_share(setting, TABLES * simulations), _two_shares(setting, TABLES * simulations)]
    if setting.detail != "steered":  # of two samples the steered one is the evened one
        found.append(_two_squares(setting, simulations))
    return found


def _given(setting: Setting) -> Floats:
    """Return the distribution of the groups that the edit assigns, shape (K,)."""
    if setting.detail == "redrawn":
        return setting.labels
    if setting.detail == "lopsided":
        return np.eye(setting.groups)[0]
    return np.full(setting.groups, 1 / setting.groups)


def _after(setting: Setting) -> Floats:
    return (1 - MOVED) * setting.labels + MOVED * _given(setting)


def _drawn(setting: Setting, size: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the labels of ``size`` samples before and after, both (size, n)."""
    shape = (size, setting.n)
    before = rng.choice(setting.groups, size=shape, p=setting.labels)
    steered = np.broadcast_to(np.arange(setting.n) % setting.groups, shape)
    given = steered if setting.detail == "steered" else rng.choice(setting.groups, size=shape, p=_given(setting))
    return before, np.where(rng.random(shape) < MOVED, given, before)


def _squared_truths(setting: Setting, after: Floats) -> tuple[float, float]:
    even = 1 / setting.groups
    first, second = (float(((q - even) ** 2).sum()) for q in (setting.labels, after))
    return first, second


def _paired_squares(setting: Setting, simulations: int) -> Tally:
    rng, groups, n = setting.rng(), setting.groups, setting.n
    ends, values = [], []
    for size in batches(simulations, n):
        before, after = (np.eye(groups)[labels.ravel()] for labels in _drawn(setting, size, rng))
        strata = np.tile(np.arange(n) % groups, size) if setting.detail == "steered" else None
        pairs = PairedSamples.of(before, after, np.repeat(np.arange(size), n), size, (None, strata))
        changes = discrepancy_changes(pairs, uniform(groups), CONFIDENCE)
        ends += [(change.low, change.high) for change in changes]
        values += [change.value for change in changes]
    # Steered images have different distributions: if n is not a multiple of K, the groups' numbers differ by one.
    after_shares = _after(setting) if setting.detail != "steered" else _steered_after(setting)
    first, second = _squared_truths(setting, after_shares)
    # No estimate is unbiased if a stratum has one image.
    unbiased = setting.detail != "steered" or n >= 2 * groups
    errors = np.array(values) - (second - first) if unbiased else None
    figure = "paired change of the squared discrepancy"
    return tallied(figure, setting, second - first, {OURS: ends}, errors=errors)


def _steered_after(setting: Setting) -> Floats:
    steered = np.bincount(np.arange(setting.n) % setting.groups, minlength=setting.groups) / setting.n
    return (1 - MOVED) * setting.labels + MOVED * steered


def _paired_share(setting: Setting, tables: int) -> Tally:
    rng = setting.rng("paired share")
    n, p, q = setting.n, float(setting.labels[0]), float(_given(setting)[0])
    if setting.detail == "steered":
        counts = _steered_tables(setting, tables, rng)
        truth = float(_steered_after(setting)[0]) - p
    else:
        left, joined = p * MOVED * (1 - q), (1 - p) * MOVED * q
        counts = rng.multinomial(n, [p - left, joined, left, 1 - p - joined], size=tables)
        truth = joined - left
    distinct, times = np.unique(counts[:, :3], axis=0, return_counts=True)
    found = [paired_share_difference_of_counts(*row, n, CONFIDENCE) for row in distinct.tolist()]
    ends = [(one.low, one.high) for one in found]
    return tallied("paired change of a share", setting, truth, {OURS: ends}, weights=times)


def _steered_tables(setting: Setting, tables: int, rng: np.random.Generator) -> Ints:
    """Count images that show the first group in both arms, gained it and lost it, shape (tables, 3)."""
    to_first = -(-setting.n // setting.groups)
    p, counts = float(setting.labels[0]), np.zeros((tables, 3), dtype=np.int64)
    for images, goes_to_first in ((to_first, 1.0), (setting.n - to_first, 0.0)):
        left, joined = p * MOVED * (1 - goes_to_first), (1 - p) * MOVED * goes_to_first
        counts += rng.multinomial(images, [p - left, joined, left, 1 - p - joined], size=tables)[:, :3]
    return counts


def _two_shares(setting: Setting, tables: int) -> Tally:
    rng, n = setting.rng("two shares"), setting.n
    shares = np.array([setting.labels[0], _after(setting)[0]])
    distinct, times = np.unique(rng.binomial(n, shares, size=(tables, 2)), axis=0, return_counts=True)
    found = [two_sample_share_difference(first, n, second, n, CONFIDENCE) for first, second in distinct.tolist()]
    ends, truth = [(one.low, one.high) for one in found], float(shares[1] - shares[0])
    return tallied("change of a share between two samples", setting, truth, {OURS: ends}, weights=times)


def _two_squares(setting: Setting, simulations: int) -> Tally:
    rng, n, groups = setting.rng("two squares"), setting.n, setting.groups
    distributions, ends, values = (setting.labels, _after(setting)), [], []
    for size in batches(simulations, n):
        owners = np.repeat(np.arange(size), n)
        drawn = (rng.choice(groups, size=(size, n), p=labels) for labels in distributions)
        first, second = (Samples.of(np.eye(groups)[one.ravel()], owners, size) for one in drawn)
        changes = two_sample_discrepancy_changes(first, second, uniform(groups), CONFIDENCE)
        ends += [(change.low, change.high) for change in changes]
        values += [change.value for change in changes]
    old, new = _squared_truths(setting, distributions[1])
    figure = "change of the squared discrepancy between two samples"
    return tallied(figure, setting, new - old, {OURS: ends}, errors=np.array(values) - (new - old))
