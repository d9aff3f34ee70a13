"""A search finds a strength for each prompt and group of a fitted edit, once for a run, and the shards use it."""

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.dissect.strengths import GroupStrength, Tried, choose_strength
from audit.planning.plan import prompts_of
from audit.results.run_strengths import SEARCHED, searched_of
from audit.storage.run_directory import RunDirectory
from ray_jobs.run.audit import run_audit
from ray_jobs.run.prepare import searches
from ray_jobs.run.prepare.searches import SEARCHES, search_strengths
from ray_jobs.run.prepare.strengths import StrengthAnswer
from reports.export.audit_json import read_audit_json
from reports.figures.steering import searched_tables, steering_notes
from reports.index.story import story_of

BUDGET = 1.0
MEANS = {
    "name": "means", "method": "mean_difference", "attribute": "gender", "images_per_group": 2, "strength": "search",
    "trial_images": 4, "side_effect_budget": BUDGET,
}  # fmt: skip


def config(output, *mitigations):
    return AuditConfig(**{
        "name": "searched", "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 8},
        "sampling": {"steps": 8, "batch": 8}, "mitigations": list(mitigations) or [MEANS], "second_opinions": [],
        "tracking": {"enabled": False}, "workers": {"count": 1}, "output": str(output),
    })  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, cluster):
    return run_audit(config(tmp_path_factory.mktemp("searched") / "runs"))


def test_every_prompt_and_group_has_a_strength_that_was_drawn(outcome):
    found = searched_of(RunDirectory(outcome.run_path))["means"]
    assert found.keys() == {"doctor", "nurse"}
    for by_group in found.values():
        assert by_group.keys() == {"female", "male"}
        for strength in by_group.values():
            assert strength == choose_strength(strength.tried, BUDGET) or strength.strength == 0
            assert strength.drawn.strength == strength.strength
    assert not (outcome.run_path / SEARCHES).exists() or not list((outcome.run_path / SEARCHES).rglob("*.json"))


def test_images_are_edited_with_the_strengths_of_their_prompt(outcome):
    run = RunDirectory(outcome.run_path)
    found = searched_of(run)["means"]
    rows = [row for shard in run.finished() for row in run.read_shard(shard).to_pylist()]
    edited = [row for row in rows if row["arm"] == "means"]
    assert edited
    for row in edited:
        own = found[row["prompt_id"]][row["assigned"]].strength
        assert (row["clip_i"] > 0.99999) == (own == 0)


def test_the_report_reads_the_strengths_back(outcome):
    result = read_audit_json(RunDirectory(outcome.run_path))
    assert result.strengths == outcome.result.strengths != {}
    [table] = searched_tables(story_of(result))
    assert [row[0] for row in table.rows] == ["doctor", "nurse"]
    poor = [g for by_group in result.strengths["means"].values() for g in by_group.values() if g["control"] == "none"]
    assert bool(poor) == any("“means” does not control" in note for note in steering_notes(story_of(result)))


def test_a_search_that_was_interrupted_goes_on_with_the_next_edit(tmp_path, monkeypatch):
    audit = config(tmp_path / "runs", MEANS, MEANS | {"name": "again"})
    prompts, run = prompts_of(audit.prompts, ()), RunDirectory(tmp_path / "runs" / "searched-1")
    run.create({}, {})
    rungs = (Tried(0.0, 0.2, {}), Tried(0.5, 0.95, {}))
    asked = []

    def answers(tasks, _settings, _files, _pool):
        if asked and asked[0] != tasks[0].mitigation.name and len(asked) == 1:
            asked.append("died")
            raise RuntimeError("the machine was switched off")
        asked.append(tasks[0].mitigation.name)
        return {task.id: StrengthAnswer({}, {"female": rungs, "male": rungs}) for task in tasks}

    monkeypatch.setattr(searches, "answers_of", answers)
    request = MeasurementRequest.of(audit)
    with pytest.raises(RuntimeError):
        search_strengths(request, {}, run, prompts, None)
    search_strengths(request, {}, run, prompts, None)
    search_strengths(request, {}, run, prompts, None)
    assert asked == ["means", "died", "again"]
    expected = {"female": GroupStrength(0.5, "searched", rungs), "male": GroupStrength(0.5, "searched", rungs)}
    assert searched_of(run) == {name: {"doctor": expected, "nurse": expected} for name in ("means", "again")}
    assert run.has(SEARCHED)
