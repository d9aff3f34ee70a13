"""Kills workers, nodes and the driver of one audit at random, seeded moments, and checks what is left of it.

``python -m benchmarks.chaos`` starts a Ray cluster of several nodes on this machine, with logical GPUs, and audits the
rendered model on 1, 2 and 4 of them: the rows must be the same to the byte. Then one audit of the same config suffers
``--kills`` kills. Its rows must be the same again, no finished shard may have been computed a second time, and the
manifest of failures must name every fault. ``--kills 3 --nodes 2`` is the short form that the tests run. With ``--s3``
the runs lie in an S3 server on loopback, which meets a share of the requests with 500, 503 or a delay.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

from audit.config.settings import AuditConfig
from audit.place import place_of
from audit.store import FAILURES, RESULTS, RunDirectory
from benchmarks.s3_server import BUCKET, S3Server, environment, free_port, seeded_faults
from ray_jobs.run import plan

PATIENCE = 300.0
"""Seconds until a wait is called a failure: a busy machine takes long to start a process."""

DRIVER = "from ray_jobs.cli import app; app()"
ACTS = {"worker": ("lost_worker", "no_start"), "node": ("lost_node", "lost_worker"), "driver": ("lost_driver",)}
"""What is killed, and the kinds under which the manifest may name it: Ray may notice the process before the node."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 2, 4], help="numbers of nodes for the same rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=0, help="per prompt; by default enough for the kills")
    parser.add_argument("--s3", action="store_true", help="keep the runs in an object store that stumbles")
    parser.add_argument("--s3-faults", type=float, default=0.05, help="share of its requests that meet a fault")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, object_store(arguments) as server:
        output = f"s3://{BUCKET}/runs" if server else str(Path(directory) / "runs")
        config = config_of(output, arguments.images or 40 * arguments.kills)
        path = Path(directory) / "audit.yaml"
        path.write_text(config.model_dump_json())
        with nodes(max([arguments.nodes, *arguments.sizes])) as cluster:
            expected = same_rows(cluster, path, config, arguments.sizes or [arguments.nodes])
            chaos = Chaos(cluster, path, RunDirectory(place_of(config.output) / "chaos"), arguments.seed, server)
            resize(cluster, arguments.nodes)
            chaos.suffer(acts(arguments.kills, arguments.seed), len(plan(config)))
        problems = [*chaos.problems, *check(chaos, expected)]
    print("\n".join(problems) or f"identical rows after {arguments.kills} kills, no finished shard computed twice")
    sys.exit(1 if problems else 0)


def config_of(output: str, images: int) -> AuditConfig:
    """The rendered model with four occupations, in shards of four images."""
    return AuditConfig.model_validate(
        {
            "name": "chaos",
            "model": {"source": "rendered"},
            "prompts": {"occupations": ["doctor", "nurse", "chef", "pilot"], "images_per_prompt": images},
            "sampling": {"batch": 4},
            "quality": {"clip": "none", "features": "none"},
            "report": {"images_per_prompt": 1},
            "tracking": {"enabled": False},
            "output": output,
        }
    )


@contextmanager
def object_store(arguments: argparse.Namespace) -> Iterator[S3Server | None]:
    """Serve S3 where that is asked for; every process that is started inside knows where."""
    if not arguments.s3:
        yield None
        return
    port = free_port()
    os.environ |= environment(port)
    with S3Server(port, seeded_faults(arguments.seed, arguments.s3_faults)) as server:
        yield server
        print(f"object store: {len(server.requests):,} requests, {len(server.faults):,} met a fault")


