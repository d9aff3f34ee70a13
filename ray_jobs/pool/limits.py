"""How far a pool of workers goes: tries, deadlines, and how much may fail before nothing new is begun."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

REMEMBERED = 201
"""Durations that the running median is taken of: enough to be steady, few enough to follow a change."""

ENOUGH = 3
"""Durations from which a median says anything."""


@dataclass(frozen=True)
class Deadline:
    """When a worker that does not answer is given up.

    Attributes:
        factor: Multiple of the running median; doubled for each further attempt, so that a task that truly takes so
            long is done in the end.
        at_least_seconds: Never sooner than this, since a first task also warms its worker up.
        first_seconds: Before a median is known.
    """

    factor: float = 10.0
    at_least_seconds: float = 60.0
    first_seconds: float = 3600.0

    def seconds(self, median: float | None, attempt: int) -> float:
        """Return how long attempt number ``attempt``, from 1, may take where tasks take ``median`` seconds."""
        usual = self.first_seconds if median is None else max(self.at_least_seconds, self.factor * median)
        return usual * 2.0 ** (attempt - 1)


@dataclass(frozen=True)
class PoolLimits:
    """How far the pool goes before it gives up.

    Attributes:
        in_flight_per_actor: Tasks handed to one actor at a time; 2 hides the round trip to the driver. Near the end
            each actor gets one at a time, so that the last ones are spread.
        attempts: Tries per task that lost its actor, and starts per actor that fails before it finishes anything.
        start_seconds: How long to wait for a first actor, and for another one when all are lost.
        deadline: When an actor that does not answer is killed and its task tried elsewhere.
        resources: What one actor asks of the cluster; only told in the message of a pool that found no room.
    """

    in_flight_per_actor: int = 2
    attempts: int = 3
    start_seconds: float = 600.0
    deadline: Deadline = Deadline()
    resources: Mapping[str, float] = field(default_factory=dict)


class ErrorBudget:
    """How much may fail, in tasks; whoever notices a failure charges it, a part of a task as a fraction.

    Args:
        tasks: What may be charged before the budget is spent.
    """

    def __init__(self, tasks: float) -> None:
        self._tasks, self._charged = tasks, 0.0

    def charge(self, tasks: float) -> None:
        """Count ``tasks`` as failed."""
        self._charged += tasks

    @property
    def spent(self) -> bool:
        """Whether more failed than was allowed."""
        return self._charged > self._tasks


class RunningMedian:
    """Median of the latest durations."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """Remember how long a task took."""
        self._durations.append(seconds)

    @property
    def seconds(self) -> float | None:
        """The median, None while too few tasks were finished."""
        return statistics.median(self._durations) if len(self._durations) >= ENOUGH else None
