"""A simulated cluster with a virtual clock, on which the real pool schedules.

It replaces the parts of Ray that the pool uses: ``wait``, ``get``, ``kill``, ``nodes`` and actors that run their tasks
in order. Nothing sleeps, so a thousand workers, or hung ones, take little time. Every call costs driver time, as
measured on a real cluster, since that limits a scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ray.exceptions import ActorDiedError

from ray_jobs.pool import actor_pool as pool


@dataclass(frozen=True)
class DriverCost:
    """Driver time in seconds.

    Attributes:
        submit: To submit a task.
        answer: To receive an answer.
        wait: To check once which answers are ready.
    """

    submit: float = 0.0
    answer: float = 0.0
    wait: float = 0.0


@dataclass(eq=False)
class Reference:
    """A future answer at time ``at``; if ``error`` is set, it is raised instead."""

    at: float
    value: Any = None
    error: Exception | None = None


@dataclass(eq=False)
class Actor:
    """Runs its tasks in order; tasks without an answer at ``dies_at`` are lost."""

    cluster: SimulatedCluster
    ready: Reference
    free_at: float
    dies_at: float = math.inf
    killed_at: float | None = None

    @property
    def __ray_call__(self) -> _Call:
        """Return the actor's location when it is ready."""
        return _Call(self.ready)

    def begin(self, seconds: float, value: Any = None, error: Exception | None = None) -> Reference:
        """Queue a task of ``seconds`` and return the reference of its answer."""
        self.free_at = max(self.free_at, self.cluster.now) + seconds
        reference = Reference(self.free_at, value, error)
        if self.free_at > self.dies_at:
            reference.at, reference.error = max(self.dies_at, self.cluster.now), ActorDiedError()
        self.cluster.now += self.cluster.cost.submit
        return reference


@dataclass(frozen=True)
class _Call:
    ready: Reference

    def remote(self, _function: Any) -> Reference:
        return self.ready


class SimulatedCluster:
    """Replaces ``ray`` and ``time`` in the pool.

    Args:
        cost: Driver time of its calls.
    """

    def __init__(self, cost: DriverCost | None = None) -> None:
        self.now, self.cost = 0.0, cost or DriverCost()
        self.actors: list[Actor] = []

    def start(self, seconds: float, error: Exception | None = None, dies_after: float = math.inf) -> Actor:
        """Return an actor that is ready after ``seconds``."""
        at = self.now + seconds
        ready = Reference(at, "127.0.0.1 simulated", error)
        self.actors.append(Actor(self, ready, free_at=at, dies_at=at + dies_after))
        return self.actors[-1]

    @contextmanager
    def in_place_of_ray(self) -> Iterator[SimulatedCluster]:
        """Let the pool use this cluster and its clock inside the block."""
        with mock.patch.object(pool, "ray", self), mock.patch.object(pool, "time", self):
            yield self

    def monotonic(self) -> float:
        """Return the virtual time."""
        return self.now

    def wait(
        self, references: Sequence[Reference], *, num_returns: int, timeout: float
    ) -> tuple[list[Reference], list[Reference]]:
        """Advance time until an answer is ready or ``timeout`` has passed, like ``ray.wait``."""
        self.now += self.cost.wait
        first = min(reference.at for reference in references)
        if first > self.now and timeout:
            self.now = min(first, self.now + timeout)
        ready = [reference for reference in references if reference.at <= self.now]
        return ready[:num_returns], []  # the pool does not use the second list

    def get(self, reference: Reference) -> Any:
        """Return an answer, or raise what came in its place."""
        self.now += self.cost.answer
        if reference.error is not None:
            raise reference.error
        return reference.value

    def kill(self, actor: Actor) -> None:
        """End an actor."""
        actor.killed_at = self.now

    def nodes(self) -> list[dict[str, Any]]:
        """Return no node, so none that is dead."""
        return []

    def cluster_resources(self) -> dict[str, float]:
        """Return nothing in particular."""
        return {}

    available_resources = cluster_resources
