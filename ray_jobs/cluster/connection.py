"""Starts Ray on this machine or connects to a running cluster, and defines the resources of one worker."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants

from audit.config.sections import WorkersConfig
from ray_jobs.cluster.idle_actors import IDLE
from ray_jobs.cluster.temporary_directory import unusable_temporary_directory

LOCAL_OBJECT_STORE_BYTES = 200 * 1024**2
"""Enough for the few hundred bytes that a shard returns; Ray's default would reserve a third of the memory."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # an audit sends no usage data
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default; setting it silences a warning
}


KIND = "accelerator_type:"
"""Ray's resource with this name identifies the kind of a node's GPUs."""

KIND_SHARE = 0.001
"""Amount that an actor requests of it, small enough to influence only the choice of the node."""

LOOPBACK = ("127.0.0.1", "localhost")

ANSWER_SECONDS = 5.0
"""Time limit for a connection to a cluster; Ray itself tries for minutes before it reports a failure."""


class ClusterError(RuntimeError):
    """A Ray cluster cannot be reached or started."""


@dataclass(frozen=True)
class Cluster:
    """Resources of a connected cluster.

    Attributes:
        cpus: Logical CPUs of all its nodes.
        gpus: GPUs of all its nodes.
        local: Whether it was started here and stops with the audit.
        accelerators: Kinds of its GPUs, as Ray names them.
    """

    cpus: float
    gpus: float
    local: bool
    accelerators: tuple[str, ...] = ()


@contextmanager
def connect(address: str | None, workers: WorkersConfig) -> Iterator[Cluster]:
    """Connect to the cluster at ``address``, or start one on this machine; stop only a cluster that was started here.

    Without an address, the environment variable ``RAY_ADDRESS`` is used, which Ray sets inside a job. A process that is
    already connected stays connected.

    Raises:
        ClusterError: If there is no cluster at the address, or Ray cannot be started here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield cluster_now(local=False)
        return
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    with _on_loopback() if address is None or _is_on_loopback_alone(address) else nullcontext():
        _start(address, workers)
        try:
            yield cluster_now(local=address is None)
        finally:
            IDLE.forget()
            ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Make a local cluster listen on 127.0.0.1 only, and look for it there.

    Ray replaces 127.0.0.1 by the address that other machines know. It would listen on every interface, and look for a
    cluster at the wrong address, unless multi-node clusters are disabled. Its processes read the variable when they
    start; this process has read it already.
    """
    variable, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    inherited = os.environ.get(variable)
    os.environ[variable], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(variable)
        if inherited is not None:
            os.environ[variable] = inherited


