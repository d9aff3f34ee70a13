"""Several logical workers in one process, so that a machine with few cores can test schedulers with many workers.

Each worker is a thread that runs its tasks in order. The driver submits, waits and collects for each worker as for a
process; this saves 60 MB and a second of start time per worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import ray

from ray_jobs.pool import actor_pool as pool

PROCESSES = 8
"""Largest number of workers with a process each."""


@dataclass(frozen=True, eq=False)
class LogicalWorker:
    """One worker inside a process.

    Attributes:
        process: Ray's handle.
        group: Ray's concurrency group with one thread.
    """

    process: Any
    group: str

    @property
    def __ray_call__(self) -> Any:
        """Return the location of the process."""
        return self.process.__ray_call__

    def submit(self, method: str, *arguments: object) -> Any:
        """Queue a call and return the reference of its answer."""
        return getattr(self.process, method).options(concurrency_group=self.group).remote(*arguments)


@contextmanager
def logical_workers(kind: type, count: int) -> Iterator[list[LogicalWorker]]:
    """Start ``count`` workers without CPUs in Ray's accounting, and wait until all are ready."""
    each = math.ceil(count / PROCESSES)
    groups = {f"worker-{number}": 1 for number in range(each)}
    process = ray.remote(num_cpus=0, concurrency_groups=groups)(kind)
    processes = [process.remote() for _ in range(math.ceil(count / each))]
    ray.get([process.__ray_call__.remote(_at_hand) for process in processes])
    try:
        yield [LogicalWorker(process, group) for group in groups for process in processes][:count]
    finally:
        for process in processes:
            ray.kill(process)


def _at_hand(_worker: object) -> None:
    """Load what the pool's first call needs; a real worker has loaded it long before its first shard."""


class _RayWithoutKill:
    """Ray without ``kill``: a worker that the pool drops keeps its process, which other workers share."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def kill(self, _worker: LogicalWorker) -> None:
        """Do nothing."""


@contextmanager
def shared_processes() -> Iterator[None]:
    """Let the pool use workers that share processes."""
    with mock.patch.object(pool, "ray", _RayWithoutKill()):
        yield
