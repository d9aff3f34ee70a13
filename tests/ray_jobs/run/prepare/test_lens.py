"""Dissecting on workers: a model without a lens gets one, an audit then uses it, and a lens is made only once."""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audit.calibration.bundle import bundle_of
from audit.config.file import read_config
from audit.config.sections import JudgeConfig, LensVariant
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.dissect.lens import Lens, LensMismatch, honesty_in
from audit.dissect.settings import (
    HONESTY_FILE,
    dissected_prompts,
    lens_name,
    lens_settings,
    needs_lens,
    recording_name,
)
from audit.dissect.strengths import LADDER, Tried
from audit.models.source import model_fingerprint
from audit.preflight.readiness import planned_work
from audit.results.lens_evidence import keep_evidence, lens_evidence
from audit.storage.files import storage_of
from audit.storage.folder_copy import folder_on_disk, folder_to_fill
from audit.storage.place import place_of
from benchmarks.s3_server import BUCKET
from ray_jobs.pool.actor_pool import PoolError
from ray_jobs.run import parts
from ray_jobs.run.audit import run_audit
from ray_jobs.run.parts import TaskActor, WorkerPool
from ray_jobs.run.prepare import lens as dissect
from ray_jobs.run.prepare.building import PartRecorder, RecordStep, build_lenses, plan_of
from ray_jobs.run.prepare.honesty import ensure_honesty
from ray_jobs.run.prepare.strengths import (
    STRENGTHS,
    StrengthAnswer,
    StrengthSettings,
    StrengthTask,
    StrengthWorker,
)
from tests.pretended_gpu import pretended_gpu

TINY = {
    "name": "tiny",
    "attributes": {"gender": ["female", "male"]},
    "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 4},
    "sampling": {"steps": 3, "guidance": 2.0, "batch": 8},
    "judge": {"min_confidence": 0.0},
    "lens": {"trajectories": 64, "sae_steps": 20, "features_per_group": 4, "strength_images": 1},
    "mitigations": [{"name": "difflens-gender", "method": "difflens", "attribute": "gender"}],
    "tracking": {"enabled": False},
    "workers": {"count": 1},
}


ANSWER = json.dumps(
    StrengthAnswer(
        projection={"female": -1.0, "male": 1.0},
        tried={
            "female": (Tried(0.0, 0.3, {}), Tried(0.5, 0.95, {"age": 0.1})),
            "male": (Tried(0.0, 0.7, {}), Tried(0.5, 0.75, {"age": 0.4})),
        },
    ).as_data()
)
"""What a search found out: an edit towards female pays, one towards male does not."""


def strengths_in(directory, prompt):
    return {group: found.strength for group, found in Lens.load(directory).strengths["gender"][prompt].items()}


