"""The shards of an audit on the pool: what is still to do is done, and what goes wrong is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from audit.config.settings import AuditConfig
from audit.records.work import Shard, ShardReceipt, Status
from audit.storage.place import Place
from audit.storage.run_directory import CorruptShardError, RunDirectory
from ray_jobs.cluster.connection import Cluster, asked_resources, cluster_now, worker_count, worker_resources
from ray_jobs.pool.actor_pool import Failed, Fault, PoolError, run_on_pool
from ray_jobs.pool.limits import Deadline, ErrorBudget, PoolLimits
from ray_jobs.run.progress.display import show_progress
from ray_jobs.run.progress.fault_manifest import Manifest
from ray_jobs.run.progress.metrics import DriverMetrics
from ray_jobs.run.worker import ShardWorker, WorkerSettings


class NoImagesError(RuntimeError):
    """Every single image of an audit failed: there is nothing to measure."""


@dataclass(frozen=True)
class Prepared:
    """What is made before the first shard.

    Attributes:
        lens: Directory of the model's lens, None where the audit needs none.
        fits: Directory of the fit by the name of the mitigation.
    """

    lens: Place | None = None
    fits: Mapping[str, Place] = field(default_factory=dict)


def do_shards(
    config: AuditConfig,
    shards: Sequence[Shard],
    run: RunDirectory,
    prepared: Prepared,
    cluster: Cluster,
    *,
    whole: int | None,
) -> tuple[Shard, ...]:
    """Do the shards that are not finished yet and return all that are, in plan order.

    Args:
        config: The audit.
        shards: What to do.
        run: Where finished shards are.
        prepared: The lens and the fitted methods.
        cluster: Who works.
        whole: Shards of the audit, None while that is not known.

    Raises:
        PoolError: If no worker can be started, or nothing could be finished.
    """
    done = run.finished()
    todo = [shard for shard in shards if shard.id not in done]
    manifest, metrics = Manifest(run), DriverMetrics()
    manifest.lost_driver()
    budget = ErrorBudget(len(shards) * config.workers.error_budget)
    failures: list[Failed[Shard]] = []
    outcomes = run_on_pool(
        worker_factory(config, run, prepared, cluster),
        todo,
        size=_pool_size(config, todo, cluster),
        submit=lambda worker, shard, attempt: worker.do.remote(shard, attempt),
        error_budget=budget,
        limits=pool_limits(config, cluster),
    )
    progress_of = show_progress(run, whole or len(shards), len(shards) - len(todo), last=whole is not None)
    with progress_of as progress, closing(outcomes):
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
            metrics.waiting(progress.left)
    done = run.finished()
    finished = tuple(shard for shard in shards if shard.id in done)
    if not finished:
        raise PoolError(f"none of {len(shards)} shards could be finished; {failures[0].task.id}: {failures[0].reason}")
    return finished


def discard_corrupt(run: RunDirectory) -> tuple[str, ...]:
    """Forget finished shards whose files cannot be read, tell the manifest, and return their ids."""
    manifest, found = Manifest(run), []
    for shard_id in sorted(run.finished()):
        try:
            run.read_shard(shard_id)
            run.read_attribution(shard_id)
        except CorruptShardError as error:
            run.discard_shard(shard_id)
            manifest.corrupt_shard(shard_id, str(error))
            found.append(shard_id)
    return tuple(found)


def unmade_share(receipt: ShardReceipt) -> float:
    """Return the share of a shard's images that could not be made; 0 where it was finished before."""
    return receipt.statuses.get(Status.FAILED, 0) / receipt.images if receipt.images else 0.0


def worker_factory(
    config: AuditConfig, run: RunDirectory, prepared: Prepared, cluster: Cluster
) -> Callable[[int], Any]:
    """Return what starts a worker; its settings are put into Ray's store once, not sent with every start."""
    worker = ray.remote(ShardWorker).options(**worker_resources(config.workers, cluster.gpus))
    settings = ray.put(
        WorkerSettings(
            config=config,
            run_path=str(run.path),
            lens_path=None if prepared.lens is None else str(prepared.lens.absolute()),
            fits={name: str(place) for name, place in prepared.fits.items()},
            working_directory=str(Path.cwd()),
        )
    )
    return lambda _number: worker.remote(settings)


def pool_limits(config: AuditConfig, cluster: Cluster) -> PoolLimits:
    """Return how far the pool of an audit's workers goes."""
    workers = config.workers
    floor = workers.deadline_seconds
    return PoolLimits(
        attempts=workers.attempts,
        deadline=Deadline(workers.deadline_factor, floor, max(floor, Deadline.first_seconds)),
        resources=asked_resources(workers, cluster.gpus),
    )


def _pool_size(config: AuditConfig, todo: Sequence[Shard], cluster: Cluster) -> int | Callable[[], int]:
    """Return how many workers; on a cluster that may grow, ``auto`` is asked again while the audit runs."""
    images = sum(len(shard.indices) for shard in todo) * (1 + len(config.mitigations))
    if cluster.local or isinstance(config.workers.count, int):
        return worker_count(config.workers, cluster, images)
    return lambda: worker_count(config.workers, cluster_now(local=False), images)
