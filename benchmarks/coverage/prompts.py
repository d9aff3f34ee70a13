"""Means over prompts, whose intervals speak of prompts like those of the audit: in every sample prompts are drawn anew.

Of few prompts (``FEW_PROMPTS``) an interval speaks of these alone, and is to hold the mean over those of its sample.

*Alike*: every prompt has the same distribution. *Rendered*: each is an occupation of the rendered model. *Mixed*: half
of the prompts are on target and half strongly off it. n is images per prompt.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from audit.group_results import PromptSquares, prompt_mean
from audit.measure.discrepancy import debiased_squares
from audit.measure.discrepancy_changes import PairedSamples, discrepancy_changes
from audit.measure.fairness import uniform
from audit.measure.over_prompts import FEW_PROMPTS, change_over_prompts, mean_of_these_prompts, mean_over_prompts
from audit.measure.samples import Samples
from audit.measure.share_changes import paired_share_difference_of_counts, paired_share_errors
from audit.measure.within_prompts import dependence_within
from audit.records import Estimate
from benchmarks.coverage.settings import CONFIDENCE, TRUTHS, Setting, rendered_shares
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROMPTS = (4, 16, 100)
MOVED = 0.5
"""Part of the images that an edit gives a group drawn evenly."""

ASSOCIATION = 0.3
"""Correlation of two attributes of two groups within every prompt of the cells of Cramér's V."""


def settings(quick: bool) -> list[Setting]:
    """Return the cells; ``detail`` is the number of prompts."""
    groups, images = ((2,), (8, 50)) if quick else ((2, 4), (8, 50, 500))
    truths = ("parity", "mild", "strong", "rendered", "mixed")
    every = itertools.product(groups, images, truths, PROMPTS)
    return [Setting(k, n, t, detail=f"{prompts} prompts") for k, n, t, prompts in every]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tallies of the cell."""
    found = _over_prompts(setting, simulations)
    return [*found, _association(setting, simulations)] if setting.groups == 2 and setting.truth == "parity" else found


def _prompts(setting: Setting) -> int:
    return int(setting.detail.split()[0])


def _kinds(setting: Setting) -> Floats:
    """Return the distributions that a prompt may have, each as likely, shape (m, K)."""
    if setting.truth == "rendered":
        return np.array(rendered_shares(setting.groups))
    if setting.truth == "mixed":
        return np.array([TRUTHS[name](setting.groups) for name in ("parity", "strong")])
    return setting.shares[None]


def _drawn(setting: Setting, samples: int) -> tuple[Floats, Ints]:
    """Return the prompts' distributions, (samples, prompts, K), and their images by group before and after an edit.

    The edit gives a group drawn evenly to a part of the images and leaves the others alone: (samples · prompts, K, K).
    """
    groups, kinds, rng = setting.groups, _kinds(setting), setting.rng()
    moves = (1 - MOVED) * np.eye(groups) + MOVED / groups
    pairs = (kinds[:, :, None] * moves).reshape(len(kinds), -1)
    kind = rng.integers(len(kinds), size=samples * _prompts(setting))
    tables = rng.multinomial(setting.n, pairs[kind]).reshape(-1, groups, groups)
    return kinds[kind].reshape(samples, -1, groups), tables


def _due(of_prompts: Floats, of_kinds: Floats) -> Floats:
    """Return what each sample's interval is to hold, (samples,): a mean over its prompts where those are few."""
    samples, prompts = of_prompts.shape
    return of_prompts.mean(axis=1) if prompts < FEW_PROMPTS else np.full(samples, float(of_kinds.mean()))


