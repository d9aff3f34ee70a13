"""Coverage of means over prompts; the prompts are drawn again for every sample.

An interval must contain the mean over its own sample's prompts. With enough prompts (``FEW_PROMPTS``), the interval for
prompts like these must contain the mean over all prompts that could have been drawn.

*Alike*: every prompt has the same distribution. *Rendered*: each is an occupation of the rendered model. *Mixed*: half
of the prompts are on target and half strongly off it. n is images per prompt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.measure.attributes.within_prompts import dependence_within
from audit.measure.discrepancy.changes import PairedSamples, discrepancy_changes, span_of_changes
from audit.measure.discrepancy.estimate import debiased_squares
from audit.measure.discrepancy.fairness import uniform
from audit.measure.discrepancy.samples import Samples
from audit.measure.inference.span import CHANGE_OF_SHARE
from audit.measure.prompts.over_prompts import change_like_these, like_these, mean_of_these_prompts
from audit.measure.shares.changes import paired_share_difference_of_counts, paired_share_errors
from audit.records.estimates import ChangeOverPrompts, Estimate, OverPrompts
from audit.records.groups import PromptMean
from audit.results.groups import PromptSquares, prompt_mean
from benchmarks.coverage.settings import CONFIDENCE, TRUTHS, Setting, rendered_shares
from benchmarks.coverage.tally import OURS, Tally, tallied

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROMPTS = (2, 4, 8, 40)
MOVED = 0.5
"""Share of the images to which an edit assigns a uniformly drawn group."""

ASSOCIATION = 0.3
"""Correlation of two attributes of two groups within every prompt of the cells of Cramér's V."""


def settings(quick: bool) -> list[Setting]:
    """Return the cells; ``detail`` is the number of prompts."""
    groups, images = ((2,), (8, 50)) if quick else ((2, 4), (8, 50))
    truths = ("parity", "strong", "mixed")
    every = itertools.product(groups, images, truths, PROMPTS)
    return [Setting(k, n, t, detail=f"{prompts} prompts") for k, n, t, prompts in every]


def study(setting: Setting, simulations: int) -> list[Tally]:
    """Return the tallies of the cell."""
    found = _over_prompts(setting, simulations)
    return [*found, _association(setting, simulations)] if setting.groups == 2 and setting.truth == "parity" else found


def _prompts(setting: Setting) -> int:
    return int(setting.detail.split()[0])


def _kinds(setting: Setting) -> Floats:
    """Return the equally likely distributions of a prompt, shape (m, K)."""
    if setting.truth == "rendered":
        return np.array(rendered_shares(setting.groups))
    if setting.truth == "mixed":
        return np.array([TRUTHS[name](setting.groups) for name in ("parity", "strong")])
    return setting.shares[None]


def _drawn(setting: Setting, samples: int) -> tuple[Floats, Ints]:
    """Return the prompts' distributions, (samples, prompts, K), and their images by group before and after an edit.

    The edit assigns a uniformly drawn group to a share of the images: (samples · prompts, K, K).
    """
    groups, kinds, rng = setting.groups, _kinds(setting), setting.rng()
    moves = (1 - MOVED) * np.eye(groups) + MOVED / groups
    pairs = (kinds[:, :, None] * moves).reshape(len(kinds), -1)
    kind = rng.integers(len(kinds), size=samples * _prompts(setting))
    tables = rng.multinomial(setting.n, pairs[kind]).reshape(-1, groups, groups)
    return kinds[kind].reshape(samples, -1, groups), tables


def _paired(tables: Ints) -> PairedSamples:
    """Return the pairs in the count tables (P, K, K)."""
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
    means = [prompt_mean(one, np.zeros(m)) for one in each]
    moves, span = discrepancy_changes(pairs, goal), span_of_changes(goals)
    changes = [change_like_these(moves[first : first + m], span) for first in range(0, len(tables), m)]
    squares = ((shares - even) ** 2).sum(axis=2).mean(axis=1), float(((kinds - even) ** 2).sum(axis=1).mean())
    moved = (1 - MOVED) ** 2 - 1
    return [
        *_tallies(
            "discrepancy, root mean square over prompts",
            setting,
            (np.sqrt(squares[0]), math.sqrt(squares[1])),
            means,
            errors=old.mean(axis=1) - squares[0],
        ),
        *_tallies(
            "change of the squared discrepancy, mean over prompts",
            setting,
            (moved * squares[0], moved * squares[1]),
            changes,
            errors=(new - old).mean(axis=1) - moved * squares[0],
        ),
        *_shares_over_prompts(setting, (shares[:, :, 0].mean(axis=1), float(kinds[:, 0].mean())), tables, shape),
    ]


def _tallies(
    figure: str,
    setting: Setting,
    truths: tuple[Floats, float],
    found: Sequence[PromptMean | OverPrompts | ChangeOverPrompts],
    errors: Floats | None = None,
) -> Iterator[Tally]:
    """Yield how often intervals contain the mean over the sample's own prompts, and over all prompts like these."""
    ends = [(one.low, one.high) for one in found]
    yield tallied(figure, setting, truths[0], {OURS: ends}, errors=errors)
    like_these = [one.like_these for one in found]
    if like_these[0] is not None:
        ends = [(one.low, one.high) for one in like_these if one is not None]
        yield tallied(f"{figure} like these", setting, truths[1], {OURS: ends})


def _shares_over_prompts(
    setting: Setting, shares: tuple[Floats, float], tables: Ints, shape: tuple[int, int]
) -> Iterator[Tally]:
    moved = [_share_change(table) for table in tables.tolist()]
    errors, freedom = paired_share_errors(tables)[:, 0].reshape(shape), [setting.n - 1] * shape[1]
    found = []
    for first, error in zip(range(0, len(tables), shape[1]), errors, strict=True):
        own = moved[first : first + shape[1]]
        values, ends = [one.value for one in own], [(one.low, one.high) for one in own]
        these = CHANGE_OF_SHARE.held(mean_of_these_prompts(values, ends, CONFIDENCE, error, freedom))
        found.append(like_these(these, values, CHANGE_OF_SHARE))
    truths = MOVED * (1 / setting.groups - shares[0]), MOVED * (1 / setting.groups - shares[1])
    return _tallies("change of a share, mean over prompts", setting, truths, found)


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
