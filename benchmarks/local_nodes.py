"""A Ray cluster of several nodes on this machine, with logical GPUs, whose nodes and workers can be killed."""

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
"""What Ray calls the process of a worker while it does a shard."""

NOTICED_SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A node that is gone refuses the connection, so three times in a row are sure; a busy one has ten seconds each."""

LEAVE_SECONDS = 10.0
"""How long processes of a cluster may take to leave once it is shut down, before they are killed."""


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        step: Seconds in which one thing must happen, on a machine that does other things as well.
        end: When everything must be over, by the monotonic clock.
    """

    step: float
    end: float

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for the condition.

        Raises:
            TimeoutError: If it does not come true; the message says ``what`` was waited for.
        """
        started = time.monotonic()
        end = min(started + self.step, self.end)
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"expected {what}, waited {time.monotonic() - started:.0f} s in vain")
            time.sleep(0.05)


@dataclass(frozen=True)
class LocalNodes:
    """The cluster: a head without room for work, and nodes of one CPU and one logical GPU.

    Attributes:
        cluster: As Ray made it.
        patience: How long it may take to do as it is told.
    """

    cluster: Cluster
    patience: Patience

    @property
    def address(self) -> str:
        """Where a driver finds it."""
        return str(self.cluster.address)

    def resize(self, count: int) -> None:
        """Add or remove nodes until there are ``count`` beside the head."""
        while len(self.cluster.worker_nodes) > count:
            self.remove(next(iter(self.cluster.worker_nodes)))
        while len(self.cluster.worker_nodes) < count:
            self.add()
        alive = self.cluster.global_state._live_node_ids
        self.patience.until(lambda: len(alive()) == count + 1, f"{count} nodes in the cluster")

    def add(self) -> None:
        """Start a node, and do not wait until it has joined.

        Raises:
            TimeoutError: If the machine is too busy for it.
        """
        _started(lambda: self.cluster.add_node(wait=False, num_cpus=1, num_gpus=1, node_ip_address=HERE))

    def remove(self, node: Any) -> None:
        """Kill all processes of a node."""
        self.cluster.remove_node(node, allow_graceful=False)

    def at_work(self) -> dict[int, Any]:
        """Return the processes that are doing a shard, each with its node; wait until there is one."""
        found: dict[int, Any] = {}

        def look() -> bool:
            found.update({pid: node for node in self.cluster.worker_nodes for pid in _busy(node)})
            return bool(found)

        self.patience.until(look, "a worker at work")
        return found


@contextmanager
def local_nodes(count: int, patience: Patience) -> Iterator[LocalNodes]:
    """Start ``count`` nodes; whatever happens inside the block, no process of the cluster outlives it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves workers if the machine does other things
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
    """Start a part of the cluster; Ray gives a node 30 seconds, and then raises a bare Exception."""
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
    except psutil.Error:  # it ended meanwhile
        return ""
