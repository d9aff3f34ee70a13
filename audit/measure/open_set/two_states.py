"""Two states of an attribute, for example with and without glasses, from scores whose level each prompt may shift.

The look of a prompt (a uniform, a tool) shifts the scores of all its images. So the rate of a state is read from the
*shape* of a prompt's scores, and not from their level: the score of image i of prompt p is

    (1 − π_p) N(δ_p, σ²) + π_p N(δ_p + Δ, σ²),

with the distance Δ of the states and the spread σ common to all prompts. A prompt whose images all are in one state
has a shape with one mode, and its rate is *not identified*: π = 0 and π = 1 with another δ fit equally well.

Legend: n scores, P prompts, D shifts of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

_SHIFTS, _FINE = 25, 7
"""Shifts that are tried for each prompt: over the range of its scores, then around the best."""

_RATE_STEPS = 6
_ROUNDS = 10
_START = (3.0, 0.5)
"""Distance of the states and spread of each state from which the fit starts, in standard deviations of the scores."""

_CONVERGED = 0.01
_TINY = 1e-300


@dataclass(frozen=True)
class States:
    """What the prompts have in common.

    Attributes:
        gap: Distance Δ of the upper state from the lower one.
        spread: Standard deviation σ of each state.
    """

    gap: float
    spread: float

    @property
    def separation(self) -> float:
        """The gap in spreads; at 3, a threshold between the states classifies about 7 % of the scores wrongly."""
        return self.gap / self.spread


@dataclass(frozen=True)
class Levels:
    """What a sample says about each prompt.

    Attributes:
        shifts: (P,) level δ of the lower state.
        rates: (P,) rate π of the upper state.
        fit: (P,) log-likelihood, without the constant that all fits share.
        evidence: (P,) log-likelihood ratio of two states against one Gaussian of its own spread.
        over_wide: (P,) the same against one Gaussian that is at least as wide as a state.
        upper: (n,) whether each score is in the upper state.
    """

    shifts: Floats
    rates: Floats
    fit: Floats
    evidence: Floats
    over_wide: Floats
    upper: Bools

    def identified(self, prompts: Ints, evidence: float, least: int) -> Bools:
        """Return the prompts (P,) whose rate is identified.

        Args:
            prompts: (n,) index of each score's prompt.
            evidence: Least log-likelihood ratio.
            least: Least number of images in each state.
        """
        count = np.bincount(prompts, minlength=len(self.rates))
        inside = np.bincount(prompts[self.upper], minlength=len(self.rates))
        found: Bools = (self.evidence >= evidence) & (np.minimum(inside, count - inside) >= least)
        return found


def fit_states(scores: Floats, prompts: Ints) -> tuple[States, Levels]:
    """Fit the states and the levels of all prompts by maximum likelihood.

    Args:
        scores: (n,) scores of one component, not all equal within prompts.
        prompts: (n,) index of each score's prompt, from 0 without a gap.
    """
    unit = _spread_within(scores, prompts)
    return _fitted(scores, prompts, States(_START[0] * unit, _START[1] * unit))


def levels_of(scores: Floats, prompts: Ints, states: States, within: tuple[float, float] | None = None) -> Levels:
    """Return the levels of a sample for states that are known, of all levels or of those within a range."""
    return _levels(scores, prompts, states, within)[1]


def _fitted(scores: Floats, prompts: Ints, states: States) -> tuple[States, Levels]:
    floor = 0.05 * _spread_within(scores, prompts)
    value, levels = _levels(scores, prompts, states)
    for _ in range(_ROUNDS):
        rest = scores - levels.shifts[prompts]
        upper = _posterior(rest, levels.rates[prompts], states)
        if min(upper.sum(), (1 - upper).sum()) < 1:
            break
        high, low = float((upper * rest).sum() / upper.sum()), float(((1 - upper) * rest).sum() / (1 - upper).sum())
        square = float((upper * (rest - high) ** 2 + (1 - upper) * (rest - low) ** 2).mean())
        states = States(max(high - low, floor), max(square**0.5, floor))
        before = value
        value, levels = _levels(scores, prompts, states)
        if value - before < _CONVERGED:
            break
    return states, levels


def _levels(
    scores: Floats, prompts: Ints, states: States, within: tuple[float, float] | None = None
) -> tuple[float, Levels]:
    """Return the log-likelihood, and each prompt's level: the best of a grid of shifts, refined once."""
    least, most = _ends(scores, prompts)
    low, high = (least - states.gap, most) if within is None else (np.full_like(most, end) for end in within)
    coarse = np.linspace(low, high, _SHIFTS)  # (D, P)
    _, shifts, _ = _best(scores, prompts, states, coarse)
    fine = shifts + np.linspace(-1, 1, _FINE)[:, None] * (coarse[1] - coarse[0])
    values, shifts, rates = _best(scores, prompts, states, fine.clip(low, high))
    upper = _posterior(scores - shifts[prompts], rates[prompts], states) > 0.5
    evidence = values - _one_gaussian(scores, prompts, 0.05 * states.spread)
    over_wide = values - _one_gaussian(scores, prompts, states.spread)
    return float(values.sum()), Levels(shifts, rates, values, evidence, over_wide, upper)


