"""Starting Ray on this machine or attaching to a running cluster, and what one worker asks of it."""

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
from ray_jobs.cluster.temporary_directory import unusable_temporary_directory

LOCAL_OBJECT_STORE_BYTES = 200 * 1024**2
"""Enough for receipts of a few hundred bytes; Ray's default would claim a third of the memory."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about an audit leaves the machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; asking for it silences a warning
}


KIND = "accelerator_type:"
"""Ray's resource of that name tells what a node's GPUs are."""

KIND_SHARE = 0.001
"""What an actor takes of it, so that it counts for nothing but the choice of the node."""

LOOPBACK = ("127.0.0.1", "localhost")

ANSWER_SECONDS = 5.0
"""How long a cluster may take to accept a connection; Ray itself tries for minutes before it says anything."""


class ClusterError(RuntimeError):
    """There is no Ray cluster where one was expected."""


@dataclass(frozen=True)
class Cluster:
    """What a connected cluster offers.

    Attributes:
        cpus: Logical CPUs of all its nodes.
        gpus: GPUs of all its nodes.
        local: Whether it was started here and ends with the audit.
        accelerators: Kinds of its GPUs, as Ray names them.
    """

    cpus: float
    gpus: float
    local: bool
    accelerators: tuple[str, ...] = ()


@contextmanager
def connect(address: str | None, workers: WorkersConfig) -> Iterator[Cluster]:
    """Attach to the cluster at ``address``, or start one on this machine; shut down only what was started here.

    Without an address the environment's ``RAY_ADDRESS`` counts, as Ray sets it inside a job. A process that is
    connected already stays connected.

    Raises:
        ClusterError: If there is no cluster at the address, or none can be started here.
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
            ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a local cluster listen on 127.0.0.1 alone, and be looked for there.

    Ray takes 127.0.0.1 for "the address that other machines know": it would listen on every interface, and look for a
    cluster where it is not, unless clusters are switched off. Its processes read the variable when they start; this one
    has read it already.
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
    """Return how many workers to start; ``auto`` fills the GPUs, or the CPUs where workers take no GPU.

    Args:
        workers: What the config says.
        cluster: What is there.
        images: What is to be made, over all arms; ``auto`` then keeps to ``workers.images_per_worker``.
    """
    if isinstance(workers.count, int):
        return workers.count
    on_gpus = cluster.gpus and workers.gpus_per_worker
    room = int(cluster.gpus / workers.gpus_per_worker) if on_gpus else int(cluster.cpus // workers.threads)
    if images is not None and workers.images_per_worker is not None:
        room = min(room, images // workers.images_per_worker)
    return max(1, room)


def worker_resources(workers: WorkersConfig, gpus_available: float) -> dict[str, Any]:
    """Return the options of a worker actor: what the config asks for, a share of a GPU only where there are GPUs.

    The number of threads is fixed before the process starts, since libraries read it when they load. A worker without a
    GPU is shown none: Ray no longer hides the GPUs of a node from it, and it would compute on them uninvited.
    """
    threads = str(workers.threads)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
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
    """Return what one worker asks of the cluster, under the names that Ray gives to what a node has."""
    options = worker_resources(workers, gpus_available)
    names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    asked = {name: options.get(option, 0.0) for name, option in names.items()} | workers.resources
    return asked | ({f"{KIND}{options['accelerator_type']}": KIND_SHARE} if "accelerator_type" in options else {})


def threads_of_a_whole_node(workers: WorkersConfig, cluster: Cluster) -> int:
    """Return how many threads a worker may have that takes a node for itself.

    They are those of the largest node that has all else that a worker asks for. Where no node has, they are what the
    config says: a cluster that grows then makes room, and for one that does not the pool says what is missing.
    """
    if cluster.local:
        return os.cpu_count() or 1  # its logical CPUs may be more than the cores
    asked = asked_resources(workers, cluster.gpus)
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [node for node in alive if all(node.get(name, 0.0) >= amount for name, amount in asked.items())]
    return max((int(node["CPU"]) for node in able), default=workers.threads)


def work_in(directory: str) -> None:
    """Let relative paths mean the same to this worker as where the audit was started; stay here where that is not."""
    if Path(directory).is_dir():
        os.chdir(directory)


def this_node() -> str:
    """Return the address and the id of the node that this process runs on, as ``<address> <node id>``."""
    return f"{ray.util.get_node_ip_address()} {ray.get_runtime_context().get_node_id()}"


def check_reachable(address: str) -> None:
    """Make sure that something answers at ``host:port``; other forms of address are left to Ray.

    Raises:
        ClusterError: If nothing does.
    """
    place = _place(address)
    if place is None:
        return
    try:
        socket.create_connection(place, timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise _not_there(address, error) from error


def _is_on_loopback_alone(address: str) -> bool:
    """Tell whether the address is this machine's loopback, and the cluster there is known by no other address."""
    place = _place(address)
    if place is None or place[0] not in LOOPBACK:
        return False
    try:
        socket.create_connection((ray.util.get_node_ip_address(), place[1]), timeout=ANSWER_SECONDS).close()
    except OSError:
        return True
    return False


def _place(address: str) -> tuple[str, int] | None:
    """Return host and port; None of an address of another form."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    return (host, int(port)) if host and port.isdecimal() else None


def _not_there(address: str, error: Exception) -> ClusterError:
    return ClusterError(f"expected a Ray cluster at {address}, found none ({error}); start it or leave the address out")


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
            address="local",  # never a cluster that happens to run here
            num_cpus=_logical_cpus(workers),
            include_dashboard=False,
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    except Exception as error:  # Ray gives its node 30 seconds, and then raises a bare Exception
        raise ClusterError(
            f"Ray could not be started on this machine ({error}); run again when it is less busy, or name a cluster "
            "with --address"
        ) from error


def _logical_cpus(workers: WorkersConfig) -> int:
    """Ray's CPUs are permits, not cores: as many as the machine has, and more where the config wants more workers."""
    wanted = workers.count * workers.threads if isinstance(workers.count, int) else 0
    return max(os.cpu_count() or 1, wanted, workers.threads)


def cluster_now(local: bool) -> Cluster:
    """Return what the connected cluster offers at this moment; nodes come and go."""
    resources = ray.cluster_resources()
    kinds = sorted(name.removeprefix(KIND) for name in resources if name.startswith(KIND))
    return Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), local, tuple(kinds))
