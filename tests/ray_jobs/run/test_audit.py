"""An audit gives the same rows whoever computes it, and goes on where it was stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.storage.place import sqlite_file
from audit.storage.run_directory import AUDIT, FAILURES, PROGRESS, PROVENANCE, RESULTS, RunConflictError, RunDirectory
from ray_jobs.cli.failures import code_of
from ray_jobs.pool.actor_pool import PoolError, RefusedError
from ray_jobs.run.audit import default_run_id, open_run, plan, run_audit
from ray_jobs.run.exit_codes import ExitCode
from reports.tracking.outbox import read_outbox

MANY = {"occupations": ["doctor", "nurse", "chef", "pilot"], "images_per_prompt": 240}
"""With batches of 4: 240 shards, a few seconds of work, so that there is a half-way."""

EDITED = {
    "model": {"source": "calibration"},
    "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 20},
    "mitigations": [{"name": "difflens-gender", "attribute": "gender"}],
    "judge": {},
    "workers": {"count": 1},
}
"""The bundled model before and after DiffLens with its shipped lens, attribution included: 10 shards."""

ALONE = {"baseline_cache_gb": 0.0}
"""Setting of workers that take no images of an earlier audit, and keep none."""


def results(outcome):
    return (outcome.run_path / RESULTS).read_bytes()


def shard_times(path):
    return {file.name: file.stat().st_mtime_ns for file in (path / "shards").glob("*.parquet")}


def wait_for(condition, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(make_audit, cluster, tmp_path_factory):
    """An audit by two workers that nothing disturbed: its config, and what came out."""
    config = make_audit(tmp_path_factory.mktemp("whole"), prompts=MANY, workers={"count": 2})
    return config, run_audit(config)


@pytest.fixture(scope="module")
def edited(make_audit, cluster, tmp_path_factory):
    """The same of a trained model that is edited through its lens, by one worker, which keeps the baseline images."""
    [lens] = bundle_of(ModelConfig()).lenses.iterdir()
    config = make_audit(tmp_path_factory.mktemp("edited"), lens={"path": str(lens)}, **EDITED)
    return config, run_audit(config)


@pytest.fixture(params=["whole", "edited"])
def undisturbed(request):
    config, outcome = request.getfixturevalue(request.param)
    return changed(config, workers=ALONE | {"count": 2}), outcome


def changed(config, **sections):
    return AuditConfig(**{**config.model_dump(), **sections})


def test_an_audit_leaves_rows_findings_report_and_progress(whole):
    config, outcome = whole
    assert pq.read_table(outcome.run_path / RESULTS).num_rows == 960
    assert json.loads((outcome.run_path / AUDIT).read_text())["run_id"] == default_run_id(config)
    assert json.loads((outcome.run_path / PROGRESS).read_text())["state"] == "done"
    assert outcome.report.is_file()
    assert (outcome.incomplete, outcome.tracking_url) == ((), None)
    assert "sampling" not in outcome.result.provenance  # the renderer samples nothing
    assert outcome.result.provenance["instruments"]["judge"].startswith("judge:calibration")


def test_an_audit_says_how_its_images_were_sampled(edited):
    _, outcome = edited
    sampling = json.loads((outcome.run_path / AUDIT).read_text())["provenance"]["sampling"]
    assert (sampling["scheduler"], sampling["published_scheduler"]) == ("DDIMScheduler", "DDIMScheduler")
    assert sampling["safety_checker"] == "off (published without one)"
    assert "The sampler is DDIMScheduler, 25 steps" in outcome.report.read_text()


def test_the_same_audit_again_computes_nothing_and_finds_the_same(whole):
    config, outcome = whole
    times, rows = shard_times(outcome.run_path), results(outcome)
    again = run_audit(changed(config, workers={"count": 1}))
    assert again.run_path == outcome.run_path
    assert shard_times(outcome.run_path) == times
    assert results(again) == rows


def test_an_output_of_any_name_holds_the_run_and_its_tracking(make_audit, cluster, tmp_path):
    place = tmp_path / "a%20b?mode=ro#" / "-[x]{y} '\"$HOME\u0301\U0001f600."
    prompts = {"occupations": ["doctor"], "images_per_prompt": 4}
    config = make_audit(place, prompts=prompts, tracking={"enabled": True})
    outcome = run_audit(config)
    assert outcome.complete
    assert sqlite_file(outcome.tracking_url.partition("#")[0]) is not None
    assert read_outbox(RunDirectory(outcome.run_path)).left == ()
    assert sorted(path.name for path in (place / "runs").iterdir()) == [
        "mlartifacts",
        "mlflow.db",
        outcome.run_path.name,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a%20b?mode=ro#"]


def test_a_tracking_server_that_says_nothing_changes_no_result(whole, caplog):
    config, outcome = whole
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        told = run_audit(changed(config, tracking={"uri": uri, "timeout_seconds": 2}))
    assert told.tracking_url is None
    assert (told.result.verdicts, results(told)) == (outcome.result.verdicts, results(outcome))
    assert "the tracking store took more than 2 s" in caplog.text
    assert read_outbox(RunDirectory(told.run_path)).problem == "the tracking store took more than 2 s"


def test_other_weights_do_not_go_on_in_an_old_run(audit, cluster):
    config = audit()
    run = open_run(config, "old", cluster)
    run.write_json(PROVENANCE, {**run.read_json(PROVENANCE), "model_fingerprint": "of older weights"})
    with pytest.raises(RunConflictError, match=r"of older weights"):
        open_run(config, "old", cluster)


def test_what_changes_results_names_another_run_and_what_does_not_does_not(audit):
    name = default_run_id(audit())
    assert name.startswith("small-")
    assert default_run_id(audit(workers={"count": 3}, report={"max_mb": 3}, tracking={"enabled": True})) == name
    assert default_run_id(audit(seed=8)) != name
    assert default_run_id(audit(sampling={"batch": 8})) != name


def test_corrected_labels_by_hand_begin_another_run(audit, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("image,attribute,group\na.png,gender,female\n")
    name = default_run_id(audit(judge={"source": str(labels)}))
    assert default_run_id(audit(judge={"source": str(labels)})) == name
    labels.write_text("image,attribute,group\na.png,gender,male\n")
    assert default_run_id(audit(judge={"source": str(labels)})) != name


@pytest.mark.parametrize(
    ("undisturbed", "count"), [("whole", 1), ("whole", 3), ("edited", 3)], indirect=["undisturbed"]
)
def test_the_number_of_workers_does_not_change_a_byte(undisturbed, count):
    config, outcome = undisturbed  # by 2 workers, or 1
    assert results(run_audit(changed(config, workers=ALONE | {"count": count}), run_id=f"by-{count}")) == results(
        outcome
    )


def test_a_lost_worker_costs_no_row(undisturbed):
    config, outcome = undisturbed
    run = RunDirectory(Path(config.output) / "wounded")
    killer = threading.Thread(target=kill_a_worker, args=(run, part_of(config)))
    killer.start()
    wounded = run_audit(config, run_id="wounded")
    killer.join()
    assert results(wounded) == results(outcome)


def test_a_killed_driver_goes_on_and_no_finished_shard_is_done_again(undisturbed, tmp_path):
    config, outcome = undisturbed
    part = part_of(config)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    program = (
        "import sys; from audit.config.settings import AuditConfig; from ray_jobs.run.audit import run_audit\n"
        "run_audit(AuditConfig.model_validate_json(open(sys.argv[1]).read()), run_id='killed')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = RunDirectory(Path(config.output) / "killed")
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "config.json")], env=environment) as driver:
        wait_for(lambda: len(run.finished()) >= part or driver.poll() is not None)
        driver.kill()
    wait_for(lambda: not workers_of(driver.pid))
    times = shard_times(run.path)
    assert part <= len(times) < len(plan(config))
    assert results(run_audit(config, run_id="killed")) == results(outcome)
    assert times.items() <= shard_times(run.path).items()


def test_a_later_audit_with_another_mitigation_uses_the_kept_baseline_images(edited):
    config, first = edited
    weaker = [EDITED["mitigations"][0] | {"strength": 0.5}]

    def kept():
        files = (Path(config.output) / "baselines").glob("*.safetensors")
        return {file.name: file.stat().st_mtime_ns for file in files}

    before = kept()
    second = run_audit(changed(config, mitigations=weaker))
    assert before
    assert kept() == before
    rows = [pq.read_table(run.run_path / RESULTS).to_pylist() for run in (first, second)]
    baseline, again = ([row for row in found if row["arm"] == "baseline"] for found in rows)
    assert baseline == again
    assert rows[0] != rows[1]
    assert first.run_path != second.run_path


def test_workers_that_cannot_load_end_the_audit_with_the_reason(audit, cluster, tmp_path):
    missing = {"source": str(tmp_path / "missing.pt")}
    config = audit(judge=missing, attributes={"gender": ["female", "male"]}, workers={"count": 1, "attempts": 2})
    with pytest.raises(PoolError, match=r"no worker could be started: .*missing\.pt"):
        run_audit(config)
    [progress] = Path(config.output).rglob(PROGRESS)
    assert json.loads(progress.read_text())["state"] == "failed"


def test_what_a_worker_refuses_is_a_mistake_of_the_config_and_is_tried_once(audit, cluster, tmp_path):
    """Skin tone is audited by default, and FairFace knows none; ``validate`` would have said so."""
    config = audit(judge={"source": str(tmp_path / "fairface.pt")}, workers={"count": 1, "attempts": 3})
    with pytest.raises(RefusedError, match="FairFace cannot judge 'skin_tone'") as caught:
        run_audit(config)
    assert code_of(caught.value) == ExitCode.USAGE
    [progress] = Path(config.output).rglob(PROGRESS)
    assert json.loads(progress.read_text())["state"] == "failed"
    faults = json.loads((progress.parent / FAILURES).read_text())["failures"]
    assert [(f["kind"], f["attempt"], f["consequence"]) for f in faults] == [("refused", 1, "given_up")]


@pytest.mark.parametrize(
    ("who", "heavy"),
    [
        ("ray_jobs.run.audit", {"torch", "diffusers", "mlflow", "pandas"}),
        ("audit.generation.shard", {"diffusers", "transformers", "torchvision", "open_clip", "mlflow", "pandas"}),
    ],
    ids=["driver", "worker"],
)
def test_nobody_loads_what_only_others_need(who, heavy):
    """A worker whose config names a pipeline, CLIP or a photograph's classifier loads them with it."""
    program = f"import sys, {who}; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "set()"


def part_of(config):
    """Shards after which something is killed: enough to lose, and most still to come."""
    return len(plan(config)) // 6


def kill_a_worker(run, part):
    """End one of this process's own shard workers half-way."""
    wait_for(lambda: len(run.finished()) >= part)
    os.kill(workers_of(os.getpid())[0], signal.SIGKILL)


def workers_of(driver):
    return [pid for pid, name in descendants(driver).items() if name.startswith("ray::ShardWorker")]


def descendants(root):
    """Return pid → command line of all processes under ``root``."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(entry.name)] = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
        except (OSError, IndexError):
            continue  # it ended meanwhile
    found, open_ = {}, {root}
    while open_:
        open_ = {pid for pid, parent in parents.items() if parent in open_ and pid not in found}
        found |= {pid: names.get(pid, "") for pid in open_}
    return found
