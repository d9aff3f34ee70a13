"""Confidence set for a distance from a target by test inversion, for many samples together.

Every distribution π has two tests: one rejects it if the sample is too near to the target, the other if the sample is
too far from the target. The interval of the distance extends from the nearest to the farthest distribution that is not
rejected. The upper end is below the true distance only if the true distribution is rejected. Its error rate is
therefore that of the test, for any distribution. The same holds for the lower end.

With v = π − r and x = p − r, the offset of the sample's shares, the test statistic is
M = (1 − w)(2v·x − ‖v‖²) + w‖x‖². For w = 1 it is the squared distance T = ‖x‖², which does not use the direction. If π
is far from the target, the direction of the sample is informative. The test of "too far" then uses w → 0 (M is linear,
a one-sided test along v), and the test of "too near" uses w → 2 (the rejection region is the outside of a ball around
the midpoint of r and π). Near the target the direction cannot be estimated, and both tests use T. With
λ = ``TURN``·f/(``TURN``·f + ‖v‖²) and f the mean of T at parity, the weights are w = λ and w = 2/(1 + λ). Any weights
are valid, because they depend only on π.

The docstring of ``audit.measure.discrepancy.estimate`` describes how the level is divided between the two ends.

Legend: P samples, p of them at a time, G distributions each, K groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, ndtri

from audit.measure.discrepancy.distance_rays import Rays

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Margin = Callable[[Floats, Ints], Floats]
"""Distributions (p, G, K) and samples (p,) → margin to rejection, negative if rejected, (p, G)."""

Moments = tuple[Floats, Floats, Floats]
"""Mean, standard deviation and skewness."""

TURN = 8.0
"""Squared distances larger than this many times the mean of T at parity are tested by direction rather than by T."""

PART_IMAGE = 0.25
"""Continuity correction: the continuous curve of M is shifted by this part of one image's standard error, because M of
counted images is discrete. Without it the coverage of small samples is too low; with 0.5 the interval is too wide."""

TOLERANCE = 1e-4
"""Precision of an end, as a part of the sample's standard error."""

ROUNDS, STEPS = 8, 30
"""Largest number of rays that are searched for an end, and of steps on each; two and six are usual."""


@dataclass(frozen=True)
class Observed:
    """The observations of P samples.

    Attributes:
        target: r, shape (P, K).
        offset: x, shape (P, K).
        floor: Mean of T at parity f, shape (P,).
    """

    target: Floats
    offset: Floats
    floor: Floats

    def statistic(self, points: Floats, rows: Ints, *, near: bool) -> tuple[Floats, Floats]:
        """Return the weight w of one test at distributions (p, G, K), and M of the samples there, both (p, G).

        If a sample is nearer to the target than the mean of samples from the target, this mean is used instead.
        """
        v = points - self.target[rows, None]
        squared, along = (v**2).sum(axis=-1), (v * self.offset[rows, None]).sum(axis=-1)
        floor = self.floor[rows, None]
        turned = TURN * floor / np.maximum(TURN * floor + squared, 1e-300)
        weight = turned if near else 2 / (1 + turned)
        found = (self.offset[rows] ** 2).sum(axis=-1)[:, None]
        return weight, (1 - weight) * (2 * along - squared) + weight * (np.maximum(found, floor) if near else found)


@dataclass(frozen=True)
class Law:
    """The distribution of M under distributions of shape (p, G, K), for the samples ``rows`` (p,).

    Attributes:
        near: Returns the probability of an M at most as large as the sample's, shape (p, G).
        far: Returns that of one at least as large, and of a T at most as large as its mean at parity, both (p, G).
    """

    near: Callable[[Floats, Ints], Floats]
    far: Callable[[Floats, Ints], tuple[Floats, Floats]]


def moment_law(observed: Observed, moments: Callable[[Floats, Ints, Floats], Moments], images: Floats) -> Law:
    """Return the distribution of M by the Pearson III curve with its mean, standard deviation and skewness.

    Args:
        observed: The samples.
        moments: Returns these three moments of ‖v‖² + 2v·e + w‖e‖², e being the error of the shares, from distributions
            (p, G, K), samples (p,) and weights w (p, G), or any number of these (…, p, G).
        images: Images of the samples, shape (P,).
    """

    def near(points: Floats, rows: Ints) -> Floats:
        weight, value = observed.statistic(points, rows, near=True)
        return below(value, moments(points, rows, weight), images[rows, None], PART_IMAGE)

    def far(points: Floats, rows: Ints) -> tuple[Floats, Floats]:
        weight, value = observed.statistic(points, rows, near=False)
        both = np.stack([weight, np.ones_like(weight)])  # M, and T, whose weight is 1
        (of_m, of_t), own = zip(*moments(points, rows, both), strict=True), images[rows, None]
        return 1 - below(value, of_m, own, -PART_IMAGE), below(observed.floor[rows, None], of_t, own)

    return Law(near, far)


