"""Strengths of an audit's own prompts: the lens's where it saw the prompt, else predicted or searched, and said so."""

import json
from dataclasses import replace

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.dissect.prediction import StrengthLine
from audit.dissect.settings import LENS_FORMAT, searched_attributes
from audit.dissect.strengths import GroupStrength, Tried, strengths_as_data
from audit.models.source import model_fingerprint
from audit.records.work import Prompt
from audit.results.lens_evidence import lens_evidence
from audit.results.run_strengths import steering_of
from audit.storage.run_directory import LENS, RunDirectory
from ray_jobs.run.prepare import steering
from ray_jobs.run.prepare.strengths import StrengthAnswer

DRAWN = (Tried(0.0, 0.2, {}), Tried(1.0, 0.95, {"age": 0.1}))
SEARCHED = GroupStrength(1.0, "searched", DRAWN)
GOOD = StrengthLine(1.0, -0.5, 2.0, error=0.2, error_of_mean=0.6, prompts=16)
POOR = replace(GOOD, error=0.6)
DOCTOR, STRANGER = (Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "stranger"))


@pytest.fixture
def config(tmp_path):
    return AuditConfig(name="a", mitigations=[{"name": "m", "attribute": "gender"}], output=str(tmp_path / "runs"))


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "runs" / "a")


def lens_with(directory, config, line, guidance=3.0):
    directory.mkdir()
    plain = {
        "format_version": LENS_FORMAT,
        "model_fingerprint": model_fingerprint(config.model),
        "groups": {"gender": ["female", "male"]},
        "settings": {"guidance": guidance, "prompts": [DOCTOR.text]},
        "strengths": strengths_as_data({"gender": {"doctor": {"female": SEARCHED, "male": SEARCHED}}}),
        "prediction": {"gender": {"female": line.as_data(), "male": line.as_data()}},
        "features": {},
    }
    (directory / "lens.json").write_text(json.dumps(plain))
    return directory


@pytest.fixture
def asked(monkeypatch):
    """What workers are asked: prompt and whether to search; each answers with what it was asked for."""
    tasks = []

    def answer(wanted, _settings, _files, _pool):
        tasks.extend((task.prompt.id, task.effort is not None) for task in wanted)
        drawn = {"female": DRAWN, "male": DRAWN}
        return {t.id: StrengthAnswer({"female": 1.0, "male": -1.0}, drawn if t.effort else {}) for t in wanted}

    monkeypatch.setattr(steering, "answers_of", answer)
    return tasks


def find_strengths(config, lens, run, prompts):
    attributes = searched_attributes(config.mitigations)
    steering.find_strengths(DissectionRequest.of(config), attributes, lens, run, prompts, None)


def strengths_of(run, prompt):
    return {group: (found.source, found.strength) for group, found in steering_of(run)["gender"][prompt].items()}


def test_an_unseen_prompt_is_predicted_and_a_seen_one_keeps_what_was_drawn_for_it(tmp_path, config, run, asked):
    find_strengths(config, lens_with(tmp_path / "lens", config, GOOD), run, (DOCTOR, STRANGER))
    assert asked == [("stranger", False)]
    assert steering_of(run)["gender"]["doctor"] == {"female": SEARCHED, "male": SEARCHED}
    assert strengths_of(run, "stranger") == {"female": ("predicted", 0.5), "male": ("predicted", 1.5)}


@pytest.mark.parametrize(("line", "unseen"), [(POOR, "predict"), (GOOD, "search")])
def test_what_cannot_or_must_not_be_predicted_is_searched(tmp_path, config, run, asked, line, unseen):
    config = config.model_copy(update={"lens": config.lens.model_copy(update={"unseen": unseen})})
    find_strengths(config, lens_with(tmp_path / "lens", config, line), run, (STRANGER,))
    assert asked == [("stranger", True)]
    assert strengths_of(run, "stranger") == {"female": ("searched", 1.0), "male": ("searched", 1.0)}


def test_the_same_occupation_in_another_sentence_is_another_prompt(tmp_path, config, run, asked):
    other = replace(DOCTOR, text="an oil painting of a doctor")
    find_strengths(config, lens_with(tmp_path / "lens", config, GOOD), run, (other,))
    assert asked == [("doctor", False)]


def test_at_another_guidance_nothing_that_the_lens_found_holds(tmp_path, config, run, asked):
    find_strengths(config, lens_with(tmp_path / "lens", config, GOOD, guidance=7.5), run, (DOCTOR,))
    assert asked == [("doctor", True)]


def test_a_run_that_goes_on_asks_nothing_again(tmp_path, config, run, asked):
    lens = lens_with(tmp_path / "lens", config, GOOD)
    find_strengths(config, lens, run, (STRANGER,))
    before = steering_of(run)
    find_strengths(config, lens, run, (STRANGER,))
    assert len(asked) == 1
    assert steering_of(run) == before


def test_an_edit_of_one_strength_for_all_asks_nothing(tmp_path, config, run, asked):
    fixed = [config.mitigations[0].model_copy(update={"strength": 1.0})]
    config = config.model_copy(update={"mitigations": tuple(fixed)})
    find_strengths(config, lens_with(tmp_path / "lens", config, GOOD), run, (STRANGER,))
    assert not asked
    assert not run.has(f"{LENS}/steering.json")


def test_the_evidence_says_which_was_used(tmp_path, config, run, asked):
    lens = lens_with(tmp_path / "lens", config, GOOD)
    find_strengths(config, lens, run, (DOCTOR, STRANGER))
    (tmp_path / "runs" / "a" / LENS / "lens.json").write_bytes((lens / "lens.json").read_bytes())
    told = lens_evidence(run.file(LENS)).card["steering"]["gender"]
    assert {prompt: found["female"]["source"] for prompt, found in told.items()} == {
        "doctor": "searched",
        "stranger": "predicted",
    }
