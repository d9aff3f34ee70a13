"""Two stages on a local cluster: the pilot's shards decide the rest, and a run that stopped goes on with it."""

import json
import shutil

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.measure.shares.two_stage import TwoStage, fixed_images, images_to_make
from audit.records.work import BASELINE
from audit.results.two_stages import Stages
from audit.storage.run_directory import AUDIT, PROGRESS, RESULTS, RunDirectory
from ray_jobs.run.audit import plan, run_audit
from ray_jobs.run.shards import ShardWork, do_stages
from ray_jobs.run.worker import WorkerSettings

PILOT, HALF_WIDTH = 16, 0.15


@pytest.fixture(scope="module")
def sampled(cluster, tmp_path_factory):
    """An audit of the rendered model: its doctor is female in 15 of 100 pictures, its gardener in 50."""
    config = AuditConfig(
        name="staged",
        model={"source": "rendered"},
        prompts={
            "occupations": ["doctor", "gardener"],
            "images_per_prompt": PILOT,
            "two_stage": {"attribute": "gender", "half_width": HALF_WIDTH},
            "attribution": False,
        },
        sampling={"batch": 8},
        quality={"clip": "none", "features": "none"},
        tracking={"enabled": False},
        workers={"count": 2},
        output=str(tmp_path_factory.mktemp("staged")),
    )
    return config, run_audit(config, run_id="whole")


def shard_times(run):
    return {path.name: path.stat().st_mtime_ns for path in run.file("shards").glob("*.parquet")}


def test_each_prompt_gets_the_images_that_its_own_pilot_asks_for(sampled):
    _, outcome = sampled
    rows = [row for row in RunDirectory(outcome.run_path).read_results().to_pylist() if row["arm"] == BASELINE]
    made = {}
    for prompt in ("doctor", "gardener"):
        own = sorted((row for row in rows if row["prompt_id"] == prompt), key=lambda row: row["index"])
        known = [row for row in own[:PILOT] if row["status"] == "classified"]
        women = sum(row["p_gender_female"] > 0.5 for row in known)
        assert [row["index"] for row in own] == list(range(len(own)))
        assert len(own) == images_to_make(TwoStage(PILOT, HALF_WIDTH), len(known), women)
        made[prompt] = len(own)
    assert outcome.incomplete == ()
    staged = json.loads((outcome.run_path / AUDIT).read_text())["two_stage"]
    assert staged["images"] == made
    assert made["doctor"] < fixed_images(HALF_WIDTH)
    assert staged["saving"] == pytest.approx(2 * fixed_images(HALF_WIDTH) / sum(made.values()))
    assert "Images were made in two stages" in outcome.report.read_text()
    assert json.loads((outcome.run_path / PROGRESS).read_text())["state"] == "done"


@pytest.mark.parametrize("left", ["in the pilot", "after the pilot", "in the second stage"])
def test_a_run_that_stopped_goes_on_to_the_same_bytes(sampled, left):
    config, outcome = sampled
    run = RunDirectory(outcome.run_path.with_name(f"stopped-{left}".replace(" ", "-")))
    shutil.copytree(outcome.run_path, run.path)
    pilot = {shard.id for shard in plan(config)}
    later = sorted(run.finished() - pilot)
    gone = {"in the pilot": [*later, min(pilot)], "after the pilot": later, "in the second stage": later[1:]}[left]
    for shard_id in gone:
        (run.file("shards") / f"{shard_id}.parquet").unlink()
    for name in (AUDIT, RESULTS):
        run.file(name).unlink()
    times = shard_times(run)
    assert times
    run_audit(config, run_id=run.path.name)
    assert run.file(RESULTS).read_bytes() == (outcome.run_path / RESULTS).read_bytes()
    assert times.items() < shard_times(run).items()


def test_a_pilot_that_failed_is_left_to_the_next_try(sampled, monkeypatch):
    config, outcome = sampled
    run, planned, asked = RunDirectory(outcome.run_path), plan(config), []

    def all_but_the_first(_work, shards, *, whole):
        asked.append((shards, whole))
        return tuple(shard for shard in shards if shard != planned[0])

    monkeypatch.setattr("ray_jobs.run.shards.do_shards", all_but_the_first)
    settings = WorkerSettings(MeasurementRequest.of(config), config.report, "", None, "")
    stages = Stages.of(config.prompts, config.attributes)
    every, finished = do_stages(ShardWork(run, settings, None), planned, stages)
    (_, unknown), (ready, whole) = asked
    assert (unknown, whole) == (None, len(every))
    assert planned[0] in every
    assert planned[0] not in ready
    assert {shard.prompt.id for shard in finished if shard not in planned} == {"gardener"}