def _best(scores: Floats, prompts: Ints, states: States, shifts: Floats) -> tuple[Floats, Floats, Floats]:
    """Return each prompt's largest log-likelihood (P,) over shifts (D, P), with its shift and rate.

    The rate of every shift comes from steps of expectation and maximisation, which has one optimum.
    """
    rest = scores[None] - shifts[:, prompts]  # (D, n)
    low = np.exp(-0.5 * (rest / states.spread) ** 2)
    high = np.exp(-0.5 * ((rest - states.gap) / states.spread) ** 2)
    count = np.bincount(prompts)
    rates = np.full(shifts.shape, 0.5)
    for _ in range(_RATE_STEPS):
        own = rates[:, prompts]
        upper = own * high
        rates = _sums(upper / np.maximum(upper + (1 - own) * low, _TINY), prompts, len(count)) / count
    own = rates[:, prompts]
    each = np.log(np.maximum(own * high + (1 - own) * low, _TINY))
    values = _sums(each, prompts, len(count)) - count * np.log(states.spread)
    place, columns = values.argmax(0), np.arange(len(count))
    return values[place, columns], shifts[place, columns], rates[place, columns]


def _sums(values: Floats, prompts: Ints, count: int) -> Floats:
    """Return sums (D, P) of values (D, n) by prompt."""
    member = np.zeros((len(prompts), count))
    member[np.arange(len(prompts)), prompts] = 1
    found: Floats = values @ member
    return found


def _ends(scores: Floats, prompts: Ints) -> tuple[Floats, Floats]:
    count = int(prompts.max()) + 1
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, prompts, scores)
    np.maximum.at(most, prompts, scores)
    return least, most


def _one_gaussian(scores: Floats, prompts: Ints, least: float) -> Floats:
    """Return each prompt's log-likelihood (P,) of one Gaussian with a least spread, without the shared constant."""
    count = np.bincount(prompts)
    means = np.bincount(prompts, scores) / count
    squares = np.bincount(prompts, (scores - means[prompts]) ** 2)
    own = np.maximum(np.sqrt(squares / count), least)
    found: Floats = -0.5 * squares / own**2 - count * np.log(own)
    return found


def _posterior(rest: Floats, rates: Floats, states: States) -> Floats:
    """Return the probability of the upper state for scores without their shifts."""
    slope = (rest - states.gap / 2) * states.gap / states.spread**2
    odds = np.log(np.maximum(rates, 1e-9)) - np.log(np.maximum(1 - rates, 1e-9)) + slope
    found: Floats = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return found


def _spread_within(scores: Floats, prompts: Ints) -> float:
    count = np.bincount(prompts)
    means = np.bincount(prompts, scores) / np.maximum(count, 1)
    return float((scores - means[prompts]).std())
