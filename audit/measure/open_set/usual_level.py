"""The rate of a prompt whose images are nearly all in one state, read at the level that other prompts have.

The shape of such a prompt's scores has one mode, which may be the lower state or the upper one at another level. But
where the looks of prompts move levels little, the levels δ of k prompts whose shapes identify them say what is usual.
Of a further prompt, the level lies with a probability of 99 % within

    mean(δ) ± t · s(δ) √(1 + 1/k),   t of k − 1 degrees of freedom.

A prompt whose scores fit two states at a level in this range about as well as at any other has the rate that fits
best there. The range must be narrow beside the gap of the states: where looks move levels as far as the states are
apart, no rate is read from a level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from audit.measure.open_set.two_states import Bools, Floats, Ints, Levels, States, levels_of

_COVERAGE = 0.99
_FEWEST = 3
"""Fewest levels that say what is usual."""

_NARROW = 0.5
"""Largest distance of a usual level from the mean, in gaps; so of two levels one gap apart at most one is usual."""

_LOSS = 3.0
"""Largest loss of log-likelihood of a usual level against any other."""

_WIDER = 6.0
"""Loss against one Gaussian, at least as wide as a state, from which scores belong to no state."""


@dataclass(frozen=True)
class UsualLevels:
    """The range in which the level of a further prompt is expected.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: float
    high: float

    @classmethod
    def of(cls, levels: Levels, known: Bools, states: States) -> UsualLevels | None:
        """Take the levels of prompts whose shapes identify their rates; None if they are too few, or differ too much.

        Args:
            levels: The levels.
            known: (P,) the prompts whose shapes identify their rates.
            states: The states.
        """
        own = levels.shifts[known]
        if len(own) < _FEWEST:
            return None
        quantile = float(stats.t.ppf((1 + _COVERAGE) / 2, len(own) - 1))
        half = quantile * float(own.std(ddof=1)) * np.sqrt(1 + 1 / len(own))
        return cls(own.mean() - half, own.mean() + half) if half <= _NARROW * states.gap else None

    def read(self, scores: Floats, prompts: Ints, states: States, levels: Levels, known: Bools) -> tuple[Levels, Bools]:
        """Read the rates of further prompts at a usual level, and leave the others as they are.

        Args:
            scores: (n,).
            prompts: (n,) index of each score's prompt.
            states: The states.
            levels: What the shapes say.
            known: (P,) prompts whose rate is identified by their shape.

        Returns:
            The levels, and the prompts (P,) whose rate is identified by shape or by level.
        """
        inside = levels_of(scores, prompts, states, (self.low, self.high))
        read = ~known & (inside.fit >= levels.fit - _LOSS) & (inside.over_wide >= -_WIDER)
        found = replace(
            levels,
            shifts=np.where(read, inside.shifts, levels.shifts),
            rates=np.where(read, inside.rates, levels.rates),
            upper=np.where(read[prompts], inside.upper, levels.upper),
        )
        return found, known | read
