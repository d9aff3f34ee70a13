"""What is made on the workers before the first shard: each step must succeed, and none has a deadline."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import ray

from audit.config.sections import WorkersConfig
from audit.config.settings import AuditConfig
from ray_jobs.cluster.connection import Cluster, asked_resources, work_in, worker_count, worker_resources
from ray_jobs.pool.actor_pool import Failed, Fault, run_on_pool
from ray_jobs.pool.limits import Deadline, ErrorBudget, PoolLimits

if TYPE_CHECKING:
    from audit.models.generator import DiffusionGenerator

LOG = logging.getLogger(__name__)

UNHURRIED = Deadline(first_seconds=math.inf)
"""The duration of a first step is not known."""


class PreparationError(RuntimeError):
    """A step before the first shard failed."""


class Step(Protocol):
    """One step of a preparation."""

    @property
    def id(self) -> str:
        """Name in messages."""
        ...


S = TypeVar("S", bound=Step)


def network_of(config: AuditConfig, threads: int, working_directory: str) -> DiffusionGenerator:
    """Load the model of an audit in a worker.

    Args:
        config: The audit.
        threads: Of torch.
        working_directory: Where relative paths in the config start.

    Raises:
        ValueError: The model has no network.
    """
    import torch

    from audit.models.generator import DiffusionGenerator, load_generator

    work_in(working_directory)
    torch.set_num_threads(threads)
    generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
    if not isinstance(generator, DiffusionGenerator):
        raise ValueError(f"model {config.model.source!r} has no network to edit or dissect; remove the mitigations")
    return generator


def results_of(
    worker: type, arguments: Sequence[object], steps: Sequence[S], workers: WorkersConfig, cluster: Cluster
) -> Iterator[tuple[S, Any]]:
    """Do every step on a pool of workers, and yield each with its result as it comes.

    Args:
        worker: Class with a method ``do(step)``.
        arguments: Its own, before the directory that the audit was started in.
        steps: What to do.
        workers: How many workers, and with what.
        cluster: Where.

    Raises:
        PreparationError: A step failed.
    """
    if not steps:
        return
    remote = ray.remote(worker).options(**worker_resources(workers, cluster.gpus))
    outcomes = run_on_pool(
        lambda _number: remote.remote(*arguments, str(Path.cwd())),
        steps,
        size=worker_count(workers, cluster),
        submit=lambda actor, step, _attempt: actor.do.remote(step),
        error_budget=ErrorBudget(0),
        limits=PoolLimits(deadline=UNHURRIED, resources=asked_resources(workers, cluster.gpus)),
    )
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                raise PreparationError(f"step {outcome.task.id} failed: {outcome.reason}")
            if isinstance(outcome, Fault):
                LOG.warning("%s: %s", outcome.kind, outcome.reason)
            else:
                yield outcome.task, outcome.value