FROM_OUTSIDE = {"source": "somebody/model"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return AuditConfig(**TINY, output=str(tmp_path_factory.mktemp("dissect") / "runs"))


@pytest.fixture(scope="module")
def lens_directory(config, cluster):
    """The lens that two workers make; other tests compare what one worker makes with it."""
    two = config.workers.model_copy(update={"count": 2})
    return dissect.ensure_lens(DissectionRequest.of(config), config.output, WorkerPool(two, cluster), steers=True)


def find_lens(config):
    return dissect.find_lens(DissectionRequest.of(config), config.output)


def ensure_lens(config, cluster, steers=True):
    pool = WorkerPool(config.workers, cluster)
    return dissect.ensure_lens(DissectionRequest.of(config), config.output, pool, steers=steers)


def forget_strengths(lens):
    """Leave a lens as it is before strengths are searched."""
    plain = json.loads((lens / "lens.json").read_text())
    (lens / "lens.json").write_text(json.dumps(plain | {"strengths": {}, "prediction": {}}))


def test_a_lens_covers_the_whole_world_and_names_itself(lens_directory, config):
    lens = Lens.load(lens_directory)
    assert lens.name == lens_directory.name
    assert len(lens.strengths["gender"]) == 16
    for found in lens.strengths["gender"]["doctor"].values():
        assert found.drawn in found.tried  # what is handed out was drawn
    assert set(lens.prediction["gender"]) == {"female", "male"}
    assert "## Strengths for gender" in (lens_directory / "card.md").read_text()


def test_the_same_audit_finds_the_lens_again(lens_directory, config):
    assert find_lens(config).absolute() == lens_directory
    other = config.model_copy(update={"sampling": config.sampling.model_copy(update={"guidance": 1.0})})
    assert find_lens(other) is None


def test_the_lens_of_another_judge_is_another_lens(tmp_path):
    config = AuditConfig(**TINY, model=FROM_OUTSIDE, quality={"clip": "none"})
    names = []
    for weights in (b"first", b"second"):
        (tmp_path / "fairface.pt").write_bytes(weights)
        judged = config.model_copy(update={"judge": JudgeConfig(source=str(tmp_path / "fairface.pt"))})
        names.append(lens_name("model", lens_settings(DissectionRequest.of(judged))))
    assert names[0] != names[1]


def test_side_effects_are_looked_for_in_every_audited_attribute():
    both = {"gender": ["female", "male"], "age": ["young", "old"]}
    lens = TINY["lens"] | {"attributes": ["age"]}
    request = DissectionRequest.of(AuditConfig(**TINY | {"attributes": both, "lens": lens, "mitigations": []}))
    assert StrengthSettings.of_lens(request, Path("lens")).groups.keys() == {"gender", "age"}
    assert lens_settings(request)["watched"] == {"gender": ["female", "male"]}
    alone = AuditConfig(**TINY | {"attributes": {"age": ["young", "old"]}, "lens": lens, "mitigations": []})
    assert "watched" not in lens_settings(DissectionRequest.of(alone))


def test_the_lens_that_ships_with_the_model_is_the_one_that_the_shipped_audit_finds():
    shipped = read_config(Path(__file__).parents[4] / "configs" / "occupations.yaml")
    assert find_lens(shipped).parent == bundle_of(shipped.model).lenses


def test_strengths_are_searched_where_the_model_runs(config, lens_directory):
    with pretended_gpu():
        worker = StrengthWorker(StrengthSettings.of_lens(DissectionRequest.of(config), lens_directory))
        [doctor, *_] = dissected_prompts(DissectionRequest.of(config))
        found = worker.do(StrengthTask.of_lens(doctor, "gender", config.lens))
    assert found.strengths(config.lens.side_effect_budget) == Lens.load(lens_directory).strengths["gender"][doctor.id]
    assert found.projection.keys() == {"female", "male"}


def without_mitigation(config, attribution):
    prompts = config.prompts.model_copy(update={"attribution": attribution})
    return config.model_copy(update={"mitigations": (), "prompts": prompts})


@pytest.mark.parametrize("attribution", [None, False])
def test_without_mitigation_nothing_is_dissected_unless_asked_for(config, attribution):
    plain = without_mitigation(config, attribution)
    assert not needs_lens(plain.lens, plain.prompts, plain.mitigations)


def test_attribution_alone_has_a_lens_and_its_features_in_the_report(config, cluster, lens_directory):
    asked = without_mitigation(config, True)
    outcome = run_audit(asked)
    assert outcome.result.lens["name"] == lens_directory.name
    assert set(outcome.result.lens["features"][0]["by_prompt"]) == {"doctor", "nurse"}
    assert "Attribution of gender features per occupation" in outcome.report.read_text()
    assert "Needs a lens" in terminal_of_plan(asked)


def terminal_of_plan(config):
    work = planned_work(config)
    assert work.lens_images == 64
    return "\n".join(work.preparation)


def test_strengths_are_searched_once_an_edit_takes_them_from_the_lens(
    config, cluster, lens_directory, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "ray_jobs")
    one = config.model_copy(update={"output": str(tmp_path / "runs")})
    lens = tmp_path / "runs" / "lenses" / lens_directory.name
    shutil.copytree(lens_directory, lens.parent / f"{lens.name}.partial")  # as it is when it is built
    forget_strengths(lens.parent / f"{lens.name}.partial")
    fixed = one.mitigations[0].model_copy(update={"strength": 1.0})
    at_one_strength = one.model_copy(update={"mitigations": (fixed,)})
    assert planned_work(at_one_strength).lens_images == 64
    assert planned_work(one).lens_images == 64 + 16 * 2 * 1 * len(LADDER)
    outcome = run_audit(at_one_strength)
    assert {row.arm for row in outcome.result.overall} == {"baseline", "difflens-gender"}
    assert "Strengths:" not in caplog.text
    assert not Lens.load(lens).strengths
    assert ensure_lens(one, cluster, steers=False) == lens
    assert not Lens.load(lens).strengths
    assert ensure_lens(one, cluster) == lens
    assert Lens.load(lens).strengths == Lens.load(lens_directory).strengths


def test_an_interrupted_search_goes_on_with_the_answers_on_file(config, cluster, lens_directory, tmp_path, monkeypatch):
    made = config.model_copy(update={"output": str(tmp_path / "runs")})
    lens = tmp_path / "runs" / "lenses" / lens_directory.name
    shutil.copytree(lens_directory, lens)
    forget_strengths(lens)
    kept = lens / STRENGTHS
    kept.mkdir()
    for prompt in json.loads((lens_directory / "lens.json").read_text())["strengths"]["gender"]:
        (kept / f"{prompt}-gender.json").write_text(ANSWER)
    monkeypatch.setattr(parts, "run_on_pool", None)  # nothing is left to do, so no pool is needed
    assert strengths_in(ensure_lens(made, cluster), "nurse") == {"female": 0.5, "male": 0.0}


def iter_of_nothing():
    yield from ()


def test_on_a_cluster_the_building_asks_for_what_a_node_has_and_the_pool_can_tell_it(
    config, cluster, tmp_path, monkeypatch
):
    made = config.model_copy(update={"output": str(tmp_path / "runs")})
    asked = []

    def full(*_, limits, **__):
        asked.append(dict(limits.resources))
        if len(asked) == 2:
            raise PoolError("no room")
        return iter_of_nothing()

    monkeypatch.setattr(os, "cpu_count", lambda: 4096)  # of the driver's machine
    monkeypatch.setattr(parts, "run_on_pool", full)
    with pytest.raises(PoolError):
        ensure_lens(made, replace(cluster, local=False))
    assert asked[1] == {"CPU": int(cluster.cpus), "GPU": 0, "memory": 0}


def test_relative_paths_mean_the_same_to_a_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "started-here").mkdir()
    drawn = AuditConfig(name="drawn", model={"source": "rendered"})
    with pytest.raises(ValueError, match="no network to edit or dissect"):
        TaskActor(PartRecorder, [DissectionRequest.of(drawn)], torch.get_num_threads(), str(tmp_path / "started-here"))
    assert Path.cwd() == tmp_path / "started-here"


