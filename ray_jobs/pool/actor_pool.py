"""A bounded pool of actors: runs tasks and yields outcomes in the order of completion.

No other module calls ``ray.get`` or ``ray.wait``. The pool retries by kind of fault. A lost actor (process or node
died, out of memory, invalid GPU context, timeout) is replaced, and its current task is retried up to a limit. Tasks in
its queue are rescheduled without counting as a retry. An exception that the task itself raised would be the same on
every machine and is never retried. Every fault is reported. Actors without work can wait for the next pool.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray.exceptions import RayError

from ray_jobs.cluster.connection import this_node
from ray_jobs.cluster.idle_actors import IDLE
from ray_jobs.pool.faults import TRIED_AGAIN, FaultKind, is_of_input, kind_of, reason_of
from ray_jobs.pool.limits import ErrorBudget, PoolLimits, RunningMedian

POLL_SECONDS = 1.0
"""Time of one wait for answers, and the interval of checks for overdue tasks."""

GROWTH_SECONDS = 15.0
"""Interval at which a pool of variable size asks for its current size."""


class Task(Protocol):
    """A task with a name; it must be picklable and idempotent."""

    @property
    def id(self) -> str:
        """Name of the task in messages."""
        ...


T = TypeVar("T", bound=Task)


class PoolError(RuntimeError):
    """No actor could be started or kept alive."""


class RefusedError(RuntimeError):
    """Every actor rejected its input with an error that would be the same on every machine."""


@dataclass(frozen=True)
class Finished(Generic[T]):
    """A finished task, with the actor's answer."""

    task: T
    value: Any
    attempts: int


@dataclass(frozen=True)
class Failed(Generic[T]):
    """A task that failed, with the last reason, and whether its input is the reason."""

    task: T
    reason: str
    attempts: int
    of_input: bool = False


@dataclass(frozen=True)
class Fault(Generic[T]):
    """A fault, whether or not a task failed because of it.

    Attributes:
        task: The task that was running, None during the start of an actor.
        attempt: Number of the task's attempt, or of the actor's start, from 1.
        kind: Kind of the fault.
        reason: Cause as text.
        node: ``<address> <node id>``; empty if the actor was lost before it reported its node.
        given_up: Whether the task will not be retried.
    """

    task: T | None
    attempt: int
    kind: FaultKind
    reason: str
    node: str
    given_up: bool


Outcome = Finished[T] | Failed[T] | Fault[T]


@dataclass(frozen=True)
class Reuse:
    """How actors of earlier pools are used again, and wait for later ones.

    Attributes:
        options: What the actors were started with, as text; only actors with equal options replace each other.
        prepare: Prepares a waiting actor for the tasks of this pool, and returns the reference of its node.
        rest: Lets an actor drop what it holds, before it waits.
    """

    options: str
    prepare: Callable[[Any], Any]
    rest: Callable[[Any], Any]


def run_on_pool(  # noqa: PLR0913 (two are optional)
    make_actor: Callable[[int], Any],
    tasks: Sequence[T],
    *,
    size: int | Callable[[], int],
    submit: Callable[[Any, T, int], Any],
    error_budget: ErrorBudget,
    limits: PoolLimits | None = None,
    reuse: Reuse | None = None,
) -> Generator[Outcome[T]]:
    """Run every task on one of ``size`` actors; yield one outcome per task, and faults between them.

    Actors join when the cluster has room for them, and leave when no task is left to start. The others leave when the
    iterator ends or is closed; use ``contextlib.closing`` if you may stop early. An actor that leaves is killed, or
    waits for the next pool if there is ``reuse``.

    Args:
        make_actor: Starts actor number ``i`` and returns its handle without waiting.
        tasks: The tasks, started in this order.
        size: Number of actors, at most one per task; a callable is called again at intervals, and the pool grows.
        submit: Starts an attempt of a task on an actor, and returns the reference of its answer.
        error_budget: Charged for each task that fails. When it is spent, running tasks finish, no task is started, and
            the remaining tasks are not yielded.
        limits: Retries and deadlines; see ``PoolLimits``.
        reuse: How actors that wait are used, and that those of this pool wait later; None starts and kills them all.

    Raises:
        ValueError: If ``size`` is below 1.
        PoolError: If no actor can be scheduled in time, or every actor failed repeatedly at its start.
        RefusedError: If every actor rejected its input.
    """
    at_first = size() if callable(size) else size
    if at_first < 1:
        raise ValueError(f"a pool needs at least one actor, got size {at_first}; set workers.count to 1 or more")
    sizes = size if callable(size) else lambda: at_first
    pool = _Pool(make_actor, submit, tasks, sizes, limits or PoolLimits(), reuse)
    return pool.outcomes(error_budget)


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    task: T
    number: int = 1


@dataclass
class _Seat(Generic[T]):
    """A position in the pool; the actor in it can be replaced.

    ``work`` has the order of submission, in which an actor works; ``began`` is the start time of its oldest task.
    """

    number: int
    actor: Any = None
    ready: bool = False
    node: str = ""
    failed_starts: int = 0
    began: float = 0.0
    work: dict[Any, _Attempt[T]] = field(default_factory=dict)


