"""Tests the connection: resources of workers, and that only a cluster that was started here is stopped."""

import os
import socket
import subprocess
import sys

import psutil
import pytest
import ray

from audit.config.sections import WorkersConfig
from ray_jobs.cluster.connection import (
    Cluster,
    ClusterError,
    asked_resources,
    check_reachable,
    connect,
    threads_of_a_whole_node,
    worker_count,
    worker_resources,
)

LAPTOP = Cluster(cpus=8, gpus=0, local=True)
GPU_NODE = Cluster(cpus=32, gpus=4, local=False)


@pytest.mark.parametrize(
    ("workers", "cluster", "count"),
    [
        (WorkersConfig(), LAPTOP, 8),
        (WorkersConfig(threads=3), LAPTOP, 2),
        (WorkersConfig(threads=16), LAPTOP, 1),
        (WorkersConfig(), GPU_NODE, 4),
        (WorkersConfig(gpus_per_worker=0.5), GPU_NODE, 8),
        (WorkersConfig(count=5), GPU_NODE, 5),
        (WorkersConfig(gpus_per_worker=0), GPU_NODE, 32),
    ],
)
def test_auto_fills_the_gpus_or_the_cores_and_a_number_is_a_number(workers, cluster, count):
    assert worker_count(workers, cluster) == count


def test_without_a_gpu_a_worker_holds_its_threads_and_sees_no_device():
    options = worker_resources(WorkersConfig(threads=2), gpus_available=0)
    assert options["num_cpus"] == 2
    assert "num_gpus" not in options
    assert options["runtime_env"]["env_vars"] == {
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
        "MKL_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_with_gpus_a_worker_holds_its_share_and_ray_chooses_the_device():
    options = worker_resources(WorkersConfig(gpus_per_worker=0.5), gpus_available=4)
    assert options["num_gpus"] == 0.5
    assert "CUDA_VISIBLE_DEVICES" not in options["runtime_env"]["env_vars"]


@pytest.mark.parametrize(("images", "count"), [(100, 1), (3000, 2), (10_000, 4)])
def test_few_images_start_few_workers_with_images_per_worker(images, count):
    assert worker_count(WorkersConfig(images_per_worker=1500), GPU_NODE, images) == count


def test_a_worker_without_a_gpu_sees_none_on_a_node_that_has_some():
    options = worker_resources(WorkersConfig(gpus_per_worker=0, accelerator_type="H100"), gpus_available=4)
    assert options.keys() == {"num_cpus", "runtime_env"}
    assert options["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""


def test_memory_custom_resources_and_the_kind_of_gpu_are_asked_of_the_cluster():
    workers = WorkersConfig(memory_gb=24, resources={"fast_disk": 0.25}, accelerator_type="H100")
    options = worker_resources(workers, gpus_available=4)
    assert options["memory"] == 24_000_000_000
    assert options["resources"] == {"fast_disk": 0.25}
    assert (options["num_gpus"], options["accelerator_type"]) == (1.0, "H100")


def test_what_a_worker_asks_has_the_names_of_what_a_node_has():
    workers = WorkersConfig(threads=2, memory_gb=24, resources={"fast_disk": 0.25}, accelerator_type="H100")
    asked = {"CPU": 2, "GPU": 1, "memory": 24_000_000_000, "fast_disk": 0.25, "accelerator_type:H100": 0.001}
    assert asked_resources(workers, gpus_available=4) == asked


@pytest.mark.parametrize(
    ("workers", "threads"),
    [
        (WorkersConfig(), 16),  # the node with 64 has no GPU, the one with 96 is gone
        (WorkersConfig(gpus_per_worker=0), 64),
        (WorkersConfig(accelerator_type="A10"), 8),
        (WorkersConfig(threads=3, accelerator_type="H200"), 3),  # no node has it yet
    ],
)
def test_a_worker_that_takes_a_whole_node_asks_for_what_the_largest_one_that_fits_has(workers, threads, monkeypatch):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 64.0}},
        {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 4.0, "accelerator_type:H100": 1.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0, "accelerator_type:A10": 1.0}},
        {"Alive": True, "Resources": {"GPU": 1.0}},  # all its CPUs are kept from Ray
        {"Alive": False, "Resources": {"CPU": 96.0, "GPU": 4.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    assert threads_of_a_whole_node(workers, GPU_NODE) == threads


def test_on_this_machine_a_worker_that_takes_all_of_it_has_its_cores_and_not_its_permits(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert threads_of_a_whole_node(WorkersConfig(), LAPTOP) == 2


def test_the_threads_are_set_before_the_process_of_the_worker_starts(cluster):
    class Environment:
        def read(self):
            return dict(os.environ)

    actor = ray.remote(Environment).options(**worker_resources(WorkersConfig(threads=2), cluster.gpus)).remote()
    found = ray.get(actor.read.remote())
    ray.kill(actor)
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == ("2", "2")
    if not cluster.gpus:
        assert found["CUDA_VISIBLE_DEVICES"] == ""


def test_a_connected_process_stays_connected(cluster):
    with connect(None, WorkersConfig()) as again:
        assert not again.local
        assert again.cpus == cluster.cpus
    assert ray.is_initialized()


def test_more_workers_than_cores_fit_a_local_cluster(cluster):
    assert cluster.cpus >= 3


def test_a_cluster_that_is_not_there_is_named_at_once_and_not_after_minutes():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ClusterError, match=rf"expected a Ray cluster at {address}, found none \(.*refused"):
            check_reachable(address)


def test_a_cluster_that_is_there_is_reachable(cluster):
    check_reachable(ray.get_runtime_context().gcs_address)


def test_a_driver_finds_a_cluster_that_listens_on_loopback_alone(cluster):
    """Ray itself replaces 127.0.0.1 by the machine's other address, which has no server, and tries for minutes."""
    program = (
        "import sys; from audit.config.sections import WorkersConfig; from ray_jobs.cluster.connection import connect\n"
        "with connect(sys.argv[1], WorkersConfig()) as cluster: print(cluster.cpus)"
    )
    command = [sys.executable, "-c", program, ray.get_runtime_context().gcs_address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=True)
    assert float(done.stdout.split()[-1]) == cluster.cpus


def test_a_local_cluster_listens_on_loopback_alone(cluster):
    listening = [place for process in psutil.Process().children(recursive=True) for place in listens(process)]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listens(process):
    """Return the name of a process with each address it listens on; empty if it has ended."""
    try:
        opened = process.net_connections("tcp")
        return [(process.name(), place.laddr.ip) for place in opened if place.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []
