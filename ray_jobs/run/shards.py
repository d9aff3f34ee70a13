"""Makes the shards of an audit on a pool of workers, resumes with those that are missing, and records faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import ray

from audit.analyses.registry import OBSERVING
from audit.config.fields import API
from audit.config.sections import WorkersConfig
from audit.records.work import Shard, ShardReceipt, Status
from audit.results.two_stages import Stages, second_stage
from audit.storage.run_directory import CorruptShardError, RunDirectory
from ray_jobs.cluster.connection import Cluster, asked_resources, cluster_now, worker_count, worker_resources
from ray_jobs.pool.actor_pool import Failed, Fault, PoolError, run_on_pool
from ray_jobs.pool.limits import Deadline, ErrorBudget, PoolLimits
from ray_jobs.run.parts import UNHURRIED, WorkerPool
from ray_jobs.run.progress.display import show_progress
from ray_jobs.run.progress.fault_manifest import Manifest
from ray_jobs.run.progress.metrics import DriverMetrics
from ray_jobs.run.progress.work_times import WorkTimes
from ray_jobs.run.worker import ShardWorker, WorkerSettings


@dataclass(frozen=True)
class ShardWork:
    """Where and how the shards of an audit are made.

    Attributes:
        run: Run directory, which holds the finished shards.
        settings: Settings of the workers.
        pool: Where the workers run.
    """

    run: RunDirectory
    settings: WorkerSettings
    pool: WorkerPool


def do_stages(
    work: ShardWork, shards: Sequence[Shard], stages: Stages | None
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """Make the planned shards and, with two-stage sampling, the shards that their results ask for.

    Args:
        work: Where and how shards are made.
        shards: The planned shards; with two-stage sampling those of the pilot.
        stages: Two-stage sampling, None for a fixed number of images.

    Returns:
        All shards, and those that are finished, both in plan order.

    Raises:
        PoolError: If no worker can be started, or no shard could be finished.
        CorruptShardError: If the file of a shard of the pilot cannot be read.
    """
    if stages is None:
        return tuple(shards), do_shards(work, shards, whole=len(shards))
    pilot = do_shards(work, shards, whole=None)
    further = second_stage(stages, work.run, pilot, work.settings.request.sampling.batch)
    place = {prompt_id: number for number, prompt_id in enumerate(dict.fromkeys(s.prompt.id for s in shards))}
    every = tuple(sorted([*shards, *further], key=lambda shard: (place[shard.prompt.id], shard.number)))
    # A pilot that failed is left to the next run: finished now, it would leave its prompt without its second stage.
    possible = {shard.id for shard in (*pilot, *further)}
    ready = [shard for shard in every if shard.id in possible]
    return every, do_shards(work, ready, whole=len(every))


def do_shards(work: ShardWork, shards: Sequence[Shard], *, whole: int | None) -> tuple[Shard, ...]:
    """Make the shards that are not finished yet and return all finished ones, in plan order.

    Args:
        work: Where and how shards are made.
        shards: The shards.
        whole: Number of shards of the audit, None if it is not known yet.

    Raises:
        PoolError: If no worker can be started, or no shard could be finished.
    """
    run, workers = work.run, work.pool.workers
    done = run.finished()
    todo = [shard for shard in shards if shard.id not in done]
    manifest, metrics = Manifest(run), DriverMetrics()
    manifest.lost_driver()
    budget = ErrorBudget(len(shards) * workers.error_budget)
    failures: list[Failed[Shard]] = []
    outcomes = run_on_pool(
        worker_factory(work),
        todo,
        size=_pool_size(work, todo),
        submit=lambda worker, shard, attempt: worker.do.remote(shard, attempt),
        error_budget=budget,
        limits=_limits(work),
    )
    times = WorkTimes(run)
    progress_of = show_progress(run, whole or len(shards), len(shards) - len(todo), last=whole is not None)
    with progress_of as progress, times, closing(outcomes):
        metrics.waiting(len(todo))
        for outcome in outcomes:
            if isinstance(outcome, Fault):
                manifest.fault(outcome)
                metrics.fault(outcome.kind.value)
                continue
            if isinstance(outcome, Failed):
                failures.append(outcome)
                progress.failed(outcome.task.id, outcome.reason)
            else:
                manifest.receipt(outcome.value, outcome.attempts)
                budget.charge(unmade_share(outcome.value))
                progress.finished(outcome.value)
                times.add(outcome.value)
            metrics.waiting(progress.left)
    done = run.finished()
    finished = tuple(shard for shard in shards if shard.id in done)
    if not finished:
        raise PoolError(f"none of {len(shards)} shards could be finished; {failures[0].task.id}: {failures[0].reason}")
    return finished


def discard_corrupt(run: RunDirectory) -> tuple[str, ...]:
    """Delete finished shards whose files cannot be read, record them in the manifest, and return their ids."""
    manifest, found = Manifest(run), []
    for shard_id in sorted(run.finished()):
        try:
            run.read_shard(shard_id)
            for analysis in OBSERVING:
                run.read_part(analysis, shard_id)
        except CorruptShardError as error:
            run.discard_shard(shard_id)
            manifest.corrupt_shard(shard_id, str(error))
            found.append(shard_id)
    return tuple(found)


def unmade_share(receipt: ShardReceipt) -> float:
    """Return the share of the images of a shard that could not be made; 0 if it was finished before."""
    return receipt.statuses.get(Status.FAILED, 0) / receipt.images if receipt.images else 0.0


def worker_factory(work: ShardWork) -> Callable[[int], Any]:
    """Return a function that starts a worker; its settings are put into Ray's store once, not sent at every start."""
    worker = ray.remote(ShardWorker).options(**worker_resources(work.pool.workers, work.pool.cluster.gpus))
    settings = ray.put(work.settings)
    return lambda _number: worker.remote(settings)


def pool_limits(workers: WorkersConfig, cluster: Cluster) -> PoolLimits:
    """Return the limits of the pool that makes shards."""
    floor = workers.deadline_seconds
    return PoolLimits(
        attempts=workers.attempts,
        deadline=Deadline(workers.deadline_factor, floor, max(floor, Deadline.first_seconds)),
        resources=asked_resources(workers, cluster.gpus),
    )


def _limits(work: ShardWork) -> PoolLimits:
    """Return the limits of the pool; no deadline for an endpoint, whose requests have their own and may wait."""
    limits = pool_limits(work.pool.workers, work.pool.cluster)
    asks_endpoint = work.settings.request.model.source == API
    return replace(limits, deadline=UNHURRIED, in_flight_per_actor=1) if asks_endpoint else limits


def _pool_size(work: ShardWork, todo: Sequence[Shard]) -> int | Callable[[], int]:
    """Return the number of workers; on a cluster that may grow, ``auto`` is evaluated again during the audit.

    One worker asks an endpoint, so that budget and pace of ``model.limits`` hold for the whole run.
    """
    if work.settings.request.model.source == API:
        return 1
    workers, cluster = work.pool.workers, work.pool.cluster
    images = sum(len(shard.indices) for shard in todo) * (1 + len(work.settings.request.mitigations))
    if cluster.local or isinstance(workers.count, int):
        return worker_count(workers, cluster, images)
    return lambda: worker_count(workers, cluster_now(local=False), images)