def below(values: Floats, moments: Moments, images: Floats, part: float = 0.0) -> Floats:
    """Return the probability of at most ``values`` by the Pearson III curve, with a continuity correction."""
    mean, deviation, skewness = moments
    return _pearson_three((values - mean) / deviation + part / np.sqrt(images), skewness)


@dataclass(frozen=True)
class Inversion:
    """The inversion of the two tests of P samples.

    Attributes:
        outward: Rays to the farthest distributions.
        inward: Rays to the nearest ones.
        law: The distribution of M.
        observed: Distances of the samples from their targets, shape (P,).
        spread: Standard errors of the shares in all directions together, √(tr(Σ)/n), shape (P,).
    """

    outward: Rays
    inward: Rays
    law: Law
    observed: Floats
    spread: Floats

    @classmethod
    def of(cls, shares: Floats, images: Floats, ways: tuple[Rays, Rays], law: Law) -> Inversion:
        """Return the tests of samples with these shares (P, K) and these effective numbers of labels (P,)."""
        (outward, inward), target = ways, ways[0].target
        mixed = (images[:, None] * shares + target) / (images[:, None] + 1)
        spread = np.sqrt(np.maximum(1 - (mixed**2).sum(axis=1), 1 / images) / images)
        return cls(outward, inward, law, np.sqrt(((shares - target) ** 2).sum(axis=1)), spread)

    def intervals(self, alpha: float, parity: Floats, *, each_tail: bool = False) -> Floats:
        """Return the smallest and the largest distance of the distributions that are not rejected, shape (P, 2).

        Args:
            alpha: Level of both tests together.
            parity: A more exact p-value at distance 0 than from the distribution of M, otherwise NaN, shape (P,).
            each_tail: Whether each end always has half of the level. If not, the lower end gets the part that the upper
                end cannot use, because near the target no sample is too near.
        """
        far_level = alpha / 2 if each_tail else alpha

        def near(points: Floats, rows: Ints) -> Floats:
            return _margin(self.law.near(points, rows), alpha / 2)

        def far(points: Floats, rows: Ints) -> Floats:
            tail, floor = self.law.far(points, rows)
            return _margin(tail, np.clip(floor, alpha / 2, far_level))

        rows = np.arange(len(parity))
        high = self._outermost(near, self._guess(alpha, 1))
        at_target = self.law.far(self.inward.target[:, None], rows)[0][:, 0]
        tested = rows[np.where(np.isnan(parity), at_target, parity) <= far_level]
        low = np.zeros_like(high)
        if tested.size:
            low[tested] = self._innermost(far, self._guess(alpha, -1)[tested], tested)
        return np.stack([np.minimum(low, high), high], axis=1)

    def _outermost(self, margin: Margin, trial: Floats) -> Floats:
        """Return the largest distance on any ray that is not rejected, shape (P,).

        The most promising ray is searched for its point of rejection; then all rays are tested just beyond it, until
        all are rejected. The target itself is never rejected.
        """
        rays, rows = self.outward, np.arange(len(trial))
        ends, trial = np.zeros(len(trial)), np.minimum(trial, rays.reach.max(axis=1))
        for attempt in range(ROUNDS):
            reach, margins = rays.reach[rows], _margins(rays, margin, trial, rows)
            kept = (margins >= 0) & (reach >= trial[:, None])
            hopeful = kept if attempt else kept | ~kept.any(axis=1, keepdims=True)
            promised = np.minimum(reach, trial[:, None] + margins * self.spread[rows, None])
            ways = np.where(hopeful, promised, -np.inf).argmax(axis=1)
            going = hopeful.any(axis=1)
            inside = np.asarray(kept.any(axis=1))[going]
            rows, ways, trial = rows[going], ways[going], trial[going]
            if not rows.size:
                break
            last = rays.reach[rows, ways]
            inner, outer = np.where(inside, trial, 0.0), np.where(inside, last, np.minimum(trial, last))
            found = _crossing(_along(rays, margin, rows, ways), inner, outer, self.tolerance[rows])
            ends[rows] = np.maximum(ends[rows], found)
            trial = ends[rows] + self.tolerance[rows]
        return ends

    def _innermost(self, margin: Margin, trial: Floats, rows: Ints) -> Floats:
        """Return the smallest distance on any ray that is not rejected, for samples with a rejected target, shape (p,).

        Args:
            margin: Margin of distributions.
            trial: First distance, shape (p,). If all rays are rejected there, the distance of the sample is tested. It
                is the result if all rays are still rejected, for shares that no distribution explains.
            rows: The samples, shape (p,).
        """
        rays = self.inward
        lost = ~(_margins(rays, margin, trial, rows) >= 0).any(axis=1)
        trial = np.where(lost, self.observed[rows], trial)
        ends, places = trial.copy(), np.arange(len(rows))
        for _ in range(ROUNDS):
            own = rows[places]
            margins = _margins(rays, margin, trial, own)
            reached = np.minimum(trial[:, None], rays.reach[own])
            ways = np.where(margins >= 0, reached - margins * self.spread[own, None], np.inf).argmin(axis=1)
            going = (margins >= 0).any(axis=1)
            places, ways, own = places[going], ways[going], own[going]
            if not places.size:
                break
            inner = reached[going][np.arange(len(places)), ways]
            along = _along(rays, margin, own, ways)
            ends[places] = _crossing(along, inner, np.zeros_like(inner), self.tolerance[own])
            trial = np.maximum(ends[places] - self.tolerance[own], 0.0)
        return ends

    @property
    def tolerance(self) -> Floats:
        """Precision of an end, shape (P,)."""
        return TOLERANCE * self.spread

    def _guess(self, alpha: float, side: int) -> Floats:
        """Return approximate ends, shape (P,)."""
        quantile = -float(ndtri(alpha / 2))
        return np.maximum(self.observed + side * 0.7 * quantile * self.spread, 0.1 * self.observed + 1e-3 * self.spread)


