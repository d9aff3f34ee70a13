"""Open sets and stress from the config to the result, with the tasks done one after another in this process."""

import base64
from dataclasses import replace

import pytest

from audit.analyses.analysis import Instruments
from audit.analyses.registry import ANALYSES
from audit.config.sections import ModelConfig, QualityConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.models.generator import load_generator
from audit.perception.judges.registry import load_judge
from audit.planning.plan import prompts_of_model
from audit.records.inside.open_set import Rare
from audit.records.inside.stress import Condition
from audit.records.work import Prompt
from audit.results.open_set.vocabulary import Word
from ray_jobs.run.inside import open_set, stress
from ray_jobs.run.inside.explore import ExploreRequest
from reports.exploration.open_set import word_lead

CONFIG = {
    "name": "trial",
    "prompts": {"occupations": ["doctor", "nurse", "pilot"]},
    "sampling": {"steps": 2, "batch": 8},
    "attributes": {"gender": ["female", "male"]},
    "explore": {
        "modifiers": ["old"],
        "open_set": {"images": 24, "lists": ["winobias"], "checked_words": 1, "word_images": 8},
        "stress": {
            "images": 4,
            "guidance": [1],
            "phrasings": ["a photo of {a} {occupation}"],
        },
    },
}


def asked(**explore):
    config = AuditConfig.model_validate(CONFIG | {"explore": CONFIG["explore"] | explore})
    prompts = prompts_of_model(config.model, config.prompts)
    return ExploreRequest("trial", config.explore, DissectionRequest.of(config), prompts, config.seed, config.quality)


@pytest.fixture
def serial(monkeypatch):
    """Do the tasks here; the list holds what was asked for."""
    calls = []

    def run(settings, _output, _pool):
        calls.append(settings)
        network = settings.network
        generator = load_generator(network.model, network.sampling, network.hookpoint)
        judge = load_judge(settings.judge, network.model, settings.attributes)
        analysis = ANALYSES[settings.name]
        tasks = analysis.tasks(settings.request)
        parts = [analysis.part(Instruments(generator, judge), settings.request, task) for task in tasks]
        return analysis.combine(settings.request, parts)

    monkeypatch.setattr(open_set, "run_analysis", run)
    monkeypatch.setattr(stress, "run_analysis", run)
    return calls


def test_every_picture_that_is_shown_is_kept(serial, monkeypatch):
    one = Rare("doctor", 1.0, 0.1, 0.1, 1.2, ("doctor/3", "doctor/11"))
    monkeypatch.setattr(open_set, "rare_features", lambda *_: (one,))
    found = open_set.find_open_set(asked().open_set, "", None)
    assert (found.images, found.embedder) == (24, "features")
    assert found.words + found.cut_words == 40  # the bundled CLIP reads 20 tokens
    assert found.cut_words > 0
    assert set(found.pictures) == set(found.shown) >= {"doctor/3", "doctor/11"}
    assert base64.b64decode(found.pictures["doctor/3"])[:4] == b"RIFF"
    assert [call.name for call in serial][:2] == ["pictures", "texts"]
    assert serial[0].request.clip


def test_without_images_nothing_is_sampled(serial):
    request = asked(open_set={}, stress={})
    assert open_set.find_open_set(request.open_set, "", None) is None
    assert stress.find_stress(request.stress, "", None) is None
    assert serial == []
    assert request.open_set.problem is None


def test_conditions_are_sampled_once_each_in_two_halves(serial):
    found = stress.find_stress(asked().stress, "", None)
    assert found.conditions == (
        Condition("plain", ""),
        Condition("descriptor", "old"),
        Condition("phrasing", "a photo of {a} {occupation}"),
        Condition("guidance", "1"),
    )
    assert len(serial) == 4  # two samplers, two halves
    assert serial[0].request.seed != serial[2].request.seed
    assert serial[1].network.sampling.guidance == 1
    assert {prompt.text for prompt in serial[0].request.prompts} >= {"a face photo of an old doctor"}
    assert len(found.shifts) == 9


@pytest.mark.parametrize("changes", [{"embedder": "clip"}, {"embedder": "features", "lists": []}])
def test_the_asked_network_embeds(serial, changes):
    section = CONFIG["explore"]["open_set"] | changes
    found = open_set.find_open_set(asked(open_set=section).open_set, "", None)
    assert found.embedder == changes["embedder"]
    assert (found.words == 0) == ("lists" in changes)


def test_words_that_are_all_too_long_are_left_out(serial, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("poor " * 80 + "\n")
    section = CONFIG["explore"]["open_set"] | {"images": 16, "lists": [], "vocabulary": str(own)}
    found = open_set.find_open_set(asked(open_set=section).open_set, "", None)
    assert (found.words, found.cut_words, found.word_findings) == (0, 1, ())
    assert "would cut the texts of all 1 words" in word_lead(found)


@pytest.mark.parametrize(
    ("text", "word", "says"),
    [
        ("a photo of a captain", "cap", False),
        ("a photo of nurses", "nurse", True),
        ("A photo of a CAP", "cap", True),
        ("a photo of a C++ user", "c++", True),
    ],
)
def test_a_prompt_says_a_word_only_as_a_word(text, word, says):
    assert open_set._says(Prompt("p", text, "p"), Word(word, "own")) == says


def test_another_list_of_words_or_other_weights_are_another_result(tmp_path):
    own = tmp_path / "own.txt"
    section = CONFIG["explore"]["open_set"] | {"vocabulary": str(own)}
    own.write_text("poor\n")
    first = asked(open_set=section).as_data()
    own.write_text("rich\n")
    assert asked(open_set=section).as_data() != first
    weights = tmp_path / "dino.pth"
    weights.write_bytes(b"1")
    name = open_set.networks_name(QualityConfig(dino=str(weights)), ModelConfig())
    weights.write_bytes(b"2")
    assert open_set.networks_name(QualityConfig(dino=str(weights)), ModelConfig()) != name


@pytest.mark.parametrize(("embedder", "key"), [("features", "quality.features"), ("clip", "quality.clip")])
def test_the_remedy_names_the_network_that_is_asked_for(embedder, key):
    request = replace(asked().open_set, quality=QualityConfig(features="none", clip="none"))
    request = replace(request, section=request.section.model_copy(update={"embedder": embedder}))
    assert f"found {key}: none; name one under {key}, or" in request.problem


def test_conditions_are_named_exactly():
    request = asked(modifiers=["old"], stress={"images": 4, "guidance": [7.1234567, 7.1234568, 5]}).stress
    names = [one.name for one in request.conditions]
    assert names == ["", "old", "7.1234567", "7.1234568", "5"]
