"""Scheduling efficiency: measured with sleeping workers, simulated up to 1,000 GPUs, compared with two alternatives.

``python -m benchmarks.scheduling``. Workers sleep for recorded shard times, scaled to a mean of 400 ms. This is a tenth
of a shard's time on a GPU, so the load on the scheduler is ten times as high. Three schedulers run the same tasks, one
after the other: this project's pool and a naive loop (one task per actor, then wait for all) on the same waiting
actors, and an actor pool of Ray Data. Efficiency is the sum of all sleeps divided by workers times wall time. More than
eight workers share eight processes, one thread each (``benchmarks.logical_workers``), for all three.

The model is the pool itself with a simulated clock (``benchmarks.simulated_cluster``). The driver's cost per task is
fitted to tasks that take no time, for Ray Data as well. The model must reproduce the measured efficiencies before it is
used for sizes that cannot be measured here. It then includes what the measurement omits: loading the models, and the
tail. The model of Ray Data is optimistic: a task goes to the first free worker, and only the driver's cost is its own.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import ray
import torch

from audit.calibration.bundle import world_table
from audit.calibration.world import World
from audit.config.sections import WorkersConfig
from audit.config.settings import AuditConfig
from audit.models.generator import load_generator
from audit.planning.plan import plan_shards, prompts_of
from benchmarks.logical_workers import PROCESSES, LogicalWorker, logical_workers, shared_processes
from benchmarks.simulated_cluster import DriverCost, SimulatedCluster
from ray_jobs.cluster.connection import connect
from ray_jobs.pool.actor_pool import Finished, run_on_pool
from ray_jobs.pool.limits import Deadline, ErrorBudget, PoolLimits

MEAN_SECONDS = 0.4
COLD_SECONDS = 15.0
"""Start time of a GPU worker: process, libraries, weights."""
GPU_SECONDS = 4.0
"""A shard of 16 images at 4 images a second."""
GPUS = (64, 256, 1000)
STEADY = PoolLimits(deadline=Deadline(first_seconds=math.inf, at_least_seconds=3600))


@dataclass(frozen=True)
class Sleep:
    """A task that sleeps."""

    number: int
    seconds: float

    @property
    def id(self) -> str:
        """Name in messages."""
        return f"sleep-{self.number}"


class Sleeper:
    """Replaces a worker whose GPU is busy."""

    def sleep(self, task: Sleep) -> int:
        """Sleep for the task's time."""
        time.sleep(task.seconds)
        return task.number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--tasks", type=int, default=30, help="per worker")
    parser.add_argument("--only-model", action="store_true", help="measure nothing: a driver that costs 1 ms a task")
    arguments = parser.parse_args()
    times = recorded_times()
    print(f"recorded: {len(times)} shards, spread (standard deviation / mean) {times.std() / times.mean():.2f}")
    cost, data_cost = DriverCost(submit=0.0005, answer=0.0005), 0.001
    if not arguments.only_model:
        os.environ.setdefault("RAY_worker_niceness", "0")  # otherwise delays of low-priority sleepers are measured
        with connect(None, WorkersConfig(count=1)):
            cost, data_cost = measure_and_compare(arguments.workers, arguments.tasks, times)
    extend(times, cost, data_cost)


def extend(times: np.ndarray, cost: DriverCost, data_cost: float) -> None:
    """Print the model's efficiencies on GPUs, including cold start and tail."""
    driver = f"driver {total(cost) * 1000:.2f} ms a task, of Ray Data {data_cost * 1000:.2f} ms"
    print(f"\nmodel, {COLD_SECONDS:.0f} s to load, {GPU_SECONDS:.0f} s a shard, {driver}")
    print(f"{'GPUs':>6} {'shards each':>12} {'this pool':>10} {'Ray Data':>9} {'naive loop':>11}")
    for gpus in GPUS:
        for each in (25, 94):  # 94 shards of 16 are the 1,500 images of workers.images_per_worker
            seconds = drawn(times, gpus * each) * GPU_SECONDS
            pool = simulated_pool(seconds, gpus, cost, COLD_SECONDS)
            data = simulated_ray_data(seconds, gpus, data_cost, COLD_SECONDS)
            naive = simulated_naive(seconds, gpus, cost, COLD_SECONDS)
            print(f"{gpus:>6} {each:>12} {pool:>10.3f} {data:>9.3f} {naive:>11.3f}", flush=True)


def recorded_times() -> np.ndarray:
    """Measure the CPU time of each shard of a small audit of the rendered model, scaled to mean 1.

    Wall time would include other work of the machine.
    """
    config = AuditConfig(name="record", model={"source": "rendered"}, sampling={"batch": 16})
    prompts = prompts_of(config.prompts, World.load(world_table(config.model)).occupations)
    torch.set_num_threads(config.workers.threads)  # like a worker
    generator = load_generator(config.model, config.sampling)
    seconds = []
    for shard in plan_shards(prompts, 64, 16)[:32]:
        started = time.process_time()
        generator.generate(shard.prompt, [key.seed(config.seed) for key in shard.keys])
        seconds.append(time.process_time() - started)
    return np.array(seconds) / np.mean(seconds)


def drawn(times: np.ndarray, count: int) -> np.ndarray:
    """Draw ``count`` of the recorded times, the same for every scheduler."""
    return np.random.default_rng(0).choice(times, count)


