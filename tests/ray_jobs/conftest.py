"""Shared fixtures: one small Ray cluster, and a calibration world with untrained networks.

Starting Ray takes seconds, and two clusters on one machine compete. These tests need no trained weights: they check
which process computes what, not the figures.
"""

import os
import shutil
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from audit.calibration.networks import DrawingNetwork
from audit.calibration.world import ATTRIBUTES, OCCUPATIONS, World
from audit.config.sections import WorkersConfig
from audit.config.settings import AuditConfig
from ray_jobs.cluster.connection import connect
from ray_jobs.pool.actor_pool import Finished
from ray_jobs.run import parts, shards
from ray_jobs.run.parts import TaskActor
from ray_jobs.run.prepare import fits
from ray_jobs.run.worker import ShardWorker

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster(s3_port):  # the workers inherit where the S3 server is
    with pytest.MonkeyPatch.context() as patch:
        # torch-fidelity installs a package called tests, which workers would find in place of ours.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        with connect(None, WorkersConfig(count=3, threads=1)) as cluster:
            yield cluster


@pytest.fixture(scope="session")
def untrained_world(tmp_path_factory):
    """A calibration world: the bundled table, and a seeded judge and feature network that see a face everywhere."""
    directory = tmp_path_factory.mktemp("world")
    shutil.copy(World.bundled_path(), directory / "world.yaml")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DrawingNetwork({**ATTRIBUTES, "occupation": OCCUPATIONS, "face": ("absent", "present")})
    network.heads["face"].bias.data = torch.tensor([-50.0, 50.0])
    network.save(directory / "judge")
    network.save(directory / "features")
    return directory


@pytest.fixture(scope="session")
def make_audit(untrained_world):
    """Return a maker of small configs that draw with the renderer; keyword arguments replace sections."""

    def make(output, **sections):
        data = {
            "name": "small",
            "seed": 7,
            "model": {"source": "rendered", "world": str(untrained_world)},
            "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 10},
            "sampling": {"batch": 4},
            "judge": {"min_confidence": 0.0},
            "quality": {"clip": "none"},
            "report": {"images_per_prompt": 2},
            "tracking": {"enabled": False},
            "workers": {"count": 1},  # each one more imports torch for seconds; what several change has its own tests
            "output": str(output / "runs"),
        }
        return AuditConfig(**{**data, **sections})

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """Audits make their workers in this process, where libraries are loaded, for tests of what a worker makes.

    Which process computes it is tested by ``test_audit.py`` and the tests of pools, with workers of Ray.
    """

    def shards_here(make_worker, tasks, **_):
        worker = make_worker(0)
        for task in tasks:
            yield Finished(task, worker.do(task), attempts=1)

    def parts_here(worker, settings, tasks, pool, files=None):
        if tasks:
            actor = TaskActor(worker, settings, pool.workers.threads, str(Path.cwd()), files)
            yield from ((task, actor.do(task)) for task in tasks)

    threads = torch.get_num_threads()
    monkeypatch.setattr(shards, "run_on_pool", shards_here)
    monkeypatch.setattr(shards, "worker_factory", lambda work: lambda _number: ShardWorker(work.settings))
    monkeypatch.setattr(parts, "results_of", parts_here)
    monkeypatch.setattr(fits, "results_of", parts_here)
    monkeypatch.setattr(parts, "log_as_json", lambda _logger: None)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def audit(make_audit, tmp_path):
    """The small audit with its own output directory."""
    return partial(make_audit, tmp_path)


class Receiver(ThreadingHTTPServer):
    """Listens on loopback, records requests, and answers with the given codes; the last one repeats."""

    def __init__(self, *codes, location=None):
        self.posts, self.codes, self.location = [], list(codes) or [204], location
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/path-token?key=query-token"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((dict(self.headers), body))
        self.send_response(self.server.codes.pop(0) if len(self.server.codes) > 1 else self.server.codes[0])
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def receiver_of():
    """Create a receiver of webhooks that listens inside ``with``."""
    return Receiver


class Clock:
    """A clock that changes only on request."""

    def __init__(self):
        self.now = datetime(2026, 1, 5, 3, tzinfo=UTC)

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()
