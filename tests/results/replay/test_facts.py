"""Two runs differ in exactly the facts that were changed; what an older run does not record is said."""

import copy

import pytest

from audit.results.replay.facts import Origin, changed_facts

HASH, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
CONFIG = {"seed": 0, "model": {"source": "tiny"}, "workers": {"threads": 1}, "judge": {"source": "net.safetensors"}}
PROVENANCE = {
    "model_fingerprint": HASH,
    "model_parts": {"unet": HASH, "vae": HASH},
    "files": {"judge.source": HASH, "bundled judge": HASH},
    "instruments": {"judge": "judge:a", "clip": ""},
    "versions": {"torch": "2.10.0", "difflens-audit": "0.1.0+3f2a"},
    "python": "3.12.1",
    "platform": "Linux-6",
    "cpu": "Old CPU",
    "devices": ["cpu"],
    "git_revision": "1" * 40,
    "code": HASH,
    "compute": {"workers 1": {"device": "cpu", "processor": "Old CPU", "instructions": "AVX2"}},
    "sampling": {"scheduler": "DDIMScheduler"},
    "prepared": {"lens": {"name": "lens-1", "content": HASH}, "fits": {"mean": {"name": "fit-1", "content": HASH}}},
}


def words(config=None, provenance=None, was=None):
    facts = changed_facts(Origin(CONFIG, was or PROVENANCE), Origin(config or CONFIG, provenance or PROVENANCE))
    return [fact.words for fact in facts.changed]


def put(data, path, value):
    changed = copy.deepcopy(data)
    place = changed
    *steps, last = path
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return changed


def test_nothing_differs_between_a_run_and_itself():
    facts = changed_facts(Origin(CONFIG, PROVENANCE), Origin(CONFIG, PROVENANCE))
    assert (facts.changed, facts.not_recorded) == ((), ())


@pytest.mark.parametrize(
    ("path", "value", "expected", "kind"),
    [
        (["model_parts", "unet"], OTHER, f"unet of the model: sha256 {'b' * 12} was {'a' * 12}", "input"),
        (["model_parts", "vae"], None, f"vae of the model: sha256 nothing was {'a' * 12}", "input"),
        (["model_fingerprint"], OTHER, f"model: sha256 {'b' * 12} was {'a' * 12}", "input"),
        (["files", "judge.source"], OTHER, f"file of judge.source: sha256 {'b' * 12} was {'a' * 12}", "input"),
        (["files", "bundled judge"], OTHER, f"bundled judge: sha256 {'b' * 12} was {'a' * 12}", "input"),
        (["instruments", "judge"], "judge:b", "signature of judge judge:b was judge:a", "input"),
        (["versions", "torch"], "2.11.0", "torch 2.11.0 was 2.10.0", "surroundings"),
        (["python"], "3.13.0", "Python 3.13.0 was 3.12.1", "surroundings"),
        (["git_revision"], "2" * 40, f"git revision {'2' * 40} was {'1' * 40}", "surroundings"),
        (["code"], OTHER, f"code of the package audit: sha256 {'b' * 12} was {'a' * 12}", "surroundings"),
        (["compute", "workers 1", "instructions"], "AVX512", "vector instructions AVX512 was AVX2", "surroundings"),
        (["compute", "workers 1", "cuda"], "13.0", "CUDA 13.0 was nothing", "surroundings"),
        (["sampling", "scheduler"], "PNDM", "sampling: scheduler PNDM was DDIMScheduler", "made"),
        (["prepared", "lens", "content"], OTHER, f"content of the lens: sha256 {'b' * 12} was {'a' * 12}", "made"),
        (["prepared", "fits", "mean", "name"], "fit-2", "name of the fit of mean fit-2 was fit-1", "made"),
    ],
)
def test_one_changed_fact_is_named_and_no_other(path, value, expected, kind):
    facts = changed_facts(Origin(CONFIG, PROVENANCE), Origin(CONFIG, put(PROVENANCE, path, value)))
    assert [(fact.words, fact.kind) for fact in facts.changed] == [(expected, kind)]


def test_settings_are_named_by_their_key_and_sections_without_effect_are_not():
    assert words(config=CONFIG | {"seed": 1}) == ["seed 1 was 0"]
    assert words(config=CONFIG | {"workers": {"threads": 2, "count": 9}}) == ["threads per worker 2 was 1"]
    assert words(config=CONFIG | {"output": "/elsewhere", "tracking": {"enabled": False}}) == []


def test_another_path_to_the_same_content_is_only_another_place():
    moved = CONFIG | {"model": {"source": "/copy"}, "judge": {"source": "/copy.safetensors"}}
    facts = changed_facts(Origin(CONFIG, PROVENANCE), Origin(moved, PROVENANCE))
    assert {fact.name: fact.kind for fact in facts.changed} == {"model.source": "place", "judge.source": "place"}
    other = put(PROVENANCE, ["model_parts", "unet"], OTHER)
    facts = changed_facts(Origin(CONFIG, PROVENANCE), Origin(moved, other))
    assert {fact.name: fact.kind for fact in facts.changed} == {
        "model.source": "input", "unet of the model": "input", "judge.source": "place",
    }  # fmt: skip


def test_what_an_older_run_does_not_record_is_said_and_is_no_difference():
    old = {name: value for name, value in PROVENANCE.items() if name in ("model_fingerprint", "python", "cpu")}
    facts = changed_facts(Origin(CONFIG, old | {"versions": {"torch": "2.10.0"}}), Origin(CONFIG, PROVENANCE))
    assert facts.changed == ()
    assert {"parts of the model", "hardware of the workers", "difflens-audit", "code of the package audit"} <= set(
        facts.not_recorded
    )
    assert words(was=old, provenance=PROVENANCE | {"cpu": "New CPU"}) == ["processor New CPU was Old CPU"]


def test_what_the_replay_does_not_know_yet_is_left_out():
    before = {name: PROVENANCE[name] for name in PROVENANCE if name not in ("compute", "sampling", "prepared")}
    facts = changed_facts(Origin(CONFIG, PROVENANCE), Origin(CONFIG, before))
    assert (facts.changed, facts.not_recorded) == ((), ())


def test_a_hash_of_the_code_in_a_version_is_no_other_version():
    assert words(provenance=put(PROVENANCE, ["versions", "difflens-audit"], "0.1.0")) == []
    assert words(provenance=put(PROVENANCE, ["versions", "difflens-audit"], "0.2.0")) == [
        "difflens-audit 0.2.0 was 0.1.0"
    ]
