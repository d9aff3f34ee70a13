"""Tests that a gate has the same description in plain words in every output."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from audit.config.fields import GATE_MEASURES
from ray_jobs.cli.terminal import show_verdicts
from reports.export.junit import to_junit
from reports.export.markdown import escaped, to_markdown
from reports.figures.pictures import Pictures
from reports.html import render
from reports.words.verdicts import MEASURES, found, measure_words, subject


def test_every_measure_that_a_gate_may_have_is_named_in_words():
    assert set(MEASURES) | {"share"} == set(GATE_MEASURES)
    assert not [words for words in MEASURES.values() if "_" in words or ":" in words]


@pytest.mark.parametrize(
    ("measure", "attribute", "words"),
    [
        ("fairness_discrepancy", "gender", "fairness discrepancy of gender"),
        ("share:middle_eastern", "race", "share of middle eastern (race)"),
        ("share_ratio", "skin_tone", "share ratio of skin tone"),
        ("clip_i", None, "similarity to the originals (CLIP-I)"),
        ("of_a_later_release", None, "of a later release"),
    ],
)
def test_a_measure_is_named_with_its_attribute(measure, attribute, words):
    assert measure_words(measure, attribute) == words


def test_a_verdict_names_measure_scope_and_arm(verdict):
    overall = verdict(measure="fairness_discrepancy", prompt_id=None, arm="gender-difflens")
    assert subject(overall) == "fairness discrepancy of gender, overall, arm gender-difflens"
    assert subject(verdict(prompt_id="police-officer")) == "share of female (gender), police officer, arm baseline"


@pytest.mark.parametrize(("confidence", "words"), [(0.95, "95\xa0%"), (0.975, "97.5\xa0%"), (0.99444444, "99.44\xa0%")])
def test_the_confidence_of_an_interval_has_the_digits_that_it_needs(verdict, confidence, words):
    assert found(verdict(confidence=confidence)).endswith(f" at {words}")


def test_the_report_the_terminal_and_the_exports_describe_a_gate_alike(result, verdict):
    judged = verdict(measure="fairness_discrepancy", prompt_id=None, arm="difflens-gender")
    gated = replace(result, verdicts=(judged,))
    console = Console(record=True, width=240, file=StringIO())
    show_verdicts(gated.verdicts, console)
    words = "fairness discrepancy of gender, overall, arm difflens-gender"
    assert f"<td>{words}</td>" in render(gated, Pictures({}, {}))
    assert words in console.export_text()
    assert f"| {escaped(words)} |" in to_markdown(gated)
    assert words in to_junit(gated)