@contextmanager
def nodes(count: int) -> Iterator[Cluster]:
    """A head without room for work, and ``count`` nodes of one CPU and one logical GPU; all on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quick = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
    head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        resize(cluster, count)
        yield cluster
    finally:
        cluster.shutdown()


def resize(cluster: Cluster, count: int) -> None:
    """Add or remove nodes until there are ``count`` beside the head."""
    while len(cluster.worker_nodes) > count:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    while len(cluster.worker_nodes) < count:
        cluster.add_node(wait=False, num_cpus=1, num_gpus=1, node_ip_address="127.0.0.1")
    wait_for(lambda: len(cluster.global_state._live_node_ids()) == count + 1, f"{count} nodes")


def same_rows(cluster: Cluster, path: Path, config: AuditConfig, sizes: Sequence[int]) -> bytes:
    """Run the audit on every number of nodes; the rows must be the same to the byte."""
    rows = {}
    for size in sizes:
        resize(cluster, size)
        started = time.monotonic()
        run_id = f"nodes-{size}"
        code = start_driver(cluster, path, run_id).wait(PATIENCE * 10)
        if code:
            log = (path.parent / f"{run_id}.log").read_text()[-2000:]
            raise SystemExit(f"the undisturbed audit on {size} nodes ended with exit code {code}\n{log}")
        rows[size] = RunDirectory(place_of(config.output) / run_id).read_bytes(RESULTS)
        print(f"{size} nodes: {len(plan(config))} shards in {time.monotonic() - started:.0f} s", flush=True)
    if len(set(rows.values())) > 1:
        raise SystemExit("the rows depend on the number of nodes")
    print(f"identical rows with {', '.join(map(str, sizes))} nodes", flush=True)
    return rows[sizes[0]]


def start_driver(cluster: Cluster, path: Path, run_id: str) -> subprocess.Popen[bytes]:
    """Start the command line as a user does, in a process of its own."""
    command = [sys.executable, "-c", DRIVER, "run", str(path), "--address", cluster.address, "--run-id", run_id]
    with (path.parent / f"{run_id}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def acts(kills: int, seed: int) -> list[str]:
    """What is killed, in turn: each kind at least once where there are three kills, workers most often."""
    rng = np.random.default_rng(seed)
    drawn = ["worker", "node", "driver"][:kills]
    drawn += list(rng.choice(["worker", "worker", "worker", "node", "driver"], size=max(0, kills - 3)))
    return [str(one) for one in rng.permutation(drawn)]


@dataclass
class Chaos:
    """One audit and what happens to it."""

    cluster: Cluster
    path: Path
    run: RunDirectory
    seed: int
    server: S3Server | None = None
    problems: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def suffer(self, kills: Sequence[str], shards: int) -> None:
        """Kill as told, each at a moment drawn from its part of the audit; let the audit end by itself."""
        rng = np.random.default_rng(self.seed + 1)
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        process = self.begin()
        try:
            for number, act in enumerate(kills):
                share = (number + rng.uniform(0.1, 0.9)) / (len(kills) + 1)
                wait_for(lambda share=share: len(self.run.finished()) >= share * shards, f"{share:.0%} of the shards")
                time.sleep(rng.uniform(0, 0.3))
                process = self.kill(act, process, rng)
            if code := process.wait(PATIENCE * 10):
                self.problems.append(f"the driver ended with exit code {code}")
        finally:
            if process.poll() is None:
                process.kill()
            self.over.set()
            watcher.join()

    def begin(self) -> subprocess.Popen[bytes]:
        """Start a driver of this audit."""
        return start_driver(self.cluster, self.path, self.run.path.name)

    def kill(self, act: str, process: subprocess.Popen[bytes], rng: np.random.Generator) -> subprocess.Popen[bytes]:
        """Kill a worker, a node or the driver, and wait until the manifest names it."""
        before, at = self.told(ACTS[act]), len(self.run.finished())
        started = time.monotonic()
        if act == "driver":
            process.kill()
            process.wait()
            process = self.begin()
        elif act == "worker":
            os.kill(int(rng.choice(busy_workers(self.cluster))), signal.SIGKILL)
        else:
            victim = node_of(self.cluster, int(rng.choice(busy_workers(self.cluster))))
            self.cluster.remove_node(victim, allow_graceful=False)
            self.cluster.add_node(wait=False, num_cpus=1, num_gpus=1, node_ip_address="127.0.0.1")
        try:
            wait_for(lambda: self.told(ACTS[act]) > before or process.poll() is not None, f"the {act} in the manifest")
        except TimeoutError as error:
            self.problems.append(str(error))
        self.done.append(act)
        waited = time.monotonic() - started
        print(f"killed a {act} at {at} shards, told as {self.last()} {waited:.1f} s later", flush=True)
        return process

    def told(self, kinds: Sequence[str]) -> int:
        """Count the entries of these kinds in the manifest."""
        return sum(entry["kind"] in kinds for entry in self.entries())

    def last(self) -> str:
        """Kind of the latest entry."""
        entries = self.entries()
        return entries[-1]["kind"] if entries else "nothing"

    def entries(self) -> list[dict[str, Any]]:
        """All entries of the manifest."""
        return self.run.read_json(FAILURES)["failures"] if self.run.has(FAILURES) else []

    def watch(self) -> None:
        """Note when each shard's file was written; one that is written again was computed again."""
        while not self.over.wait(0.1):
            for shard, written in self.finishes():
                if self.seen.setdefault(shard, written) != written:
                    self.problems.append(f"{shard} was computed again")
                    self.seen[shard] = written

    def finishes(self) -> Iterator[tuple[str, int]]:
        """Yield each finished shard, with what changes when it is finished again: a time on a disk, a count on S3."""
        if self.server is not None:
            yield from self.server.finishes(f"runs/{self.run.path.name}").items()
            return
        for path in Path(str(self.run.path / "shards")).glob("*.parquet"):
            yield path.stem, path.stat().st_mtime_ns


def check(chaos: Chaos, expected: bytes) -> list[str]:
    """Return what is wrong with an audit that is over."""
    problems = []
    if not chaos.run.has(RESULTS) or chaos.run.read_bytes(RESULTS) != expected:
        problems.append("the rows are not those of the undisturbed audit")
    kinds = Counter(entry["kind"] for entry in chaos.entries())
    for act, count in Counter(chaos.done).items():
        if sum(kinds[kind] for kind in ACTS[act]) < count:
            problems.append(f"{count} {act}s were killed, the manifest names {dict(kinds)}")
    print(f"manifest: {dict(kinds)}")
    return problems


def busy_workers(cluster: Cluster) -> list[int]:
    """Return the processes that are doing a shard; wait until there is one."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for node in cluster.worker_nodes for pid in workers_of(node)]
        return bool(found)

    wait_for(look, "a worker at work")
    return found


def workers_of(node: Any) -> list[int]:
    raylet = psutil.Process(raylet_of(node))
    names = {child.pid: " ".join(_command(child)) for child in raylet.children(recursive=True)}
    return [pid for pid, name in names.items() if name.startswith("ray::ShardWorker.do")]


def node_of(cluster: Cluster, worker: int) -> Any:
    """Return the node of a worker process, or any where the worker ended meanwhile."""
    return next((node for node in cluster.worker_nodes if worker in workers_of(node)), next(iter(cluster.worker_nodes)))


def raylet_of(node: Any) -> int:
    pid: int = node.all_processes[ray._private.ray_constants.PROCESS_TYPE_RAYLET][0].process.pid
    return pid


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended meanwhile
        return []


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
