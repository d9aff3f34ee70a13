"""Chaos test: kills workers, nodes and the driver of an audit at seeded random moments, and checks its results.

``python -m benchmarks.chaos`` starts a Ray cluster of several nodes on this machine, with logical GPUs, and audits the
rendered model on 1, 2 and 4 of them: the rows must be identical. Then another run of the same config suffers
``--kills`` kills. Its rows must be identical too, no finished shard may be computed again, and the failure manifest
must list every fault. ``--kills 3 --nodes 2 --sizes 1 2`` is the short form that the tests run. A missed deadline is
reported and ends the command with exit code 1, without leaving processes behind. With ``--s3`` the runs are stored in
an S3 server on loopback that answers some requests with 500, 503 or a delay.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audit.config.settings import AuditConfig
from audit.storage.place import place_of
from audit.storage.run_directory import FAILURES, RESULTS, RunDirectory
from benchmarks.local_nodes import LocalNodes, Patience, local_nodes
from benchmarks.s3_server import BUCKET, S3Server, environment, free_port, seeded_faults
from ray_jobs.run.audit import plan

IMAGES_PER_KILL = 60
"""Images per prompt: a fault is recorded after seconds, in which a fast machine finishes some fifty shards."""

LAST_KILL = 0.8
"""Part of the audit's shards within which all kills happen; the audit must not end before."""

STEP_SECONDS = 200.0
"""Time limit of each single wait; a busy machine takes long to start a process."""

ACTS = {"worker": ("lost_worker", "no_start"), "node": ("lost_node", "lost_worker"), "driver": ("lost_driver",)}
"""What is killed, and the kinds that the manifest may record: Ray may notice the process before the node."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4], help="numbers of nodes for the same rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=0, help="per prompt; by default enough for the kills")
    parser.add_argument("--seconds", type=float, default=3600.0, help="longest time for everything")
    parser.add_argument("--s3", action="store_true", help="keep the runs in an object store that stumbles")
    parser.add_argument("--s3-faults", type=float, default=0.05, help="share of its requests that meet a fault")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    patience = Patience(STEP_SECONDS, time.monotonic() + arguments.seconds)
    with tempfile.TemporaryDirectory() as directory, object_store(arguments) as server:
        output = f"s3://{BUCKET}/runs" if server else str(Path(directory) / "runs")
        config = config_of(output, arguments.images or IMAGES_PER_KILL * arguments.kills)
        path = Path(directory) / "audit.yaml"
        path.write_text(config.model_dump_json())
        try:
            problems = disturbed(Trial(path, config, patience, server), arguments)
        except TimeoutError as error:
            problems = [f"{error}\n{last_words(Path(directory))}"]
    print("\n".join(problems) or f"identical rows after {arguments.kills} kills, no finished shard computed twice")
    sys.exit(1 if problems else 0)


@dataclass(frozen=True)
class Trial:
    """The audit, and its time limits."""

    path: Path
    config: AuditConfig
    patience: Patience
    server: S3Server | None = None

    def run(self, name: str) -> RunDirectory:
        """Return one of the audit's runs."""
        return RunDirectory(place_of(self.config.output) / name)


def disturbed(trial: Trial, arguments: argparse.Namespace) -> list[str]:
    """Audit on every number of nodes, then with kills; return the problems."""
    with local_nodes(arguments.sizes[0], trial.patience) as nodes:
        expected = same_rows(nodes, trial, arguments.sizes)
        nodes.resize(arguments.nodes)
        chaos = Chaos(nodes, trial, trial.run("chaos"), arguments.seed)
        chaos.suffer(acts(arguments.kills, arguments.seed), len(plan(trial.config)))
    return [*chaos.problems, *check(chaos, expected)]


def config_of(output: str, images: int) -> AuditConfig:
    """Return the rendered model with four occupations, in shards of four images."""
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
    """Serve S3 if requested; processes that are started inside know its address."""
    if not arguments.s3:
        yield None
        return
    port = free_port()
    os.environ |= environment(port)
    with S3Server(port, seeded_faults(arguments.seed, arguments.s3_faults)) as server:
        yield server
        print(f"object store: {len(server.requests):,} requests, {len(server.faults):,} met a fault")


def same_rows(nodes: LocalNodes, trial: Trial, sizes: Sequence[int]) -> bytes:
    """Run the audit on every number of nodes, check that the rows are identical, and return them."""
    rows = {}
    for size in sizes:
        nodes.resize(size)
        started = time.monotonic()
        run = trial.run(f"nodes-{size}")
        process = start_driver(nodes, trial, run)
        try:
            code = end_of(process, run, trial.patience)
        finally:
            kill(process)
        if code:
            words = last_words(trial.path.parent)
            raise SystemExit(f"the undisturbed audit on {size} nodes ended with exit code {code}\n{words}")
        rows[size] = run.read_bytes(RESULTS)
        print(f"{size} nodes: {len(plan(trial.config))} shards in {time.monotonic() - started:.0f} s", flush=True)
    if len(set(rows.values())) > 1:
        raise SystemExit("the rows depend on the number of nodes")
    print(f"identical rows with {', '.join(map(str, sizes))} nodes", flush=True)
    return rows[sizes[0]]


