"""Several workers in one process: as many sleepers as a scheduler should see, on a machine with few cores.

Each worker is a thread that does its tasks one after the other, as they come. The driver submits, waits and collects
for each as it would for a process; what is saved are 60 MB and a second of start for each.
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
"""More workers than this share processes."""


@dataclass(frozen=True, eq=False)
class LogicalWorker:
    """One worker of a process.

    Attributes:
        process: Ray's handle.
        group: Ray's concurrency group of one thread.
    """

    process: Any
    group: str

    @property
    def __ray_call__(self) -> Any:
        """Let the process say where it is."""
        return self.process.__ray_call__

    def submit(self, method: str, *arguments: object) -> Any:
        """Queue a call and return the reference of its answer."""
        return getattr(self.process, method).options(concurrency_group=self.group).remote(*arguments)


@contextmanager
def logical_workers(kind: type, count: int) -> Iterator[list[LogicalWorker]]:
    """Start ``count`` workers that take no CPU of Ray's count, and wait until all are there and at hand."""
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
    """Load what the pool's first question needs, by being found: a worker has loaded it long before its first shard."""


class _RayWithoutKill:
    """Ray, but a worker that the pool lets go leaves its process to the others."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def kill(self, _worker: LogicalWorker) -> None:
        """Leave the process alone."""


@contextmanager
def shared_processes() -> Iterator[None]:
    """Let the pool run on workers that share processes."""
    with mock.patch.object(pool, "ray", _RayWithoutKill()):
        yield