def test_a_lens_is_put_into_an_object_store_and_fetched_from_it(s3, config, cluster, lens_directory, monkeypatch):
    made = config.model_copy(update={"output": f"s3://{BUCKET}/dissect/runs"})
    partial = place_of(made.output) / "lenses" / f"{lens_directory.name}.partial"
    with folder_to_fill(partial, last="lens.json") as directory:
        shutil.copytree(lens_directory, directory, dirs_exist_ok=True)
        forget_strengths(directory)
    assert s3.asked("PUT")[-1].path.endswith("/lens.json")
    monkeypatch.setattr(parts, "run_on_pool", None)  # nothing is left to do, so no pool is needed
    place = ensure_lens(made, cluster, steers=False)
    assert place == find_lens(made) == partial.parent / lens_directory.name
    for prompt in json.loads((lens_directory / "lens.json").read_text())["strengths"]["gender"]:
        storage_of(place).write(f"{STRENGTHS}/{prompt}-gender.json", ANSWER.encode())
    assert ensure_lens(made, cluster) == place
    with folder_on_disk(place) as directory:
        assert strengths_in(directory, "nurse") == {"female": 0.5, "male": 0.0}
    assert not s3.keys("dissect/runs/lenses/" + partial.name)
    keep_evidence(place, place_of(made.output) / "run" / "lens")
    assert lens_evidence(place_of(made.output) / "run" / "lens").card["top_images"]
    assert not [key for key in s3.keys("dissect/runs/run") if key.endswith(".safetensors")]


VARIANTS = ({"k": 4, "features_per_group": 2}, {"hookpoint": "up_blocks.0.attentions.1.transformer_blocks.0.attn2"})


def with_variants(config, output):
    lens = config.lens.model_copy(update={"variants": tuple(map(LensVariant.model_validate, VARIANTS))})
    return config.model_copy(update={"lens": lens, "output": str(output)})


