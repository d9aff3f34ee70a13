"""The test of a distance turned round: every distance from the target that a sample does not contradict.

Many samples are judged at once. For each there is a path of plausible distributions, one for every distance from the
target, and a law that says how the squared distance T of a sample is distributed under each. The docstring of
``audit.measure.discrepancy`` says what the test is.

Legend: P samples, p of them at a time, G distances, K groups; r the target, π a distribution on the path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Law = Callable[[Floats, Ints], "Tails"]
"""Distributions of shape (p, G, K) and the samples that they are for, shape (p,) → tails of T there."""

COARSE, FINE = 41, 13
"""Candidate distances on the first grid, and between two of its neighbours on the second."""

PART_IMAGE = 0.25
"""Part of one image's standard error by which the continuous curve of T is shifted to the safe side: rows of a sure
judge are nearly labels, so T moves in steps. Without it small samples are covered too seldom; a half is too wide."""


@dataclass(frozen=True)
class Tails:
    """Probabilities under each of G distributions for each of p samples, shape (p, G).

    Attributes:
        far: Of a T at least as large as the sample's.
        near: Of a T at most as large as the sample's, or as the mean of T at parity where that is larger.
        floor: Of a T at most as large as the mean of T at parity.
    """

    far: Floats
    near: Floats
    floor: Floats

    def margins(self, alpha: float) -> Floats:
        """Return how far each distribution is from being rejected: negative where it is, on a log scale."""
        far_level = np.where(self.floor >= alpha / 2, alpha, alpha / 2)
        ratio = np.minimum(self.far / far_level, self.near / (alpha / 2))
        return np.asarray(np.log(np.maximum(ratio, 1e-30)))


@dataclass(frozen=True)
class Path:
    """For each of P samples distributions of growing distance from the target: plausible ones, given the sample.

    Up to the sample's own distance they lie on the line from the target to the sample. Beyond, they go to the corner of
    the group that is most in excess, which stays inside the simplex however far. Two corrections vanish as n grows.
    The sample is mixed with one image's worth of the target, lest a group that was not seen pass for one that cannot
    be. And it leans to that corner by one standard error, since noise hides the direction and T varies most that way.

    Attributes:
        target: r, shape (P, K).
        start: The corrected sample, shape (P, K).
        corner: One-hot of the group most in excess, shape (P, K).
        observed: ‖p − r‖ of the sample, shape (P,).
        spread: Standard error of the shares in all directions together, √(tr(Σ)/n), shape (P,).
        reach: Distance of the corner, the last on the path, shape (P,).
    """

    target: Floats
    start: Floats
    corner: Floats
    observed: Floats
    spread: Floats
    reach: Floats

    @classmethod
    def through(cls, shares: Floats, target: Floats, n: Floats) -> Path:
        """Return the paths through samples with these shares (P, K), as sure as ``n`` labels (P,) are."""
        mixed = (n[:, None] * shares + target) / (n[:, None] + 1)
        spread = np.sqrt(np.maximum(1 - (mixed**2).sum(axis=1), 1 / n) / n)
        corner = np.eye(target.shape[1])[np.argmax(shares - target, axis=1)]
        reach = np.sqrt(_squared(corner, target))
        lean = np.minimum(1.0, spread / reach)
        start = mixed + lean[:, None] * (corner - mixed)
        return cls(target, start, corner, np.sqrt(_squared(shares, target)), spread, reach)

    def at(self, distances: Floats, rows: Ints) -> Floats:
        """Return the distributions at these distances (p, G) from the targets of some samples (p,), shape (p, G, K)."""
        target, start = self.target[rows], self.start[rows]
        inner, outward = _squared(start, target)[:, None], self.corner[rows] - start
        slope, length = (outward * (start - target)).sum(axis=1)[:, None], (outward**2).sum(axis=1)[:, None]
        beyond = np.maximum(distances**2 - inner, 0.0)
        along = beyond / (slope + np.sqrt(slope**2 + length * beyond) + 1e-300)
        inside = np.minimum(distances / np.maximum(np.sqrt(inner), 1e-300), 1.0)
        way = inside[..., None] * (start - target)[:, None] + along[..., None] * outward[:, None]
        points = np.maximum(target[:, None] + way, 0.0)
        return np.asarray(points / points.sum(axis=2, keepdims=True))


def moment_tails(moments: tuple[Floats, Floats, Floats], observed: Floats, floor: Floats, images: Floats) -> Tails:
    """Return the tails of T by the Pearson III curve with the same mean, standard deviation and skewness.

    Args:
        moments: These three, each of shape (p, G).
        observed: T of the samples, shape (p, 1).
        floor: Mean of T at parity, shape (p, 1).
        images: Images of the samples, shape (p, 1).
    """
    mean, deviation, skewness = moments

    def below(value: Floats, part: float = 0.0) -> Floats:
        return _pearson_three((value - mean) / deviation + part / np.sqrt(images), skewness)

    return Tails(1 - below(observed, -PART_IMAGE), below(np.maximum(observed, floor), PART_IMAGE), below(floor))


def inverted(path: Path, law: Law, alpha: float, parity: Floats) -> Floats:
    """Return the smallest and the largest distance on each path that the test does not reject, shape (P, 2).

    Args:
        path: The candidates.
        law: The law of T under them.
        alpha: Level of the test.
        parity: The p-value at distance 0 where it is known better than from ``law``, else NaN, shape (P,).
    """
    grid, margins = _bracketed(path, law, alpha, parity)
    every, best = np.arange(len(grid)), margins.argmax(axis=1)
    kept = margins >= 0
    first = np.where(kept.any(axis=1), kept.argmax(axis=1), best)
    last = np.where(kept.any(axis=1), COARSE - 1 - kept[:, ::-1].argmax(axis=1), best)
    low, high = grid[every, first], grid[every, last]
    high = np.where((last == COARSE - 1) & (high == path.reach), _farthest(path.target), high)
    for ends, inner, outer, rows in (
        (low, first, first - 1, np.flatnonzero(first > 0)),
        (high, last, last + 1, np.flatnonzero(last < COARSE - 1)),
    ):
        ends[rows] = _crossing(path, law, alpha, (grid[rows, outer[rows]], grid[rows, inner[rows]]), rows)
    return np.stack([low, high], axis=1)


def _bracketed(path: Path, law: Law, alpha: float, parity: Floats) -> tuple[Floats, Floats]:
    """Return grids of distances with a rejected one at either end, or the end of the path, and their margins."""
    grid, margins = np.empty((len(parity), COARSE)), np.empty((len(parity), COARSE))
    open_rows = np.arange(len(parity))
    for width in (3.0, 9.0, math.inf):
        observed, reach = path.observed[open_rows], path.reach[open_rows]
        spread = path.spread[open_rows] * width
        start = np.where(parity[open_rows] > alpha, 0.0, np.maximum(0.0, observed - spread))
        found = np.linspace(start, np.minimum(reach, observed + spread), COARSE, axis=1)
        margin = law(path.at(found, open_rows), open_rows).margins(alpha)
        known = (start == 0) & ~np.isnan(parity[open_rows])
        margin[known, 0] = np.log(parity[open_rows][known] / alpha)
        grid[open_rows], margins[open_rows] = found, margin
        closed = ((start == 0) | (margin[:, 0] < 0)) & ((found[:, -1] == reach) | (margin[:, -1] < 0))
        open_rows = open_rows[~closed]
        if not open_rows.size:
            return grid, margins
    raise AssertionError("the whole path has no end that is neither its own nor rejected")


def _crossing(path: Path, law: Law, alpha: float, ends: tuple[Floats, Floats], rows: Ints) -> Floats:
    """Return where the margin turns positive between rejected and kept distances, from finer grids, shape (p,)."""
    if not rows.size:
        return np.empty(0)
    grid = np.linspace(*ends, FINE, axis=1)
    margins = law(path.at(grid, rows), rows).margins(alpha)
    margins[:, 0], margins[:, -1] = np.minimum(margins[:, 0], -1e-12), np.maximum(margins[:, -1], 0.0)
    at, every = np.argmax(margins >= 0, axis=1), np.arange(len(rows))
    before, after = margins[every, at - 1], margins[every, at]
    part = before / (before - after)
    return np.asarray(grid[every, at - 1] + part * (grid[every, at] - grid[every, at - 1]))


def _pearson_three(z: Floats, skewness: Floats) -> Floats:
    """Return the distribution function of a standardised, shifted gamma variable with this skewness."""
    sign = np.where(skewness < 0, -1.0, 1.0)
    shape = 4 / np.maximum(np.abs(skewness), 1e-4) ** 2
    lower = gammainc(shape, np.maximum(shape + np.sqrt(shape) * sign * z, 0.0))
    return np.where(sign > 0, lower, 1 - lower)


def _farthest(goals: Floats) -> Floats:
    """Return the largest possible distance from each target (P, K): every image in the group that it wants least."""
    return np.asarray(np.sqrt(1 - 2 * goals.min(axis=1) + (goals**2).sum(axis=1)))


def _squared(rows: Floats, goals: Floats) -> Floats:
    return np.asarray(((rows - goals) ** 2).sum(axis=1))