def _margin(p_value: Floats, level: Floats | float) -> Floats:
    """Return the margin of p-values to rejection in standard normal quantiles, which is almost linear along a ray."""
    return np.asarray(ndtri(np.clip(p_value, 1e-300, 1 - 1e-16)) - ndtri(level))


def _margins(rays: Rays, margin: Margin, distances: Floats, rows: Ints) -> Floats:
    """Return the margins of all rays of some samples at one distance each (p,), or at their ends, shape (p, D)."""
    return margin(rays.at(np.broadcast_to(distances[:, None], rays.reach[rows].shape), rows), rows)


def _along(rays: Rays, margin: Margin, rows: Ints, ways: Ints) -> Callable[..., Floats]:
    """Return the margin at distances (p,) along one ray of each sample, or of some of these samples."""

    def at(distances: Floats, some: Ints | slice = slice(None)) -> Floats:
        own = rows[some]
        return margin(rays.at(distances[:, None], own, ways[some][:, None]), own)[:, 0]

    return at


def _crossing(along: Callable[..., Floats], kept: Floats, rejected: Floats, tolerance: Floats) -> Floats:
    """Return the boundary between accepted and rejected distances, on the accepted side, shape (p,).

    False position with halved weights (Illinois; Dowell and Jarratt 1971, BIT 11:168). If the distances given as
    rejected are not rejected, they are returned.
    """
    inner, outer = kept.copy(), rejected.copy()
    at_inner, at_outer = np.maximum(along(inner), 0.0), along(outer)
    inner = np.where(at_outer >= 0, outer, inner)
    moved = np.zeros(len(inner))  # which side moved last: 1 accepted, −1 rejected
    open_rows = np.flatnonzero(np.abs(outer - inner) > tolerance)
    for _ in range(STEPS):
        if not open_rows.size:
            break
        a, b, fa, fb = inner[open_rows], outer[open_rows], at_inner[open_rows], at_outer[open_rows]
        middle = b + (a - b) * fb / np.minimum(fb - fa, -1e-300)
        value = along(middle, open_rows)
        side = np.where(value >= 0, 1.0, -1.0)
        halved = np.where(side == moved[open_rows], 0.5, 1.0)
        inner[open_rows], outer[open_rows] = np.where(side > 0, middle, a), np.where(side > 0, b, middle)
        at_inner[open_rows] = np.where(side > 0, value, fa * halved)
        at_outer[open_rows] = np.where(side > 0, fb * halved, value)
        moved[open_rows] = side
        open_rows = open_rows[np.abs(outer[open_rows] - inner[open_rows]) > tolerance[open_rows]]
    return inner


def _pearson_three(z: Floats, skewness: Floats) -> Floats:
    """Return the cumulative distribution function of a standardised, shifted gamma variable with this skewness."""
    sign = np.where(skewness < 0, -1.0, 1.0)
    shape = 4 / np.maximum(np.abs(skewness), 1e-4) ** 2
    lower = gammainc(shape, np.maximum(shape + np.sqrt(shape) * sign * z, 0.0))
    return np.where(sign > 0, lower, 1 - lower)
