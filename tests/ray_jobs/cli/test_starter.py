"""Tests the starter config: valid for all answers, with comments, and quoted where YAML needs it."""

import re
from itertools import product

import pytest
import yaml

from audit.config.fields import DEFAULT_ATTRIBUTES, UNCONDITIONAL
from audit.config.file import read_config
from audit.perception.judges.kinds.fairface import FAIRFACE
from audit.preflight.readiness import check_ready
from ray_jobs.cli.starter.text import OCCUPATIONS, Starter, scalar, starter_text

FACES = {race: layout.answers for race, layout in FAIRFACE.items()}
AWKWARD = [
    "no",
    "NULL",
    "a: b",
    "# chef",
    "12",
    "1e3",
    "Ärztin",
    "it's",
    'say "hi"',
    "a, b",
    "[x]",
    "- x",
    "C:\\models",
    "é 😀",
]


def written(tmp_path, starter):
    path = tmp_path / "audit.yaml"
    path.write_text(starter_text(starter), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "judge", "races", "occupations"),
    [
        *product(("calibration", "rendered"), ("bundled",), (None,), ((), ("doctor", "nurse"))),
        *product(("./my model", "owner/name"), ("fair face.pt",), (None, 4, 7), ((), ("police officer",))),
    ],
)
def test_every_combination_of_answers_is_a_valid_config_with_comments(tmp_path, model, judge, races, occupations):
    attributes = FACES[races or 7] if judge != "bundled" else DEFAULT_ATTRIBUTES
    starter = Starter("first", model, judge, races, occupations, attributes)
    config = read_config(written(tmp_path, starter))
    assert (config.name, config.model.source, config.judge.source, config.judge.races) == ("first", model, judge, races)
    assert config.attributes == dict(attributes)
    named = occupations or ("all" if judge == "bundled" else OCCUPATIONS)
    assert config.prompts.occupations == named
    text = starter_text(starter)
    for section in ("model", "prompts", "sampling", "judge", "attributes", "quality", "output"):
        block = re.search(rf"^{section}:.*\n(?:  .*\n)*", text, re.MULTILINE)
        assert " # " in block[0], f"{section} is not explained"


def test_a_model_without_prompts_gets_a_config_that_is_ready_even_with_its_comments_removed(tmp_path):
    text = starter_text(Starter("first", UNCONDITIONAL, reads_text=False))
    path = tmp_path / "audit.yaml"
    path.write_text(re.sub(r"(?m)^# (?=(mitigations|gates|  - ))", "", text), encoding="utf-8")
    config = read_config(path, checks=[check_ready])
    assert (config.prompts.occupations, config.sampling.guidance) == ("none", 1.0)
    assert config.gates[0].prompt == "no-prompt"
    assert config.mitigations


@pytest.mark.parametrize("model", ["calibration", "rendered", "owner/name"])
def test_what_is_commented_out_is_valid_too(tmp_path, model):
    judge = "bundled" if model != "owner/name" else "fairface.pt"
    text = starter_text(Starter("first", model, judge))
    opened = re.sub(r"^# (?=mitigations:|gates:|  - )", "", text, flags=re.MULTILINE)
    path = tmp_path / "audit.yaml"
    path.write_text(opened)
    config = read_config(path)
    assert len(config.gates) == 2
    assert len(config.mitigations) == (0 if model == "rendered" else 1)


@pytest.mark.parametrize("word", AWKWARD)
def test_an_awkward_name_is_quoted_and_comes_back_as_it_was(tmp_path, word):
    assert scalar(word).startswith('"')
    assert yaml.safe_load(scalar(word)) == word
    config = read_config(written(tmp_path, Starter("first", "./" + word, word, None, (word, "doctor"))))
    assert config.prompts.occupations == (word, "doctor")
    assert (config.model.source, config.judge.source) == ("./" + word, word)


def test_plain_words_stay_plain():
    assert [scalar(word) for word in ("doctor", "police officer", "owner-name")] == [
        "doctor",
        "police officer",
        "owner-name",
    ]
