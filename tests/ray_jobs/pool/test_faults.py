"""Tests each fault on a real worker and cluster: the rows are unchanged, and the manifest lists the fault."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch

from audit.records.work import Status
from audit.storage.run_directory import FAILURES, RESULTS, RunDirectory
from ray_jobs.pool.faults import FaultKind
from ray_jobs.run import shards
from ray_jobs.run.audit import run_audit
from ray_jobs.run.summary import NoImagesError
from ray_jobs.run.worker import ShardWorker


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(100_000)


def raise_(error):
    raise error


def too_large_for_two(generate, prompt, seeds, *rest):
    if len(seeds) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return generate(prompt, seeds, *rest)


def with_nan(generate, *arguments):
    """Output of a pipeline whose latents are NaN in one image."""
    images = generate(*arguments).float()
    images[0] = torch.nan
    return images.nan_to_num(0).byte()


def nothing_but_black(generate, *arguments):
    """Output of a safety filter."""
    return torch.zeros_like(generate(*arguments))


def faulty(before=None, generate=None, write=None):
    """Return a worker with faults: by shard, before it starts, while it draws, or while it stores.

    ``before`` and ``write`` happen in the first try alone, unless they are listed under ``(shard, "always")``.
    """

    class Faulty(ShardWorker):
        def do(self, shard, attempt=1):
            for happening in (before or {}, write or {}):
                key = shard.id if attempt == 1 else (shard.id, "always")
                action = happening.get(key) or happening.get((shard.id, "always"))
                if action and happening is before:
                    action()
                elif action:
                    self._run = Refusing(self._run.path, action)
            drawn, original = (generate or {}).get(shard.id), self._parts.generator.generate
            if drawn:
                self._parts.generator.generate = lambda *arguments: drawn(original, *arguments)
            try:
                return super().do(shard, attempt)
            finally:
                self._parts.generator.generate = original

    class Refusing(RunDirectory):
        def __init__(self, path, action):
            super().__init__(path)
            object.__setattr__(self, "action", action)

        def write_shard(self, *_arguments):
            self.action()

    return Faulty


@pytest.fixture(scope="module")
def undisturbed(make_audit, cluster, tmp_path_factory):
    config = make_audit(tmp_path_factory.mktemp("undisturbed"), workers={"count": 1})
    return config, run_audit(config)


def manifest(run_path):
    path = run_path / FAILURES
    return json.loads(path.read_text())["failures"] if path.exists() else []


def kinds(run_path):
    return {(entry["shard"], entry["kind"], entry["consequence"]) for entry in manifest(run_path)}


def shard_times(path):
    return {file.name: file.stat().st_mtime_ns for file in (path / "shards").glob("*.parquet")}


def run_with(monkeypatch, config, worker):
    monkeypatch.setattr(shards, "ShardWorker", worker)
    try:
        return run_audit(config)
    finally:
        monkeypatch.undo()


def test_an_undisturbed_audit_has_no_failures(undisturbed):
    _, outcome = undisturbed
    assert manifest(outcome.run_path) == []
    assert outcome.complete


def test_lost_hung_and_full_workers_cost_an_attempt_and_keep_the_rows(undisturbed, audit, cluster, monkeypatch):
    config = audit(workers={"count": 2, "deadline_factor": 2.0, "deadline_seconds": 20.0})
    before = {"doctor-0000": die, "nurse-0002": hang}
    write = {"nurse-0000": lambda: raise_(OSError(errno.ENOSPC, "No space left on device"))}
    outcome = run_with(monkeypatch, config, faulty(before, write=write))
    assert outcome.complete
    assert kinds(outcome.run_path) == {
        ("doctor-0000", FaultKind.LOST_WORKER, "tried_again"),
        ("nurse-0002", FaultKind.TIMED_OUT, "tried_again"),
        ("nurse-0000", FaultKind.FULL_DISK, "tried_again"),
    }
    assert all(entry["attempt"] == 1 and entry["time"] for entry in manifest(outcome.run_path))
    assert all(entry["node"].startswith("127.0.0.1 ") for entry in manifest(outcome.run_path))
    assert (outcome.run_path / RESULTS).read_bytes() == (undisturbed[1].run_path / RESULTS).read_bytes()


def test_failures_of_shards_and_images_are_recorded_and_a_spent_budget_makes_the_audit_incomplete(
    undisturbed, audit, cluster, monkeypatch
):
    """In order on one worker: a batch that is too large, a NaN image, an error, a filtered prompt."""
    config = audit(workers={"count": 1, "error_budget": 0.3})  # 1.8 of 6 shards
    generate = {"doctor-0000": too_large_for_two, "doctor-0001": with_nan, "nurse-0000": nothing_but_black}
    before = {("doctor-0002", "always"): lambda: raise_(ValueError("no such layer"))}
    outcome = run_with(monkeypatch, config, faulty(before, generate))
    shown = kinds(outcome.run_path)
    assert shown == {
        ("doctor-0000", FaultKind.SMALLER_BATCH, "survived"),
        ("doctor-0001", FaultKind.NO_IMAGE, "survived"),
        ("doctor-0002", FaultKind.ERROR, "given_up"),
        ("nurse-0000", FaultKind.NO_IMAGE, "survived"),
    }
    assert not outcome.complete
    assert "doctor-0002" in outcome.incomplete
    assert "nurse-0002" in outcome.incomplete, "half a shard and two whole ones are more than 1.8"
    kept = shard_times(outcome.run_path)
    again = run_audit(config)
    assert again.incomplete == ()
    assert kept.items() <= shard_times(again.run_path).items()
    assert kinds(again.run_path) == shown
    check_rows(pq.read_table(again.run_path / RESULTS), pq.read_table(undisturbed[1].run_path / RESULTS))


def check_rows(found, expected):
    """Images without a fault are the same; a smaller batch changes the last bits."""
    statuses = found["status"].to_pylist()
    halves = {("doctor", 4), ("doctor", 6)}  # the worker went on in batches of two, and the first of each was broken
    failed = halves | {("nurse", index) for index in range(4)}
    keys = list(zip(found["prompt_id"].to_pylist(), found["index"].to_pylist(), strict=True))
    assert {key for key, status in zip(keys, statuses, strict=True) if status == Status.FAILED} == failed
    made = [number for number, status in enumerate(statuses) if status != Status.FAILED]
    found, expected = found.take(made), expected.take(made)
    assert found["seed"].equals(expected["seed"])
    np.testing.assert_allclose(found["p_gender_male"].to_numpy(), expected["p_gender_male"].to_numpy(), atol=1e-5)


def test_too_many_failed_images_make_the_audit_incomplete_and_no_image_is_an_error(audit, cluster, monkeypatch):
    config = audit(prompts={"occupations": ["doctor", "nurse"], "images_per_prompt": 4}, workers={"count": 1})
    outcome = run_with(monkeypatch, config, faulty(generate={"nurse-0000": nothing_but_black}))
    assert (outcome.incomplete, outcome.unmade, outcome.complete) == ((), 0.5, False)
    only = audit(name="only", prompts={"occupations": ["nurse"], "images_per_prompt": 4}, workers={"count": 1})
    with pytest.raises(NoImagesError, match=r"none of 4 images could be made.*model.dtype"):
        run_with(monkeypatch, only, faulty(generate={"nurse-0000": nothing_but_black}))


def test_a_damaged_shard_is_detected_recomputed_and_recorded(undisturbed, cluster):
    config, outcome = undisturbed
    results, times = (outcome.run_path / RESULTS).read_bytes(), shard_times(outcome.run_path)
    cut, flipped = (outcome.run_path / "shards" / f"{name}.parquet" for name in ("doctor-0001", "nurse-0002"))
    cut.write_bytes(cut.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[40] ^= 1  # inside a page of values, so that only its checksum detects it
    flipped.write_bytes(data)
    again = run_audit(config)
    assert again.complete
    assert (again.run_path / RESULTS).read_bytes() == results
    assert kinds(again.run_path) == {(path.stem, FaultKind.CORRUPT_SHARD, "tried_again") for path in (cut, flipped)}
    untouched = {name: when for name, when in times.items() if name not in (cut.name, flipped.name)}
    assert untouched.items() <= shard_times(again.run_path).items()


def test_a_killed_driver_is_recorded_by_the_next_one(audit, cluster, tmp_path):
    config = audit(prompts={"occupations": ["doctor"], "images_per_prompt": 4}, workers={"count": 1})
    first = run_audit(config)
    progress = first.run_path / "progress.json"
    lost = {"state": "running", "host": "lost-host", "driver": "an earlier process"}
    progress.write_text(json.dumps(json.loads(progress.read_text()) | lost))
    run_audit(config)
    [entry] = manifest(first.run_path)
    assert (entry["kind"], entry["node"], entry["shard"]) == (FaultKind.LOST_DRIVER, "lost-host", None)
    assert "1 of 1 shards done" in entry["message"]


def test_the_log_of_a_worker_has_shard_and_attempt_as_json(cluster, undisturbed):
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "logs"
    lines = [
        json.loads(line)
        for path in session.glob("worker-*.err")
        for line in path.read_text().splitlines()
        if line.startswith("{")
    ]
    finished = [line for line in lines if line["message"] == "shard finished"]
    assert {"shard", "attempt", "node", "images", "seconds", "time", "level"} <= finished[0].keys()
    assert {"doctor-0000", "nurse-0002"} <= {line["shard"] for line in finished}
