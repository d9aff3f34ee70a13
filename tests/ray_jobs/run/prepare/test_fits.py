"""Methods are fitted on the workers before the first shard, once for all audits, and continue where they stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.mitigate.edits.mean_difference import COUNT, key_of
from audit.mitigate.training import StoredCheckpoint
from audit.mitigate.weights.uce import SHARES
from audit.planning.fits import (
    CARD_FILE,
    FIT_FILE,
    FITS,
    TENSORS_FILE,
    TRAINING_FILE,
    fit_name,
    fit_requests,
    fit_settings,
)
from audit.planning.plan import prompts_of
from audit.storage.run_directory import RunDirectory
from ray_jobs.cli.failures import code_of
from ray_jobs.run import parts
from ray_jobs.run.audit import run_audit
from ray_jobs.run.exit_codes import ExitCode
from ray_jobs.run.parts import PreparationError, TaskActor, WorkerPool
from ray_jobs.run.prepare import fits
from ray_jobs.run.prepare.fits import (
    FitError,
    FitSettings,
    FitTask,
    FitWorker,
    Join,
    JoinWorker,
    ensure_fits,
    part_files,
    parts_folder,
    used_by,
)

MEANS = {"name": "means", "method": "mean_difference", "attribute": "gender", "images_per_group": 2}
WORDS = {"name": "words", "method": "prompt", "attribute": "gender"}


def config(output, **more):
    plain = {
        "name": "methods", "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 4},
        "sampling": {"steps": 4, "batch": 4}, "mitigations": [WORDS, MEANS], "second_opinions": [],
        "tracking": {"enabled": False}, "workers": {"count": 1}, "output": str(output),
    }  # fmt: skip
    return AuditConfig(**(plain | more))


@pytest.fixture(autouse=True)
def back_here(monkeypatch):
    """A worker in this process changes to the directory of its driver; tests behind it read files from here."""
    monkeypatch.chdir(Path.cwd())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, cluster):
    audit = config(tmp_path_factory.mktemp("methods") / "runs")
    return audit, run_audit(audit)


def place_of_fit(outcome):
    [place] = (outcome.run_path.parent / FITS).iterdir()
    return place


def test_an_audit_of_a_control_and_a_fitted_method_needs_no_lens(fitted):
    _, outcome = fitted
    assert outcome.complete
    assert [row.arm for row in outcome.result.overall if row.attribute == "gender"] == ["baseline", "words", "means"]
    assert not outcome.result.lens
    run = RunDirectory(outcome.run_path)
    rows = [row for shard in run.finished() for row in run.read_shard(shard).to_pylist()]
    assigned = {row["arm"]: set() for row in rows}
    for row in rows:
        assigned[row["arm"]].add(row["assigned"])
    assert assigned == {"baseline": {None}, "words": {"female", "male"}, "means": {"female", "male"}}


def test_a_finished_fit_has_a_card_and_no_parts(fitted):
    place = place_of_fit(fitted[1])
    directions = load_file(place / TENSORS_FILE)
    assert set(directions) == {key_of("mid_block", group) for group in ("female", "male")}
    assert all(len(tensor) == 4 and tensor.isfinite().all() for tensor in directions.values())
    assert json.loads((place / FIT_FILE).read_text())["settings"]["images_per_group"] == 2
    assert "mean_difference" in (place / CARD_FILE).read_text()
    assert {path.name for path in place.iterdir()} == {TENSORS_FILE, FIT_FILE, CARD_FILE}


def fit_of(audit, prompts, pool):
    return ensure_fits(MeasurementRequest.of(audit), audit.output, prompts, pool)


def settings_of(audit, place):
    measured = MeasurementRequest.of(audit)
    [request] = fit_requests(measured)
    return FitSettings(request, measured, str(place))


def test_another_audit_of_the_model_takes_the_fit_that_is_there(fitted):
    audit, outcome = fitted
    stronger = audit.model_copy(update={"mitigations": (audit.mitigations[1].model_copy(update={"strength": 2.0}),)})
    no_pool = None  # no step is left to do
    assert fit_of(stronger, prompts_of(audit.prompts, ()), no_pool) == {"means": place_of_fit(outcome)}


def test_fitting_continues_with_the_parts_that_are_missing(tmp_path, monkeypatch):
    audit = config(tmp_path)
    prompts, done = prompts_of(audit.prompts, ()), []

    def in_this_process(worker, settings, tasks, _pool, files=None):
        actor = TaskActor(worker, settings, torch.get_num_threads(), str(tmp_path), files)
        for task in tasks:
            done.append(task.id)
            yield task, actor.do(task)

    monkeypatch.setattr(parts, "results_of", in_this_process)
    monkeypatch.setattr(fits, "results_of", in_this_process)
    [place] = fit_of(audit, prompts, None).values()
    whole = load_file(place / TENSORS_FILE)
    (place / FIT_FILE).unlink()  # as if the driver had ended before
    settings = settings_of(audit, place)
    part_files(settings, 0).write(prompts[0], FitWorker(settings).do(FitTask(prompts[0], 0)))
    done.clear()
    fit_of(audit, prompts, None)
    assert done == ["nurse", "join"]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(place / TENSORS_FILE).items())


UCE = {
    "name": "uce", "method": "uce", "attribute": "gender", "images_per_prompt": 4, "rounds": 3, "tolerance": 0.0,
    "target": {"female": 0.3, "male": 0.7},
}  # fmt: skip


def test_a_fit_in_rounds_continues_in_the_round_that_is_missing(tmp_path, monkeypatch):
    audit = config(tmp_path, mitigations=[UCE])
    prompts, done, limit = prompts_of(audit.prompts, ()), [], []

    def in_this_process(worker, settings, tasks, _pool, files=None):
        actor = TaskActor(worker, settings, torch.get_num_threads(), str(tmp_path), files)
        for task in tasks:
            if len(done) in limit:
                raise KeyboardInterrupt
            done.append((task.round_number, task.id))
            yield task, actor.do(task)

    monkeypatch.setattr(parts, "results_of", in_this_process)
    monkeypatch.setattr(fits, "results_of", in_this_process)
    [place] = fit_of(audit, prompts, None).values()
    rounds = [(number, step) for number in range(3) for step in ("doctor", "nurse", "join")]
    assert done == rounds
    whole = load_file(place / TENSORS_FILE)
    assert whole[SHARES].shape == (3, 2, 2)
    assert {path.name for path in place.iterdir() if path.is_file()} == {TENSORS_FILE, FIT_FILE, CARD_FILE}
    assert json.loads((place / FIT_FILE).read_text())["settings"]["judge"].startswith("bundled")
    for path in place.iterdir():
        path.unlink()
    done.clear()
    limit.append(4)  # the driver ends after the first prompt of the second round
    with pytest.raises(KeyboardInterrupt):
        fit_of(audit, prompts, None)
    limit.clear()
    fit_of(audit, prompts, None)
    assert done == [*rounds[:4], (0, "join"), *rounds[4:]]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(place / TENSORS_FILE).items())


def test_another_judge_makes_another_fit(tmp_path):
    audit = config(tmp_path, mitigations=[UCE])
    [request] = fit_requests(MeasurementRequest.of(audit))
    names = {fit_name("m", fit_settings(request, (), {"judge": judge})) for judge in ("one", "other")}
    assert len(names) == 2


def test_a_training_is_stored_with_its_cost_and_resumes_from_its_checkpoint(tmp_path, monkeypatch):
    trained = {
        "name": "vectors", "method": "latent_direction", "attribute": "gender", "images_per_group": 1, "steps": 60,
        "batch": 1,
    }  # fmt: skip
    audit, seen = config(tmp_path, mitigations=[trained]), []
    prompts, stop = prompts_of(audit.prompts, ()), [True]

    def in_this_process(worker, settings, tasks, _pool, files=None):
        actor = TaskActor(worker, settings, torch.get_num_threads(), str(tmp_path), files)
        for task in tasks:
            seen.append(task.id)
            yield task, actor.do(task)

    def counted(self, state):
        write(self, state)
        if stop.pop() if stop else False:
            raise PreparationError("the node was lost")

    write = StoredCheckpoint.write
    monkeypatch.setattr(parts, "results_of", in_this_process)
    monkeypatch.setattr(fits, "results_of", in_this_process)
    monkeypatch.setattr(fits, "threads_of_a_whole_node", lambda *_: 1)
    monkeypatch.setattr(StoredCheckpoint, "write", counted)
    pool = WorkerPool(audit.workers, None)
    with pytest.raises(FitError, match="fitting the method of vectors: the node was lost"):
        fit_of(audit, prompts, pool)
    [left] = (tmp_path / FITS).iterdir()
    assert (left / TRAINING_FILE).exists()
    assert not (left / FIT_FILE).exists()
    assert seen == ["doctor", "nurse", "join"]
    [place] = fit_of(audit, prompts, pool).values()
    assert seen[3:] == ["join"]
    assert place == left
    assert {file.name for file in place.iterdir()} == {FIT_FILE, TENSORS_FILE, CARD_FILE}
    card = json.loads((place / FIT_FILE).read_text())
    assert (card["cost"]["images"], card["cost"]["training_steps"]) == (4, 60)
    assert set(card["report"]) == {"first_loss", "last_loss"}
    assert "| training_steps | 60 |" in (place / CARD_FILE).read_text()


def test_a_training_with_clip_is_named_by_its_weights(tmp_path):
    editing = {"name": "editing", "method": "latent_editing", "attribute": "gender"}
    measured = MeasurementRequest.of(config(tmp_path, mitigations=[editing]))
    [request] = fit_requests(measured)
    assert dict(used_by(measured, request, None))["clip"].startswith("bundled:")
    [means] = config(tmp_path, mitigations=[MEANS]).mitigations
    assert not dict(used_by(measured, replace(request, mitigation=means), None))


def test_precision_and_confidence_name_a_fit_unless_they_are_the_defaults(tmp_path):
    measured = MeasurementRequest.of(config(tmp_path, mitigations=[UCE, MEANS]))
    uce, means = fit_requests(measured)
    plain = dict(used_by(measured, uce, None))
    assert set(plain) == {"judge"}

    def added(request, model=None, judge=None):
        own = replace(
            measured,
            model=measured.model.model_copy(update=model or {}),
            judge=measured.judge.model_copy(update=judge or {}),
        )
        return {key: value for key, value in used_by(own, request, None) if key != "judge"}

    assert added(uce, {"dtype": "bfloat16", "compile": True}) == {"dtype": "bfloat16", "compile": "True"}
    assert added(uce, judge={"min_confidence": 0.8, "races": 4}) == {"min_confidence": "0.8", "races": "4"}
    assert added(means, {"dtype": "float16"}, {"min_confidence": 0.8}) == {"dtype": "float16"}


def test_an_audit_trains_attention_with_the_segmenter_on_its_workers(tmp_path, cluster):
    efa = {
        "name": "efa", "method": "entanglement_free_attention", "attribute": "gender", "images_per_group": 1,
        "steps": 3, "batch": 2, "layers": ["mid_block"],
    }  # fmt: skip
    audit = config(tmp_path / "runs", mitigations=[efa], quality={"outside": {}})
    outcome = run_audit(audit)
    assert outcome.complete
    place = place_of_fit(outcome)
    attention = "mid_block.attentions.0.transformer_blocks.0.attn2"
    tensors = load_file(place / TENSORS_FILE)
    assert tensors[f"layout/{attention}"].tolist()[1:] == [4, 4]
    assert len(tensors[f"values/{attention}"]) == 2
    found = json.loads((place / FIT_FILE).read_text())
    assert found["settings"]["outside"].startswith("outside:face+hair|by:bundled:")
    assert found["cost"]["training_steps"] == 3
    assert 0 < found["report"]["attention_outside_mask"] < found["report"]["attention_present"] < 1
    run = RunDirectory(outcome.run_path)
    rows = [row for shard in run.finished() for row in run.read_shard(shard).to_pylist() if row["arm"] == "efa"]
    assert sorted(row["assigned"] for row in rows) == ["female"] * 4 + ["male"] * 4


def test_other_parts_that_may_change_make_another_fit(tmp_path):
    efa = {"name": "efa", "method": "entanglement_free_attention", "attribute": "gender"}

    def used(**outside):
        measured = MeasurementRequest.of(config(tmp_path, mitigations=[efa], quality={"outside": outside}))
        [request] = fit_requests(measured)
        return dict(used_by(measured, request, None))

    assert used()["outside"].startswith("outside:face+hair|by:bundled:")
    assert used(hidden=["face"]) != used()
    assert set(used()) == {"outside"}


def test_a_training_without_a_term_of_clip_or_dino_is_not_named_by_them(tmp_path):
    def used(**weights):
        section = {"name": "m", "method": "finetuning", "attribute": "gender", **weights}
        measured = MeasurementRequest.of(config(tmp_path, mitigations=[section]))
        (tmp_path / "dino.safetensors").write_bytes(b"weights")
        quality = measured.quality.model_copy(update={"dino": str(tmp_path / "dino.safetensors")})
        [request] = fit_requests(measured)
        return set(dict(used_by(replace(measured, quality=quality), request, None)))

    assert used() == {"clip", "dino", "judge"}
    assert used(clip_weight=0) == {"dino", "judge"}
    assert used(dino_weight=0) == {"clip", "judge"}


def test_maps_that_are_not_finite_end_the_audit_with_one_message(tmp_path):
    folder = tmp_path / parts_folder(0)
    folder.mkdir()
    sums = {key_of("mid_block", group): torch.full((4, 1, 1, 1), float("nan")).double() for group in ("female", "male")}
    save_file(sums | {COUNT: torch.tensor(2.0).double()}, folder / "doctor.safetensors")
    with pytest.raises(ValueError, match="expected finite maps, found NaN"):
        JoinWorker(settings_of(config(tmp_path), tmp_path)).do(Join())


def test_a_hookpoint_that_is_not_there_is_a_fault_of_the_config(tmp_path, cluster):
    audit = config(tmp_path, mitigations=[MEANS | {"hookpoints": ["mid_block.nowhere"]}])
    with pytest.raises(
        FitError, match=r"fitting the method of means: step .*mid_block.nowhere.* is not a module"
    ) as refused:
        run_audit(audit)
    assert code_of(refused.value) == ExitCode.USAGE
