"""Counterfactual arms in a report: their tables, their place in audit.json, and never the arm of the headline."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from audit.records.arms.counterfactuals import NamedArm
from audit.records.attributes import Attribute
from audit.records.work import BASELINE
from audit.results.arms.counterfactuals import counterfactual_pairs
from reports.export.audit_json import from_json, to_json
from reports.figures.arms.counterfactuals import counterfactual_tables
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.lookups import edited_arm
from reports.index.story import story_of
from tests.reports.conftest import ARM, GROUPS, arm_of

ATTRIBUTES = tuple(Attribute(name, groups) for name, groups in GROUPS.items())
SCHEMA = Path(__file__).parents[4] / "reports" / "schemas" / "audit.schema.json"


@pytest.fixture(scope="module")
def asked(result):
    """The sample result, its two arms taken as arms whose prompts name a group."""
    rng = np.random.default_rng(3)
    arms = {arm: arm_of(rng, arm) for arm in (BASELINE, ARM)}
    named = (NamedArm(BASELINE, "gender", "female"), NamedArm(ARM, "gender", "male"))
    return replace(result, counterfactuals=counterfactual_pairs(arms, named, ATTRIBUTES, {}))


def test_the_file_holds_the_pairs_and_is_read_back_whole(asked):
    data = json.loads(json.dumps(to_json(asked)))
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(data)
    assert json.loads(json.dumps(to_json(from_json(data)))) == data
    assert data["counterfactuals"][0]["arms"] == [BASELINE, ARM]


def test_tables_name_each_arm_once_and_every_group_of_the_other_attributes(asked):
    shown, differences = counterfactual_tables(story_of(asked))
    assert [row[0] for row in shown.rows] == [BASELINE, ARM]
    others = [attribute for attribute in ATTRIBUTES if attribute.name != "gender"]
    assert len(differences.rows) == sum(len(attribute.groups) for attribute in others) + 1
    assert {row[0] for row in differences.rows} == {"male minus female"}


def test_an_arm_that_asks_what_a_word_changes_is_not_the_arm_of_the_headline(asked, result):
    assert edited_arm(story_of(result), "gender") == ARM
    assert edited_arm(story_of(asked), "gender") is None


def test_the_section_is_there_only_with_such_arms(asked, result):
    title = "Prompts that differ in one word"
    assert title in render(asked, Pictures({}, {}))
    assert title not in render(result, Pictures({}, {}))