def _paired(tables: Ints) -> PairedSamples:
    """Return the pairs that tables (P, K, K) count."""
    before, after = (Samples.of_counts(tables.sum(axis=axis)) for axis in (2, 1))
    n = before.n[:, None, None]
    across = tables / n
    joint = Samples(
        n=before.n,
        mean=np.hstack([before.mean, after.mean]),
        products=np.block([[before.products, across], [across.swapaxes(1, 2), after.products]]),
        covariance=np.zeros((len(tables), 2 * tables.shape[1], 2 * tables.shape[1])),
        counts=np.hstack([before.counts, after.counts]),
        labels=before.labels,
    )
    return PairedSamples(before, after, joint)


def _over_prompts(setting: Setting, simulations: int) -> list[Tally]:
    m, even, kinds = _prompts(setting), 1 / setting.groups, _kinds(setting)
    (shares, tables), goal = _drawn(setting, simulations), uniform(setting.groups)
    pairs, shape = _paired(tables), (simulations, m)
    old, new = (debiased_squares(samples, goal).reshape(shape) for samples in (pairs.before, pairs.after))
    goals = np.broadcast_to(np.asarray(goal), (m, setting.groups))
    each = (PromptSquares(pairs.before.at(np.arange(first, first + m)), goals) for first in range(0, len(tables), m))
    means = [prompt_mean(one.values.tolist(), [0.0] * m, one.of_these_prompts(CONFIDENCE)) for one in each]
    moves = discrepancy_changes(pairs, goal)
    changes = [change_over_prompts(moves[first : first + m], CONFIDENCE) for first in range(0, len(tables), m)]
    squares = _due(((shares - even) ** 2).sum(axis=2), ((kinds - even) ** 2).sum(axis=1))
    moved = ((1 - MOVED) ** 2 - 1) * squares
    return [
        tallied(
            "discrepancy, root mean square over prompts",
            setting,
            np.sqrt(squares),
            {OURS: [(mean.low, mean.high) for mean in means]},
            errors=old.mean(axis=1) - squares,
        ),
        tallied(
            "change of the squared discrepancy, mean over prompts",
            setting,
            moved,
            {OURS: [(change.low, change.high) for change in changes]},
            errors=(new - old).mean(axis=1) - moved,
        ),
        _shares_over_prompts(setting, _due(shares[:, :, 0], kinds[:, 0]), tables, shape),
    ]


def _shares_over_prompts(setting: Setting, shares: Floats, tables: Ints, shape: tuple[int, int]) -> Tally:
    moved = [_share_change(table) for table in tables.tolist()]
    errors, freedom = paired_share_errors(tables)[:, 0].reshape(shape), [setting.n - 1] * shape[1]
    found = []
    for first, error in zip(range(0, len(tables), shape[1]), errors, strict=True):
        own = moved[first : first + shape[1]]
        values, ends = [one.value for one in own], [(one.low, one.high) for one in own]
        these = mean_of_these_prompts(values, ends, CONFIDENCE, error, freedom)
        found.append(mean_over_prompts(values, CONFIDENCE, these))
    truth = MOVED * (1 / setting.groups - shares)
    return tallied("change of a share, mean over prompts", setting, truth, {OURS: [(e.low, e.high) for e in found]})


def _share_change(table: list[list[int]]) -> Estimate:
    """Return the change of the first group's share from a prompt's pairs of groups."""
    stayed, before, after = table[0][0], sum(table[0]), sum(row[0] for row in table)
    return paired_share_difference_of_counts(stayed, after - stayed, before - stayed, sum(map(sum, table)), CONFIDENCE)


def _association(setting: Setting, simulations: int) -> Tally:
    table = np.array([1 + ASSOCIATION, 1 - ASSOCIATION, 1 - ASSOCIATION, 1 + ASSOCIATION]) / 4
    shape = (simulations, _prompts(setting))
    tables = setting.rng("association").multinomial(setting.n, table, size=shape).reshape(*shape, 2, 2)
    found = [dependence.cramers_v for dependence in map(dependence_within, tables) if dependence is not None]
    ends = [(v.low, v.high) for v in found]
    return tallied("Cramér's V, root mean square over prompts", setting, ASSOCIATION, {OURS: ends})
