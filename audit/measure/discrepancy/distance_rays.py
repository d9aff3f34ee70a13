"""Directions in which a distribution may lie away from a target, given a sample: where to look for its distance.

The farthest distribution that a sample allows is neither straight beyond the sample nor at a corner. It is where a
larger distance and a larger variance are in balance. For linear statistics that is a fixed point: with x the sample's
offset from the target, a distance of z standard errors is largest (and, on the near side, smallest) in a direction u ∝
x + z·∇ₓσ(u), σ²(u) = uᵀΣu/n, and from any start u ← x + z·∇σ(u) climbs, since σ is a norm. There are several such
maxima, so starts are the sample and every corner; z runs over ``QUANTILES``, whatever confidence is asked for, so that
a higher confidence searches the same directions.

Legend: P samples, D directions, K groups; r the target, π a distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUANTILES = (1.0, 2.5, 4.0)
"""Standard errors at which directions are worked out; tails of 16 %, 0.6 % and 0.003 %."""

CLIMBS = 4
"""Steps from each start; directions move by less than 1 % in a fifth."""

TINY = 1e-12


@dataclass(frozen=True)
class Rays:
    """Straight ways out of the targets of P samples.

    Attributes:
        target: r, shape (P, K).
        directions: Unit vectors that sum to 0, shape (P, D, K).
        reach: Distance at which each way leaves the simplex, shape (P, D).
        turns: The distributions where the directions were worked out, shape (P, D, K).
    """

    target: Floats
    directions: Floats
    reach: Floats
    turns: Floats

    @classmethod
    def both(cls, shares: Floats, target: Floats, images: Floats) -> tuple[Rays, Rays]:
        """Return the ways to the farthest plausible distributions, and those to the nearest; see ``towards``."""
        return cls.towards(shares, target, images, 1), cls.towards(shares, target, images, -1)

    @classmethod
    def towards(cls, shares: Floats, target: Floats, images: Floats, side: int) -> Rays:
        """Return the ways to the farthest plausible distributions (``side`` 1) or to the nearest ones (−1).

        Args:
            shares: Shares of the samples, shape (P, K).
            target: The distributions that count as fair, shape (P, K).
            images: Labels that the samples are worth, shape (P,).
            side: Which.
        """
        # Mixed with one image's worth of the target: a group that was not seen may still exist.
        mixed = (images[:, None] * shares + target) / (images[:, None] + 1)
        corners = np.broadcast_to(np.eye(target.shape[1]), (len(target), *2 * target.shape[1:]))
        starts = np.concatenate([mixed[:, None], corners], axis=1)
        first = _directions(starts, target)
        found, turns = [first], [starts]
        offset, scale = (mixed - target)[:, None], 1 / np.sqrt(images)[:, None]
        for z in QUANTILES:
            ways, points = first, np.broadcast_to(mixed[:, None], starts.shape)
            for _ in range(CLIMBS):
                error = _error(ways, points) * scale
                distance = np.clip((ways * offset).sum(axis=-1) + side * z * error, 1e-6, np.sqrt(2))
                points = _inside(target[:, None] + distance[..., None] * ways)
                ways = _unit(offset + z * scale[..., None] * _gradient(_directions(points, target), points))
            distance = np.clip((ways * offset).sum(axis=-1) + side * z * _error(ways, points) * scale, 1e-6, np.sqrt(2))
            points = _inside(target[:, None] + distance[..., None] * ways)
            found.append(_directions(points, target))
            turns.append(points)
        directions = np.concatenate(found, axis=1)
        return cls(target, directions, _reach(directions, target), np.concatenate(turns, axis=1))

    def through(self, points: Floats) -> Rays:
        """Return these ways, and more through some distributions, shape (P, D′, K)."""
        directions = np.concatenate([self.directions, _directions(points, self.target)], axis=1)
        turns = np.concatenate([self.turns, points], axis=1)
        return Rays(self.target, directions, _reach(directions, self.target), turns)

    def at(self, distances: Floats, rows: Ints, ways: Ints | None = None) -> Floats:
        """Return the distributions so far along the ways of some samples, shape (p, G, K).

        Args:
            distances: Shape (p, G); beyond a way's reach it is its end.
            rows: The samples, shape (p,).
            ways: The way of each of the distances, shape (p, G); all ways, G = D, where there is none.
        """
        directions = self.directions[rows] if ways is None else self.directions[rows[:, None], ways]
        reach = self.reach[rows] if ways is None else self.reach[rows[:, None], ways]
        return _inside(self.target[rows, None] + np.minimum(distances, reach)[..., None] * directions)


def _directions(points: Floats, target: Floats) -> Floats:
    """Return unit vectors from the targets to the points, or to the least wanted corner from the target itself."""
    away = points - target[:, None]
    least = np.eye(target.shape[1])[target.argmin(axis=1)] - target
    same = (away**2).sum(axis=-1, keepdims=True) < TINY**2
    return _unit(np.where(same, least[:, None], away))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.sqrt((vectors**2).sum(axis=-1, keepdims=True)), TINY))


def _error(ways: Floats, points: Floats) -> Floats:
    """Return √(uᵀΣu), the standard deviation of one label along each way."""
    along = (points * ways).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum((points * ways**2).sum(axis=-1) - along**2, TINY)))


def _gradient(ways: Floats, points: Floats) -> Floats:
    """Return the gradient Σu/√(uᵀΣu) of that deviation."""
    along = (points * ways).sum(axis=-1, keepdims=True)
    return np.asarray(points * (ways - along) / _error(ways, points)[..., None])


def _inside(points: Floats) -> Floats:
    kept = np.maximum(points, 0.0)
    return np.asarray(kept / kept.sum(axis=-1, keepdims=True))


def _reach(directions: Floats, target: Floats) -> Floats:
    falls = directions < -TINY
    steps = np.divide(-target[:, None], directions, out=np.full_like(directions, np.inf), where=falls)
    return np.asarray(steps.min(axis=-1))