def test_variants_are_made_from_the_same_images_and_an_audit_goes_on_with_them(
    config, cluster, lens_directory, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "ray_jobs")
    asked = with_variants(config, tmp_path / "runs")
    request = DissectionRequest.of(asked)
    one, *others = dissect.dissect(request, asked.output, asked.workers)
    assert caplog.text.count("recorded 64 of 64 trajectories") == 1
    assert one.place.name == lens_directory.name
    assert [lens.searched for lens in (one, *others)] == [True, False, False]
    assert [lens.card["settings"]["k"] for lens in (one, *others)] == [16, 4, 16]
    assert others[1].card["hookpoint"] == VARIANTS[1]["hookpoint"]
    assert not list((tmp_path / "runs" / "lenses").glob("recording-*"))
    variant = replace(request, lens=others[0].lens)
    caplog.clear()
    made = dissect.ensure_lens(variant, asked.output, WorkerPool(asked.workers, cluster), steers=True)
    assert "trajectories" not in caplog.text  # built from the recording before; only its strengths were searched
    assert made == others[0].place
    assert strengths_in(made, "nurse").keys() == {"female", "male"}
    assert dissect.dissect(request, asked.output, asked.workers)[1].searched


def test_a_recording_that_was_interrupted_goes_on_with_its_missing_parts(
    config, cluster, lens_directory, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "ray_jobs")
    request = replace(DissectionRequest.of(config), lens=config.lens)
    output = tmp_path / "runs" / "lenses"
    plan = plan_of([request])
    recording = output / recording_name(model_fingerprint(config.model), lens_settings(request))
    worker = PartRecorder([request])
    for part in plan.parts[:-1]:
        worker.do(RecordStep(part, str(recording), 64))
    built = output / "built"
    build_lenses([request], [built], WorkerPool(config.workers, cluster))
    assert "resuming the recording: 8 of 64 trajectories are left" in caplog.text
    assert "recorded 8 of 8" in caplog.text
    one, other = Lens.load(built), Lens.load(lens_directory)
    assert one.name == other.name
    assert not recording.exists()


def test_a_recording_in_an_object_store_is_recorded_built_and_deleted(s3, config, cluster):
    request = DissectionRequest.of(config)
    place = place_of(f"s3://{BUCKET}/recorded/lenses/lens")
    build_lenses([request], [place], WorkerPool(config.workers, cluster))
    assert s3.asked("PUT")[-1].path.endswith("/lens.json")
    assert not [key for key in s3.keys("recorded/lenses") if "recording-" in key]
    with folder_on_disk(place) as directory:
        assert Lens.load(directory).hookpoint == "mid_block"


def test_an_audit_dissects_and_steers(config, cluster, lens_directory):
    outcome = run_audit(config)
    assert {row.arm for row in outcome.result.overall} == {"baseline", "difflens-gender"}
    assert outcome.result.lens["name"] == lens_directory.name
    features = outcome.result.lens["features"]
    assert {feature["attribute"] for feature in features} == {"gender"}
    assert set(features[0]["by_prompt"]) == {"doctor", "nurse"}
    assert outcome.report.stat().st_size > 10_000


def test_features_are_measured_when_a_lens_is_made_and_again_for_an_older_one(
    lens_directory, config, cluster, tmp_path
):
    made = honesty_in(lens_directory)
    older = tmp_path / lens_directory.name
    shutil.copytree(lens_directory, older)
    (older / HONESTY_FILE).unlink()
    ensure_honesty(DissectionRequest.of(config), older, WorkerPool(config.workers, cluster))
    again = honesty_in(older)
    assert [group.group for group in again.groups] == ["female", "male"]
    assert [group.images for group in again.groups] == [group.images for group in made.groups]
    assert "| gender |" in (older / "card.md").read_text().split("## Features")[1]
    assert (older / "lens.json").read_bytes() == (lens_directory / "lens.json").read_bytes()
    written = (older / HONESTY_FILE).stat().st_mtime_ns
    ensure_honesty(DissectionRequest.of(config), older, WorkerPool(config.workers, cluster))
    assert (older / HONESTY_FILE).stat().st_mtime_ns == written


def test_features_of_a_lens_that_the_config_would_not_make_are_not_measured(lens_directory, config, cluster, tmp_path):
    older = tmp_path / "lens"
    shutil.copytree(lens_directory, older)
    (older / HONESTY_FILE).unlink()
    other = config.model_copy(update={"sampling": config.sampling.model_copy(update={"guidance": 1.0})})
    with pytest.raises(LensMismatch, match="use that config"):
        ensure_honesty(DissectionRequest.of(other), older, WorkerPool(config.workers, cluster))


def test_the_lens_that_ships_with_the_model_has_figures_of_its_features():
    shipped = read_config(Path(__file__).parents[4] / "configs" / "occupations.yaml")
    found, lens = honesty_in(find_lens(shipped)), Lens.load(find_lens(shipped))
    for group in found.groups:
        own = lens.features[group.attribute][group.group]
        assert [feature.latent for feature in group.features] == [feature.latent for feature in own]
