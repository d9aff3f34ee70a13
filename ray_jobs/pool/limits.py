"""Limits of the worker pool: retries, deadlines and the error budget."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

REMEMBERED = 201
"""Number of latest durations in the running median: enough for a stable value, few enough to follow changes."""

ENOUGH = 3
"""Number of durations that a median needs."""


@dataclass(frozen=True)
class Deadline:
    """Deadline of a worker that does not answer.

    Attributes:
        factor: Multiple of the running median; doubled for each further attempt, so that a slow task can still finish.
        at_least_seconds: Minimum deadline, since a first task also initialises its worker.
        first_seconds: Deadline before a median is known.
    """

    factor: float = 10.0
    at_least_seconds: float = 60.0
    first_seconds: float = 3600.0

    def seconds(self, median: float | None, attempt: int) -> float:
        """Return the time limit of attempt number ``attempt``, from 1, if tasks take ``median`` seconds."""
        usual = self.first_seconds if median is None else max(self.at_least_seconds, self.factor * median)
        return usual * 2.0 ** (attempt - 1)


@dataclass(frozen=True)
class PoolLimits:
    """Limits of the pool.

    Attributes:
        in_flight_per_actor: Tasks queued on one actor; 2 hides the round trip to the driver. Near the end each actor
            gets one task, so that the last tasks are spread.
        attempts: Attempts per task that lost its actor, and starts per actor that fails before it finishes a task.
        start_seconds: Time limit for a first actor, and for a new one after all are lost.
        deadline: When an actor that does not answer is killed and its task is retried.
        resources: Resources that one actor requests; used only in the message of a pool without room.
    """

    in_flight_per_actor: int = 2
    attempts: int = 3
    start_seconds: float = 600.0
    deadline: Deadline = Deadline()
    resources: Mapping[str, float] = field(default_factory=dict)


class ErrorBudget:
    """Number of tasks that may fail; a part of a task counts as a fraction.

    Args:
        tasks: Failures that are allowed.
    """

    def __init__(self, tasks: float) -> None:
        self._tasks, self._charged = tasks, 0.0

    def charge(self, tasks: float) -> None:
        """Count ``tasks`` as failed."""
        self._charged += tasks

    @property
    def spent(self) -> bool:
        """Whether more tasks failed than allowed."""
        return self._charged > self._tasks


class RunningMedian:
    """Median of the latest durations."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """Add the duration of a task."""
        self._durations.append(seconds)

    @property
    def seconds(self) -> float | None:
        """The median, None before enough tasks have finished."""
        return statistics.median(self._durations) if len(self._durations) >= ENOUGH else None