def start_driver(nodes: LocalNodes, trial: Trial, run: RunDirectory) -> subprocess.Popen[bytes]:
    """Start the command line like a user, in its own process."""
    name = run.path.name
    command = [sys.executable, "-m", "ray_jobs", "run", str(trial.path), "--address", nodes.address, "--run-id", name]
    with (trial.path.parent / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a driver if it is still running."""
    process.kill()
    process.wait()


def end_of(process: subprocess.Popen[bytes], run: RunDirectory, patience: Patience) -> int:
    """Wait for the end of a driver and return its exit code; the limit restarts with every finished shard.

    Raises:
        TimeoutError: If nothing more happens.
    """
    while process.poll() is None:
        done = len(run.finished())
        patience.until(
            lambda done=done: process.poll() is not None or len(run.finished()) > done,
            f"another shard of {run.path.name} after {done}, or its end",
        )
    return process.wait()


def last_words(output: Path) -> str:
    """Return the end of the latest driver's log."""
    logs = sorted(output.glob("*.log"), key=lambda path: path.stat().st_mtime)
    return f"{logs[-1].name} ends with:\n{logs[-1].read_text()[-2000:]}" if logs else "no driver was started"


def acts(kills: int, seed: int) -> list[str]:
    """Return what is killed, in order: each kind at least once from three kills, workers most often."""
    rng = np.random.default_rng(seed)
    drawn = ["worker", "node", "driver"][:kills]
    drawn += list(rng.choice(["worker", "worker", "worker", "node", "driver"], size=max(0, kills - 3)))
    return [str(one) for one in rng.permutation(drawn)]


@dataclass
class Chaos:
    """One audit under attack, and its observations."""

    nodes: LocalNodes
    trial: Trial
    run: RunDirectory
    seed: int
    problems: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def suffer(self, kills: Sequence[str], shards: int) -> None:
        """Kill as requested, each time at a random moment within its part of the audit; then let the audit end.

        Raises:
            TimeoutError: If an expected event does not happen.
        """
        rng = np.random.default_rng(self.seed + 1)
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        process = start_driver(self.nodes, self.trial, self.run)
        try:
            for number, act in enumerate(kills):
                share = LAST_KILL * (number + rng.uniform(0.1, 0.9)) / len(kills)
                self.wait_for_shards(round(share * shards), f"before a {act} is killed")
                time.sleep(rng.uniform(0, 0.3))
                if process.poll() is not None:
                    self.problems.append(f"the audit ended before kill {number + 1}, of a {act}: give it more --images")
                    break
                process = self.attack(act, process, rng)
            if code := end_of(process, self.run, self.trial.patience):
                self.problems.append(f"the driver ended with exit code {code}")
        finally:
            kill(process)
            self.over.set()
            watcher.join()

    def wait_for_shards(self, count: int, why: str) -> None:
        """Wait until ``count`` shards are finished."""
        self.trial.patience.until(lambda: len(self.run.finished()) >= count, f"{count} finished shards {why}")

    def attack(self, act: str, process: subprocess.Popen[bytes], rng: np.random.Generator) -> subprocess.Popen[bytes]:
        """Kill a worker, a node or the driver, wait until the manifest names it, and return the driver."""
        before, at, started = len(self.recorded(act)), len(self.run.finished()), time.monotonic()
        if act == "driver":
            kill(process)
            process = start_driver(self.nodes, self.trial, self.run)
        elif act == "worker":
            with suppress(ProcessLookupError):
                os.kill(int(rng.choice(list(self.nodes.at_work()))), signal.SIGKILL)
        else:
            at_work = self.nodes.at_work()
            self.nodes.remove(at_work[int(rng.choice(list(at_work)))])
            self.nodes.add()
        expected = f"a {act} in the manifest, killed at {at} shards"
        self.trial.patience.until(lambda: len(self.recorded(act)) > before or process.poll() is not None, expected)
        new = self.recorded(act)[before:]
        if not new:
            self.problems.append(f"expected {expected}, found an audit that ended without it")
        waited = time.monotonic() - started
        print(f"killed a {act} at {at} shards, recorded as {' and '.join(new)} {waited:.1f} s later", flush=True)
        return process

    def recorded(self, act: str) -> list[str]:
        """Return the kinds of the manifest's entries that can belong to this kill."""
        return [entry["kind"] for entry in self.entries() if entry["kind"] in ACTS[act]]

    def entries(self) -> list[dict[str, Any]]:
        """All entries of the manifest."""
        return self.run.read_json(FAILURES)["failures"] if self.run.has(FAILURES) else []

    def watch(self) -> None:
        """Record when each shard's file was written; a second write means that it was computed again."""
        while not self.over.wait(0.1):
            for shard, written in self.finishes():
                if self.seen.setdefault(shard, written) != written:
                    self.problems.append(f"{shard} was computed again")
                    self.seen[shard] = written

    def finishes(self) -> Iterator[tuple[str, int]]:
        """Yield each finished shard with a value that changes if it is written again: a time on disk, a count on S3."""
        if self.trial.server is not None:
            name = f"runs/{self.run.path.name}"
            repeated = self.trial.server.repeated(name)
            yield from ((shard, repeated[shard]) for shard in self.trial.server.finishes(name))
            return
        for path in Path(str(self.run.path / "shards")).glob("*.parquet"):
            yield path.stem, path.stat().st_mtime_ns


def check(chaos: Chaos, expected: bytes) -> list[str]:
    """Return the problems of a finished audit."""
    same = chaos.run.has(RESULTS) and chaos.run.read_bytes(RESULTS) == expected
    print(f"manifest: {dict(Counter(entry['kind'] for entry in chaos.entries()))}")
    return [] if same else ["the rows are not those of the undisturbed audit"]


if __name__ == "__main__":
    main()