def measure_and_compare(sizes: Sequence[int], each: int, times: np.ndarray) -> tuple[DriverCost, float]:
    """Print measured and modelled efficiencies; return the driver's cost per task, and Ray Data's."""
    cost, data_cost = driver_cost(), ray_data_cost()
    print(f"driver: {total(cost) * 1000:.2f} ms a task that takes no time; {os.cpu_count()} CPU cores")
    print(f"\n{'workers':>7} {'this pool':>10} {'model':>7} {'Ray Data':>9} {'naive loop':>11}")
    for size in sizes:
        seconds = drawn(times, size * each) * MEAN_SECONDS
        tasks = [Sleep(number, float(length)) for number, length in enumerate(seconds)]
        work = float(seconds.sum()) / size
        with logical_workers(Sleeper, size) as workers:
            naive = work / run_naive(workers, tasks)
            pool = work / run_pool(workers, tasks)
        data = work / run_ray_data(size, tasks)
        model = simulated_pool(seconds, size, cost, 0.0)
        print(f"{size:>7} {pool:>10.3f} {model:>7.3f} {data:>9.3f} {naive:>11.3f}", flush=True)
    return cost, data_cost


def run_pool(workers: Sequence[LogicalWorker], tasks: Sequence[Sleep]) -> float:
    """Run this project's pool on running workers; return the wall time."""
    started = time.perf_counter()
    outcomes = run_on_pool(
        lambda number: workers[number],
        tasks,
        size=len(workers),
        submit=lambda worker, task, _attempt: worker.submit("sleep", task),
        error_budget=ErrorBudget(0),
        limits=STEADY,
    )
    with shared_processes(), closing(outcomes):
        finished = sum(isinstance(outcome, Finished) for outcome in outcomes)
    assert finished == len(tasks)
    return time.perf_counter() - started


def run_naive(workers: Sequence[LogicalWorker], tasks: Sequence[Sleep]) -> float:
    """Give every worker a task and wait for all, with ``ray.get`` in a loop; return the wall time."""
    started = time.perf_counter()
    for start in range(0, len(tasks), len(workers)):
        ray.get([worker.submit("sleep", task) for worker, task in zip(workers, tasks[start:], strict=False)])
    return time.perf_counter() - started


def run_ray_data(size: int, tasks: Sequence[Sleep]) -> float:
    """Run one task per block on an actor pool of Ray Data; return the time from the first start to the last end."""

    class Block:
        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            begun = time.time()
            time.sleep(float(batch["seconds"].sum()))
            return {"begun": np.array([begun]), "ended": np.array([time.time()])}

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"seconds": task.seconds} for task in tasks], override_num_blocks=len(tasks))
    each = math.ceil(size / PROCESSES)
    pool = ray.data.ActorPoolStrategy(
        size=math.ceil(size / each),
        max_tasks_in_flight_per_actor=2 * each,
        max_concurrent_calls_per_actor=each,
        enable_true_multi_threading=True,
    )
    done = rows.map_batches(Block, batch_size=1, compute=pool, num_cpus=0).to_pandas()
    return float(done["ended"].max() - done["begun"].min())


def driver_cost(tasks: int = 2000) -> DriverCost:
    """Fit the driver's cost per task to tasks that take no time."""
    with logical_workers(Sleeper, 4) as workers:
        each = run_pool(workers, [Sleep(number, 0.0) for number in range(tasks)]) / tasks
    return DriverCost(submit=each / 2, answer=each / 2)


def ray_data_cost(tasks: int = 500) -> float:
    """Fit the cost of Ray Data per task in the same way."""
    return run_ray_data(4, [Sleep(number, 0.0) for number in range(tasks)]) / tasks


def total(cost: DriverCost) -> float:
    """Return the driver's seconds per task."""
    return cost.submit + cost.answer


def simulated_pool(seconds: np.ndarray, workers: int, cost: DriverCost, cold: float) -> float:
    """Return the efficiency of this project's pool by the simulated clock."""
    tasks = [Sleep(number, float(length)) for number, length in enumerate(seconds)]
    with SimulatedCluster(cost).in_place_of_ray() as cluster:
        outcomes = run_on_pool(
            lambda _number: cluster.start(cold),
            tasks,
            size=workers,
            submit=lambda actor, task, _attempt: actor.begin(task.seconds),
            error_budget=ErrorBudget(0),
            limits=STEADY,
        )
        for _ in outcomes:
            pass
        return float(seconds.sum() / (workers * cluster.now))


def simulated_ray_data(seconds: np.ndarray, workers: int, cost: float, cold: float) -> float:
    """Return the efficiency if each task goes to the first free worker, limited by one driver."""
    free, driver = [cold] * workers, 0.0
    for length in seconds:
        driver += cost
        heapq.heapreplace(free, max(free[0], driver) + float(length))
    return float(seconds.sum() / (workers * max(free)))


def simulated_naive(seconds: np.ndarray, workers: int, cost: DriverCost, cold: float) -> float:
    """Return the efficiency of rounds that wait for their slowest task."""
    rounds = [seconds[start : start + workers] for start in range(0, len(seconds), workers)]
    wall = cold + sum(one.max() + len(one) * total(cost) for one in rounds)
    return float(seconds.sum() / (workers * wall))


if __name__ == "__main__":
    main()
