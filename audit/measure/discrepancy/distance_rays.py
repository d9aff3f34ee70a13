"""Directions from a target in which to search for the nearest and farthest distributions that a sample allows.

The farthest distribution that a sample allows is neither in the direction of the sample nor at a corner. It balances a
larger distance and a larger variance. For linear statistics it is a fixed point: with x the sample's offset from the
target, a distance of z standard errors is largest (and, on the near side, smallest) in a direction u ∝ x + z·∇ₓσ(u),
σ²(u) = uᵀΣu/n. The iteration u ← x + z·∇σ(u) increases the distance from any start, because σ is a norm. There are
several local maxima, so the starts are the sample and every corner. z takes the values of ``QUANTILES`` for every
confidence level, so that a higher confidence searches the same directions.

Legend: P samples, D directions, K groups; r the target, π a distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUANTILES = (1.0, 2.5, 4.0)
"""Standard errors for which directions are computed; tails of 16 %, 0.6 % and 0.003 %."""

CLIMBS = 4
"""Steps from each start; a fifth step would change directions by less than 1 %."""

TINY = 1e-12


@dataclass(frozen=True)
class Rays:
    """Rays from the targets of P samples.

    Attributes:
        target: r, shape (P, K).
        directions: Unit vectors that sum to 0, shape (P, D, K).
        reach: Distance at which each ray leaves the simplex, shape (P, D).
        turns: The distributions for which the directions were computed, shape (P, D, K).
    """

    target: Floats
    directions: Floats
    reach: Floats
    turns: Floats

    @classmethod
    def both(cls, shares: Floats, target: Floats, images: Floats) -> tuple[Rays, Rays]:
        """Return the rays to the farthest plausible distributions, and those to the nearest; see ``towards``."""
        return cls.towards(shares, target, images, 1), cls.towards(shares, target, images, -1)

    @classmethod
    def towards(cls, shares: Floats, target: Floats, images: Floats, side: int) -> Rays:
        """Return the rays to the farthest plausible distributions (``side`` 1) or to the nearest ones (−1).

        Args:
            shares: Shares of the samples, shape (P, K).
            target: The distributions that count as fair, shape (P, K).
            images: Effective number of labels of the samples, shape (P,).
            side: 1 or −1.
        """
        # One pseudo-image of the target is added, because a group that was not observed can still exist.
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
        """Return these rays and additional ones through the given distributions, shape (P, D′, K)."""
        directions = np.concatenate([self.directions, _directions(points, self.target)], axis=1)
        turns = np.concatenate([self.turns, points], axis=1)
        return Rays(self.target, directions, _reach(directions, self.target), turns)

    def at(self, distances: Floats, rows: Ints, ways: Ints | None = None) -> Floats:
        """Return the distributions at the given distances along the rays of some samples, shape (p, G, K).

        Args:
            distances: Shape (p, G); a distance beyond the end of a ray gives its end.
            rows: The samples, shape (p,).
            ways: The ray of each distance, shape (p, G); None for all rays, G = D.
        """
        directions = self.directions[rows] if ways is None else self.directions[rows[:, None], ways]
        reach = self.reach[rows] if ways is None else self.reach[rows[:, None], ways]
        return _inside(self.target[rows, None] + np.minimum(distances, reach)[..., None] * directions)


def _directions(points: Floats, target: Floats) -> Floats:
    """Return unit vectors from the targets to the points; for the target itself, to the corner of the least target."""
    away = points - target[:, None]
    least = np.eye(target.shape[1])[target.argmin(axis=1)] - target
    same = (away**2).sum(axis=-1, keepdims=True) < TINY**2
    return _unit(np.where(same, least[:, None], away))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.sqrt((vectors**2).sum(axis=-1, keepdims=True)), TINY))


def _error(ways: Floats, points: Floats) -> Floats:
    """Return √(uᵀΣu), the standard deviation of one label along each ray."""
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
