"""A bounded pool of actors: tasks go in, outcomes come back in the order in which they finish.

Nothing else in this project calls ``ray.get`` or ``ray.wait``. The pool retries by kind of fault. A lost actor (its
process or node died, its memory or its GPU context is gone) is replaced and the task that it was working on is tried
again, a bounded number of times; tasks that only waited behind it go back for free. An exception of the task itself is
an answer, and the same on every machine: it is never retried.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

MACHINE_FAULTS = frozenset({"OutOfMemoryError", "MemoryError", "AcceleratorError"})
"""Exceptions of a task, by class name, that tell of the machine and not of the task. After any of them a fresh process
is the only safe place to try again: memory is fragmented, or the CUDA context is lost for good. By name, because torch
need not be imported here."""

POLL_SECONDS = 5.0


class Task(Protocol):
    """Anything with a name; it must be picklable and its execution idempotent."""

    @property
    def id(self) -> str:
        """Name of the task in messages."""
        ...


T = TypeVar("T", bound=Task)


class PoolError(RuntimeError):
    """The machinery failed: no actor could be started, or none kept alive."""


@dataclass(frozen=True)
class PoolLimits:
    """How far the pool goes before it gives up.

    Attributes:
        in_flight_per_actor: Tasks handed to one actor at a time; 2 hides the round trip to the driver.
        attempts: Tries per task that lost its actor, and starts per actor that fails before it finishes anything.
        start_seconds: How long to wait for a first actor, and for another one when all are lost.
        resources: What one actor asks of the cluster; only told in the message of a pool that found no room.
    """

    in_flight_per_actor: int = 2
    attempts: int = 3
    start_seconds: float = 600.0
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished(Generic[T]):
    """A task that was done, with what the actor answered."""

    task: T
    value: Any
    attempts: int


@dataclass(frozen=True)
class Failed(Generic[T]):
    """A task that was given up, with the last reason."""

    task: T
    reason: str
    attempts: int


def run_on_pool(
    make_actor: Callable[[int], Any],
    tasks: Sequence[T],
    *,
    size: int,
    submit: Callable[[Any, T], Any],
    error_budget: int,
    limits: PoolLimits | None = None,
) -> Generator[Finished[T] | Failed[T]]:
    """Do every task on one of ``size`` actors; yield outcomes as they come.

    The actors are killed when the iterator ends or is closed; close it (``contextlib.closing``) if you may leave early.

    Args:
        make_actor: Starts actor number ``i`` and returns its handle at once.
        tasks: What to do; begun in this order.
        size: Actors at a time, at most one for each task.
        submit: Starts a task on an actor and returns the reference of its answer.
        error_budget: With more failed tasks than this nothing new is started; what is running is brought home, and the
            tasks that were never yielded are left undone.
        limits: When to give up; see ``PoolLimits``.

    Raises:
        ValueError: If ``size`` is below 1.
        PoolError: If no actor can be scheduled in time, or every actor failed repeatedly while it was made.
    """
    if size < 1:
        raise ValueError(f"a pool needs at least one actor, got size {size}; set workers.count to 1 or more")
    pool = _Pool(make_actor, submit, tasks, min(size, len(tasks)), limits or PoolLimits())
    return pool.outcomes(error_budget)


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    task: T
    number: int = 1


@dataclass
class _Seat(Generic[T]):
    """A place in the pool; the actors that fill it come and go. ``work`` keeps the order of submission."""

    number: int
    actor: Any = None
    ready: bool = False
    failed_starts: int = 0
    work: dict[Any, _Attempt[T]] = field(default_factory=dict)


class _Pool(Generic[T]):
    def __init__(
        self,
        make_actor: Callable[[int], Any],
        submit: Callable[[Any, T], Any],
        tasks: Sequence[T],
        size: int,
        limits: PoolLimits,
    ) -> None:
        self._make_actor = make_actor
        self._submit = submit
        self._limits = limits
        self._queue = deque(_Attempt(task) for task in tasks)
        self._seats: list[_Seat[T]] = [_Seat(number) for number in range(size)]
        self._starting: dict[Any, _Seat[T]] = {}
        self._running: dict[Any, _Seat[T]] = {}
        self._last_sign_of_life = time.monotonic()

    def outcomes(self, error_budget: int) -> Generator[Finished[T] | Failed[T]]:
        failed = 0
        try:
            for seat in self._seats:
                self._start(seat)
            while self._running or (self._queue and failed <= error_budget):
                if failed <= error_budget:
                    self._feed()
                for outcome in self._collect():
                    failed += isinstance(outcome, Failed)
                    yield outcome
        finally:
            for seat in self._seats:
                self._kill(seat)

    def _start(self, seat: _Seat[T]) -> None:
        seat.actor, seat.ready = self._make_actor(seat.number), False
        self._starting[seat.actor.__ray_ready__.remote()] = seat

    def _kill(self, seat: _Seat[T]) -> None:
        if seat.actor is not None:
            ray.kill(seat.actor)
        seat.actor, seat.ready = None, False

    def _feed(self) -> None:
        """Hand out tasks, to the least busy actor first, so that the last ones are spread evenly."""
        while self._queue:
            free = [seat for seat in self._seats if seat.ready and len(seat.work) < self._limits.in_flight_per_actor]
            if not free:
                return
            seat = min(free, key=lambda one: len(one.work))
            attempt = self._queue.popleft()
            reference = self._submit(seat.actor, attempt.task)
            seat.work[reference] = attempt
            self._running[reference] = seat

    def _collect(self) -> Iterator[Finished[T] | Failed[T]]:
        """Wait for something to happen and settle it all: answers first, so that a loss costs only what it must."""
        references = [*self._starting, *self._running]
        ready, _ = ray.wait(references, num_returns=1, timeout=POLL_SECONDS)
        if not ready:
            self._refuse_to_wait_for_ever()
            return
        self._last_sign_of_life = time.monotonic()
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)  # all at once: one call, not one each
        faults: dict[Any, RayError] = {}
        for reference in ready:
            try:
                value = ray.get(reference)
            except RayError as error:
                faults[reference] = error
                continue
            if reference in self._starting:
                self._starting.pop(reference).ready = True
            else:
                yield self._finish(reference, value)
        for reference, fault in faults.items():
            yield from self._settle_fault(reference, fault)

    def _finish(self, reference: Any, value: Any) -> Finished[T]:  # noqa: ANN401 - Ray's references and answers
        seat = self._running.pop(reference)
        seat.failed_starts = 0
        attempt = seat.work.pop(reference)
        return Finished(attempt.task, value, attempt.number)

    def _settle_fault(self, reference: Any, error: RayError) -> Iterator[Failed[T]]:  # noqa: ANN401
        if reference in self._starting:
            self._start_again(self._starting.pop(reference), error)
        elif reference in self._running:  # else its actor was already counted as lost
            seat = self._running[reference]
            if _is_answer(error):
                del self._running[reference]
                attempt = seat.work.pop(reference)
                yield Failed(attempt.task, _reason(error), attempt.number)
            else:
                yield from self._lose(seat, error)

    def _lose(self, seat: _Seat[T], error: RayError) -> Iterator[Failed[T]]:
        """Replace the actor. It works in order of submission, so the oldest task is the one it was lost on."""
        guilty, *waiting = seat.work.values()
        for reference in seat.work:
            del self._running[reference]
        seat.work.clear()
        self._kill(seat)
        self._queue.extendleft(reversed(waiting))
        if guilty.number < self._limits.attempts:
            self._queue.append(replace(guilty, number=guilty.number + 1))  # last, so that it holds up no other
        else:
            yield Failed(guilty.task, _reason(error), guilty.number)
        if self._queue:
            self._start(seat)

    def _start_again(self, seat: _Seat[T], error: RayError) -> None:
        """Try the seat again; give it up after some tries, and the pool when no seat is left."""
        self._kill(seat)
        seat.failed_starts += 1
        if seat.failed_starts < self._limits.attempts:
            self._start(seat)
        elif all(other.actor is None for other in self._seats):
            raise PoolError(
                f"no worker could be started: each of {len(self._seats)} failed {self._limits.attempts} times, last "
                f"with {_reason(error)}. Repair that and run again; finished shards are kept"
            ) from error

    def _refuse_to_wait_for_ever(self) -> None:
        if self._running or time.monotonic() - self._last_sign_of_life < self._limits.start_seconds:
            return
        raise PoolError(
            f"no worker was ready within {self._limits.start_seconds:.0f} s: one asks for "
            f"{_amounts(self._limits.resources)}, the cluster has {_amounts(ray.cluster_resources())}, free are "
            f"{_amounts(ray.available_resources())}. Lower workers.gpus_per_worker or workers.threads, or give the "
            "cluster more; finished shards are kept"
        )


def _is_answer(error: RayError) -> bool:
    """Whether the task itself raised: another machine would say the same."""
    if not isinstance(error, RayTaskError):
        return False
    return not any(kind.__name__ in MACHINE_FAULTS for kind in type(error.cause).__mro__)


def _reason(error: RayError) -> str:
    """Return the root of the error in one line, without the traceback of the worker."""
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[-1] if lines and getattr(error, "actor_init_failed", False) else " ".join(lines)
    return told or type(error).__name__


def _amounts(resources: Mapping[str, float]) -> str:
    told = [f"{resources[name]:g} {name}" for name in ("CPU", "GPU") if name in resources]
    return ", ".join(told) or "no CPU and no GPU"