def worker_count(workers: WorkersConfig, cluster: Cluster, images: int | None = None) -> int:
    """Return how many workers to start; ``auto`` fills the GPUs, or the CPUs if workers use no GPU.

    Args:
        workers: The section ``workers`` of the config.
        cluster: The available resources.
        images: Number of images to make in all arms; ``auto`` then respects ``workers.images_per_worker``.
    """
    if isinstance(workers.count, int):
        return workers.count
    on_gpus = cluster.gpus and workers.gpus_per_worker
    room = int(cluster.gpus / workers.gpus_per_worker) if on_gpus else int(cluster.cpus // workers.threads)
    if images is not None and workers.images_per_worker is not None:
        room = min(room, images // workers.images_per_worker)
    return max(1, room)


def worker_resources(workers: WorkersConfig, gpus_available: float) -> dict[str, Any]:
    """Return the options of a worker actor: the resources in the config, and a GPU share only if there are GPUs.

    The number of threads is set before the process starts, since libraries read it when they load. GPUs are hidden from
    a worker that requests none: Ray no longer does this, and the worker would use them. Threads that wait for each
    other sleep: on a machine that does other work too, they would spend most of its time spinning.
    """
    threads = str(workers.threads)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    options: dict[str, Any] = {"num_cpus": workers.threads}
    if gpus_available and workers.gpus_per_worker:
        options |= {"num_gpus": workers.gpus_per_worker}
        options |= {"accelerator_type": workers.accelerator_type} if workers.accelerator_type else {}
    else:
        variables |= {"CUDA_VISIBLE_DEVICES": ""}
    options |= {"memory": int(workers.memory_gb * 1e9)} if workers.memory_gb else {}
    options |= {"resources": dict(workers.resources)} if workers.resources else {}
    return options | {"runtime_env": {"env_vars": variables}}


def asked_resources(workers: WorkersConfig, gpus_available: float) -> dict[str, float]:
    """Return the resources that one worker requests, under the names that Ray uses for a node's resources."""
    options = worker_resources(workers, gpus_available)
    names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    asked = {name: options.get(option, 0.0) for name, option in names.items()} | workers.resources
    return asked | ({f"{KIND}{options['accelerator_type']}": KIND_SHARE} if "accelerator_type" in options else {})


def threads_of_a_whole_node(workers: WorkersConfig, cluster: Cluster) -> int:
    """Return the number of threads of a worker that uses a whole node.

    It is the CPU count of the largest node with all other requested resources. If no node has them, it is the value in
    the config: a growing cluster then adds a node, and for any other cluster the pool reports what is missing.
    """
    if cluster.local:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = asked_resources(workers, cluster.gpus)
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [node for node in alive if all(node.get(name, 0.0) >= amount for name, amount in asked.items())]
    return max((int(node["CPU"]) for node in able), default=workers.threads)


def work_in(directory: str) -> None:
    """Make relative paths mean the same on this worker as on the driver; stay here if the directory is missing."""
    if Path(directory).is_dir():
        os.chdir(directory)


def this_node() -> str:
    """Return address and id of the node of this process, as ``<address> <node id>``."""
    return f"{ray.util.get_node_ip_address()} {ray.get_runtime_context().get_node_id()}"


def check_reachable(address: str) -> None:
    """Check that a server listens at ``host:port``; Ray checks other forms of address.

    Raises:
        ClusterError: If nothing listens there.
    """
    place = _place(address)
    if place is None:
        return
    try:
        socket.create_connection(place, timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise _not_there(address, error) from error


def _is_on_loopback_alone(address: str) -> bool:
    """Return whether the address is this machine's loopback, and its cluster is known by no other address."""
    place = _place(address)
    if place is None or place[0] not in LOOPBACK:
        return False
    try:
        socket.create_connection((ray.util.get_node_ip_address(), place[1]), timeout=ANSWER_SECONDS).close()
    except OSError:
        return True
    return False


def _place(address: str) -> tuple[str, int] | None:
    """Return host and port, None for another form of address."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    return (host, int(port)) if host and port.isdecimal() else None


def _not_there(address: str, error: Exception) -> ClusterError:
    return ClusterError(f"expected a Ray cluster at {address}, found none ({error}); start it or omit the address")


def _start(address: str | None, workers: WorkersConfig) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        _start_here(workers, quiet)
        return
    check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _not_there(address, error) from error


def _start_here(workers: WorkersConfig, quiet: dict[str, Any]) -> None:
    obstacle = unusable_temporary_directory(os.environ)
    if obstacle:
        raise ClusterError(f"Ray could not be started on this machine: {obstacle}")
    try:
        ray.init(
            address="local",  # never connect to another cluster on this machine
            num_cpus=_logical_cpus(workers),
            include_dashboard=False,
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    except Exception as error:  # after 30 seconds Ray raises a bare Exception
        raise ClusterError(
            f"Ray could not be started on this machine ({error}); run again when it is less busy, or name a cluster "
            "with --address"
        ) from error


def _logical_cpus(workers: WorkersConfig) -> int:
    """Return Ray's CPU count: that of the machine, or more if the config requests more workers."""
    wanted = workers.count * workers.threads if isinstance(workers.count, int) else 0
    return max(os.cpu_count() or 1, wanted, workers.threads)


def cluster_now(local: bool) -> Cluster:
    """Return the current resources of the connected cluster; nodes can join and leave."""
    resources = ray.cluster_resources()
    kinds = sorted(name.removeprefix(KIND) for name in resources if name.startswith(KIND))
    return Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), local, tuple(kinds))