class _Pool(Generic[T]):
    def __init__(
        self,
        make_actor: Callable[[int], Any],
        submit: Callable[[Any, T, int], Any],
        tasks: Sequence[T],
        size: Callable[[], int],
        limits: PoolLimits,
        reuse: Reuse | None,
    ) -> None:
        self._make_actor = make_actor
        self._submit = submit
        self._size = size
        self._limits = limits
        self._reuse = reuse
        self._median = RunningMedian()
        self._queue = deque(_Attempt(task) for task in tasks)
        self._seats: list[_Seat[T]] = []
        self._starting: dict[Any, _Seat[T]] = {}
        self._running: dict[Any, _Seat[T]] = {}
        self._last_sign_of_life = time.monotonic()
        self._grown = self._looked = float("-inf")

    def outcomes(self, budget: ErrorBudget) -> Generator[Outcome[T]]:
        IDLE.stop(but=None if self._reuse is None else self._reuse.options, most=min(self._size(), len(self._queue)))
        try:
            while self._running or (self._queue and not budget.spent):
                if not budget.spent:
                    self._grow()
                    self._feed()
                for outcome in self._collect():
                    if isinstance(outcome, Failed):
                        budget.charge(1)
                    yield outcome
        finally:
            for seat in self._seats:
                self._dismiss(seat)

    def _grow(self) -> None:
        """Add seats up to the requested number of actors, at most one per task."""
        if time.monotonic() - self._grown < GROWTH_SECONDS:
            return
        self._grown = time.monotonic()
        useful = len(self._queue) + sum(bool(seat.work) for seat in self._seats)
        for number in range(len(self._seats), min(self._size(), useful)):
            self._seats.append(_Seat(number))
            self._start(self._seats[-1])

    def _start(self, seat: _Seat[T]) -> None:
        seat.ready, seat.node = False, ""
        waiting = None if self._reuse is None else IDLE.take(self._reuse.options)
        if self._reuse is not None and waiting is not None:
            seat.actor, reference = waiting, self._reuse.prepare(waiting)
        else:
            seat.actor = self._make_actor(seat.number)
            reference = seat.actor.__ray_call__.remote(_node_of)
        self._starting[reference] = seat

    def _dismiss(self, seat: _Seat[T]) -> None:
        """Let an actor without work wait for the next pool; kill it if it has work, is not ready, or must not wait."""
        if self._reuse is not None and seat.ready and not seat.work:
            self._reuse.rest(seat.actor)
            IDLE.keep(self._reuse.options, seat.actor)
            seat.actor, seat.ready = None, False
        else:
            self._kill(seat)

    def _kill(self, seat: _Seat[T]) -> None:
        if seat.actor is not None:
            ray.kill(seat.actor)
        seat.actor, seat.ready = None, False

    def _feed(self) -> None:
        """Hand out tasks to idle actors first; when no task is left, idle actors leave."""
        for depth in range(self._limits.in_flight_per_actor):
            for seat in self._seats:
                if not self._queue or (depth and len(self._queue) <= len(self._seats)):
                    break  # near the end, no task waits behind another one
                if seat.ready and len(seat.work) == depth:
                    self._hand_out(seat)
        if not self._queue:
            self._let_the_idle_leave()

    def _let_the_idle_leave(self) -> None:
        for seat in self._seats:
            if not seat.work:
                self._dismiss(seat)
        self._starting.clear()

    def _hand_out(self, seat: _Seat[T]) -> None:
        attempt = self._queue.popleft()
        reference = self._submit(seat.actor, attempt.task, attempt.number)
        if not seat.work:
            seat.began = time.monotonic()
        seat.work[reference] = attempt
        self._running[reference] = seat

    def _collect(self) -> Iterator[Outcome[T]]:
        """Wait for an event and process all events, answers first, so that a lost actor costs few tasks."""
        references = [*self._starting, *self._running]
        if not references:
            return
        ready, _ = ray.wait(references, num_returns=1, timeout=POLL_SECONDS)
        if ready:
            self._last_sign_of_life = time.monotonic()
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)  # one call for all references
            yield from self._settle(ready)
        else:
            self._check_start_deadline()
        yield from self._give_up_the_overdue()

    def _settle(self, ready: Sequence[Any]) -> Iterator[Outcome[T]]:
        faults: dict[Any, RayError] = {}
        for reference in ready:
            try:
                value = ray.get(reference)
            except RayError as error:
                faults[reference] = error
                continue
            if reference in self._starting:
                seat = self._starting.pop(reference)
                seat.ready, seat.node = True, value
            else:
                yield self._finish(reference, value)
        for reference, fault in faults.items():
            yield from self._settle_fault(reference, fault)

    def _finish(self, reference: Any, value: Any) -> Finished[T]:  # noqa: ANN401 - Ray's references and answers
        seat = self._running.pop(reference)
        seat.failed_starts = 0
        attempt = seat.work.pop(reference)
        now = time.monotonic()
        self._median.add(now - seat.began)
        seat.began = now
        return Finished(attempt.task, value, attempt.number)

    def _settle_fault(self, reference: Any, error: RayError) -> Iterator[Outcome[T]]:  # noqa: ANN401
        seat = self._starting.get(reference) or self._running.get(reference)
        if seat is None:  # the actor was already counted as lost
            return
        starting = reference in self._starting
        kind = kind_of(error, _dead_nodes(), seat.node.rpartition(" ")[2], starting=starting)
        if starting:
            del self._starting[reference]
            yield from self._start_again(seat, kind, error)
        elif kind in TRIED_AGAIN:
            yield from self._lose(seat, kind, reason_of(error))
        else:
            del self._running[reference]
            attempt = seat.work.pop(reference)
            seat.began = time.monotonic()
            yield Fault(attempt.task, attempt.number, kind, reason_of(error), seat.node, given_up=True)
            yield Failed(attempt.task, reason_of(error), attempt.number, is_of_input(error))

    def _lose(self, seat: _Seat[T], kind: FaultKind, reason: str) -> Iterator[Outcome[T]]:
        """Replace a lost actor. It works in order of submission, so it was lost during its oldest task."""
        guilty, *waiting = seat.work.values()
        for reference in seat.work:
            del self._running[reference]
        seat.work.clear()
        self._kill(seat)
        self._queue.extendleft(reversed(waiting))
        given_up = guilty.number >= self._limits.attempts
        yield Fault(guilty.task, guilty.number, kind, reason, seat.node, given_up)
        if given_up:
            yield Failed(guilty.task, reason, guilty.number)
        else:
            self._queue.append(replace(guilty, number=guilty.number + 1))  # at the end, so that it delays no other task
        if self._queue:
            self._start(seat)

    def _start_again(self, seat: _Seat[T], kind: FaultKind, error: RayError) -> Iterator[Fault[T]]:
        """Restart a seat's actor; drop the seat after several failures, and fail when no seat is left.

        Lost nodes do not count as failures of the seat, since their number is limited. An error that would be the same
        for every actor is not retried.
        """
        self._kill(seat)
        seat.failed_starts += kind is not FaultKind.LOST_NODE
        hopeless = kind not in TRIED_AGAIN
        given_up = hopeless or seat.failed_starts >= self._limits.attempts
        yield Fault(None, max(1, seat.failed_starts), kind, reason_of(error), seat.node, given_up)
        if not given_up:
            self._start(seat)
        elif all(other.actor is None for other in self._seats):
            if hopeless:
                raise _refused(kind, error) from error
            self._call_back(error)

    def _call_back(self, error: RayError) -> None:
        """Start an actor on a seat that was left because there was no work."""
        seat = next((seat for seat in self._seats if seat.failed_starts < self._limits.attempts), None)
        if seat is not None:
            self._start(seat)
            return
        raise PoolError(
            f"no worker could be started: each of {len(self._seats)} failed {self._limits.attempts} times, the last "
            f"time: {reason_of(error)}. Fix this and run again; finished shards are kept"
        ) from error

    def _allowed(self, seat: _Seat[T]) -> float:
        oldest = next(iter(seat.work.values()))
        return self._limits.deadline.seconds(self._median.seconds, oldest.number)

    def _give_up_the_overdue(self) -> Iterator[Outcome[T]]:
        """Kill actors that have exceeded their deadline; checked at intervals, since there can be a thousand."""
        if time.monotonic() - self._looked < POLL_SECONDS:
            return
        self._looked = time.monotonic()
        for seat in self._seats:
            if seat.work and (elapsed := time.monotonic() - seat.began) >= (allowed := self._allowed(seat)):
                median = self._median.seconds
                typical = (
                    "no task has finished yet" if median is None else f"half of them take less than {median:.1f} s"
                )
                reason = f"no answer within {elapsed:.0f} s; the limit is {allowed:.0f} s ({typical})"
                yield from self._lose(seat, FaultKind.TIMED_OUT, reason)

    def _check_start_deadline(self) -> None:
        if self._running or time.monotonic() - self._last_sign_of_life < self._limits.start_seconds:
            return
        asked = self._limits.resources
        raise PoolError(
            f"no worker was ready within {self._limits.start_seconds:.0f} s: one requests {_amounts(asked, asked)}, "
            f"the cluster has {_amounts(ray.cluster_resources(), asked)}, free are "
            f"{_amounts(ray.available_resources(), asked)}. Reduce the resources under workers in the config, or "
            "enlarge the cluster; finished shards are kept"
        )


def _refused(kind: FaultKind, error: RayError) -> RefusedError | PoolError:
    if kind is FaultKind.REFUSED:
        return RefusedError(reason_of(error))
    return PoolError(f"no worker could be started: {reason_of(error)}. Finished shards are kept")


def _node_of(_actor: object) -> str:
    """Return the actor's node; it answers as soon as the actor is ready."""
    return this_node()


def _dead_nodes() -> list[str]:
    return [node["NodeID"] for node in ray.nodes() if not node["Alive"]]


def _amounts(resources: Mapping[str, float], asked: Mapping[str, float]) -> str:
    amounts = [f"{resources.get(name, 0):g} {name}" for name, amount in asked.items() if amount]
    return ", ".join(amounts) or "nothing"
