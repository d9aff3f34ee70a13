"""A Ray cluster of several nodes on this machine with logical GPUs, for tests that kill nodes and workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

HERE = "127.0.0.1"
AT_WORK = "ray::ShardWorker.do"
"""Ray's name for a worker process that runs a shard."""

NOTICED_SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A lost node refuses connections, so three refusals are enough; a busy one has ten seconds per connection."""

LEAVE_SECONDS = 10.0
"""Time that processes of a cluster have to exit at shutdown before they are killed."""


@dataclass(frozen=True)
class Patience:
    """Time limits of waits.

    Attributes:
        step: Seconds for one event, on a machine with other work.
        end: Deadline for everything, by the monotonic clock.
    """

    step: float
    end: float

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition.

        Raises:
            TimeoutError: If it does not become true; the message contains ``what``.
        """
        started = time.monotonic()
        end = min(started + self.step, self.end)
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"expected {what}, waited {time.monotonic() - started:.0f} s in vain")
            time.sleep(0.05)


@dataclass(frozen=True)
class LocalNodes:
    """The cluster: a head without room for work, and nodes with one CPU and one logical GPU.

    Attributes:
        cluster: Ray's test cluster.
        patience: Time limits of changes.
    """

    cluster: Cluster
    patience: Patience

    @property
    def address(self) -> str:
        """Address of the cluster for a driver."""
        return str(self.cluster.address)

    def resize(self, count: int) -> None:
        """Add or remove nodes until there are ``count`` in addition to the head."""
        while len(self.cluster.worker_nodes) > count:
            self.remove(next(iter(self.cluster.worker_nodes)))
        while len(self.cluster.worker_nodes) < count:
            self.add()
        alive = self.cluster.global_state._live_node_ids
        self.patience.until(lambda: len(alive()) == count + 1, f"{count} nodes in the cluster")

    def add(self) -> None:
        """Start a node without waiting until it has joined.

        Raises:
            TimeoutError: If the machine is too busy.
        """
        _started(lambda: self.cluster.add_node(wait=False, num_cpus=1, num_gpus=1, node_ip_address=HERE))

    def remove(self, node: Any) -> None:
        """Kill all processes of a node."""
        self.cluster.remove_node(node, allow_graceful=False)

    def at_work(self) -> dict[int, Any]:
        """Return the processes that run a shard, each with its node; wait until there is one."""
        found: dict[int, Any] = {}

        def look() -> bool:
            found.update({pid: node for node in self.cluster.worker_nodes for pid in _busy(node)})
            return bool(found)

        self.patience.until(look, "a worker at work")
        return found


@contextmanager
def local_nodes(count: int, patience: Patience) -> Iterator[LocalNodes]:
    """Start ``count`` nodes; all processes of the cluster end with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default 15 starves workers on a busy machine
    head = {"num_cpus": 0, "node_ip_address": HERE, "include_dashboard": False, "_system_config": NOTICED_SOON}
    cluster = None
    try:
        cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
        nodes = LocalNodes(cluster, patience)
        nodes.resize(count)
        yield nodes
    finally:
        processes = psutil.Process().children(recursive=True)
        if cluster is not None:
            cluster.shutdown()
        _, left = psutil.wait_procs(processes, LEAVE_SECONDS)
        for process in left:
            process.kill()


def _started(start: Callable[[], Any]) -> Any:
    """Start a part of the cluster; after 30 seconds Ray raises a bare Exception."""
    try:
        return start()
    except Exception as error:
        raise TimeoutError(f"expected a Ray node on this machine, found it too busy to start one ({error})") from error


def _busy(node: Any) -> list[int]:
    raylet = node.all_processes[ray._private.ray_constants.PROCESS_TYPE_RAYLET][0].process.pid
    try:
        below = psutil.Process(raylet).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process.pid for process in below if _command(process).startswith(AT_WORK)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""
