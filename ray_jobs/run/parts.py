"""Computes the parts of a larger result on a pool of workers, and resumes with the parts that are missing.

Each task has one part. A worker computes the part and stores it in a file with the name of the task; the directory is
named by content, so a part that is stored already is not computed again. Every task must succeed; none has a deadline.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import ray
from safetensors import SafetensorError

from audit.config.sections import WorkersConfig
from audit.storage.files import Storage, storage_of
from audit.storage.place import place_of
from ray_jobs.cluster.connection import Cluster, asked_resources, this_node, work_in, worker_count, worker_resources
from ray_jobs.pool.actor_pool import Failed, Fault, Reuse, run_on_pool
from ray_jobs.pool.limits import Deadline, ErrorBudget, PoolLimits
from ray_jobs.run.progress.worker_log import log_as_json

LOG = logging.getLogger(__name__)

UNHURRIED = Deadline(first_seconds=math.inf)
"""No deadline: the duration of a first task is not known."""


class PreparationError(RuntimeError):
    """A task outside the shards failed.

    Attributes:
        of_input: Whether what the user wrote is the reason, and not a fault of a machine.
    """

    def __init__(self, message: str, *, of_input: bool = False) -> None:
        super().__init__(message)
        self.of_input = of_input

    @classmethod
    def during(cls, step: str, error: PreparationError) -> Self:
        """Name the step of the audit in which a task failed."""
        return cls(f"{step}: {error}", of_input=error.of_input)


class Task(Protocol):
    """One task."""

    @property
    def id(self) -> str:
        """Name in messages, and of the file of its part."""
        ...


T = TypeVar("T", bound=Task)
P = TypeVar("P")


@dataclass(frozen=True)
class WorkerPool:
    """Where tasks run.

    Attributes:
        workers: How many workers, and their resources.
        cluster: The cluster that they run on.
    """

    workers: WorkersConfig
    cluster: Cluster


def _no_description(_part: object) -> str:
    return ""


@dataclass(frozen=True)
class PartFiles(Generic[P]):
    """Files of parts, one for each task; it travels to the workers.

    Attributes:
        title: What the parts are, in the log.
        directory: Path or address of the directory of the result.
        folder: Folder of the parts in it.
        suffix: End of the file names.
        encode: Serialises a part; a module-level function.
        decode: Reads a part back.
        describe: Describes a part in the log.
    """

    title: str
    directory: str
    folder: str
    suffix: str
    encode: Callable[[P], bytes]
    decode: Callable[[bytes], P]
    describe: Callable[[P], str] = _no_description

    def missing(self, tasks: Sequence[T]) -> list[T]:
        """Return the tasks whose part is not stored."""
        stored = self._storage.names(self.folder)
        return [task for task in tasks if f"{task.id}{self.suffix}" not in stored]

    def write(self, task: Task, part: P) -> None:
        """Store the part of a task."""
        self._storage.write(self._name(task), self.encode(part))

    def read(self, task: Task) -> P:
        """Return the part of a task.

        Raises:
            FileNotFoundError: If it is not stored.
            PreparationError: If the file is incomplete or holds something else.
        """
        data = self._storage.read(self._name(task))
        try:
            return self.decode(data)
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise PreparationError(
                f"{self.directory}/{self._name(task)}: expected a complete part, found a file that cannot be read "
                f"({error}); delete it and run again"
            ) from error

    def delete(self, tasks: Sequence[Task]) -> None:
        """Delete the parts of tasks, and their folder if it is empty then."""
        for task in tasks:
            self._storage.delete(self._name(task))
        place = place_of(self.directory) / self.folder
        if isinstance(place, Path):
            with suppress(OSError):  # not empty, or not there
                place.rmdir()

    @property
    def _storage(self) -> Storage:
        return storage_of(place_of(self.directory))

    def _name(self, task: Task) -> str:
        return f"{self.folder}/{task.id}{self.suffix}"


class TaskActor:
    """Runs tasks in a process of its own; a plain class, made remote by ``results_of``.

    Args:
        worker: Class with a method ``do(task)``; it is constructed with ``settings`` alone.
        settings: What the worker needs.
        threads: Threads of torch.
        directory: Directory that relative paths start from.
        files: Where parts are stored; None returns them to the driver.
    """

    _worker: Any

    def __init__(
        self, worker: type, settings: object, threads: int, directory: str, files: PartFiles[Any] | None = None
    ) -> None:
        """Construct the worker, which may load networks."""
        import torch

        log_as_json(logging.getLogger("audit"))
        torch.set_num_threads(threads)
        self._take_over(worker, settings, directory, files)

    def prepare(self, worker: type, settings: object, directory: str, files: PartFiles[Any] | None) -> str:
        """Take another worker, for the tasks of another pool, and return the node."""
        self._take_over(worker, settings, directory, files)
        return this_node()

    def rest(self) -> None:
        """Drop the worker and its networks, and wait for another one."""
        import torch

        self._worker = None
        gc.collect()
        torch.cuda.empty_cache()

    def _take_over(self, worker: type, settings: object, directory: str, files: PartFiles[Any] | None) -> None:
        work_in(directory)
        self._worker, self._files = worker(settings), files

    def do(self, task: Task) -> Any:  # noqa: ANN401 - whatever the worker computes
        """Do a task; return its result, or the description of the part that was stored."""
        result = self._worker.do(task)
        if self._files is None:
            return result
        self._files.write(task, result)
        return self._files.describe(result)


def make_parts(worker: type, settings: object, tasks: Sequence[T], files: PartFiles[Any], pool: WorkerPool) -> None:
    """Compute and store the parts that are missing, and log each one.

    Args:
        worker: Class with a method ``do(task)`` that returns the part.
        settings: Argument of its constructor.
        tasks: All tasks; those whose part is stored are left out.
        files: Where parts are stored.
        pool: Where the tasks run.

    Raises:
        PreparationError: If a task failed.
    """
    missing = files.missing(tasks)
    if missing:
        LOG.info("%s: %d of %d to do", files.title, len(missing), len(tasks))
    results = results_of(worker, settings, missing, pool, files)
    for number, (task, description) in enumerate(results, 1):
        LOG.info("%s: %d of %d, %s%s", files.title, number, len(missing), task.id, description)


def results_of(
    worker: type, settings: object, tasks: Sequence[T], pool: WorkerPool, files: PartFiles[Any] | None = None
) -> Iterator[tuple[T, Any]]:
    """Do every task on a pool of workers, and yield each with its result as it finishes.

    Args:
        worker: Class with a method ``do(task)``.
        settings: Argument of its constructor.
        tasks: The tasks.
        pool: Where they run.
        files: Where results are stored as parts; None returns them.

    Raises:
        PreparationError: If a task failed.
    """
    if not tasks:
        return
    workers, cluster, here = pool.workers, pool.cluster, str(Path.cwd())
    options = worker_resources(workers, cluster.gpus)
    remote = ray.remote(TaskActor).options(**options)
    outcomes = run_on_pool(
        lambda _number: remote.remote(worker, settings, workers.threads, here, files),
        tasks,
        size=worker_count(workers, cluster),
        submit=lambda actor, task, _attempt: actor.do.remote(task),
        error_budget=ErrorBudget(0),
        limits=PoolLimits(deadline=UNHURRIED, resources=asked_resources(workers, cluster.gpus)),
        reuse=Reuse(
            repr(options),
            lambda actor: actor.prepare.remote(worker, settings, here, files),
            lambda actor: actor.rest.remote(),
        ),
    )
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                raise PreparationError(f"step {outcome.task.id} failed: {outcome.reason}", of_input=outcome.of_input)
            if isinstance(outcome, Fault):
                LOG.warning("%s: %s", outcome.kind, outcome.reason)
            else:
                yield outcome.task, outcome.value
