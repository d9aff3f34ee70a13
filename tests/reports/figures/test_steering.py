"""Tests that report, Markdown and terminal name uncontrolled occupations and strengths without trial images."""

from dataclasses import replace

import pytest

from audit.dissect.prediction import StrengthLine
from audit.dissect.strengths import GroupStrength, Tried, strengths_as_data
from audit.records.estimates import percent
from ray_jobs.cli.terminal import open_console, show_edits
from reports.export.audit_json import from_json, to_json
from reports.export.markdown import to_markdown
from reports.figures.pictures import Pictures
from reports.figures.steering import steering_notes, steering_table
from reports.html import render
from reports.index.story import story_of

GAINED = GroupStrength(1.5, "searched", (Tried(0.0, 0.1, {}), Tried(1.5, 0.95, {"age": 0.25})))
STUCK = GroupStrength(0.0, "searched", (Tried(0.0, 0.2, {}), Tried(0.5, 0.25, {"age": 0.4})))
PREDICTED = GroupStrength(0.75, "predicted")
LINE = StrengthLine(1.0, -0.5, 2.0, error=0.32, error_of_mean=0.6, prompts=16)


@pytest.fixture
def steered(result):
    steering = {
        "gender": {
            "doctor": {"female": GAINED, "male": STUCK},
            "nurse": {"female": PREDICTED, "male": PREDICTED},
        }
    }
    lines = {"gender": {"female": LINE.as_data(), "male": LINE.as_data()}}
    printed = {"steering": strengths_as_data(steering), "prediction": lines}
    return replace(result, lens={**result.lens, **printed})


def test_each_occupation_has_its_strengths_with_effects_and_sources(steered):
    table = steering_table(story_of(steered), "gender")
    assert table.rows[0][:2] == ("doctor", "searched")
    assert table.rows[0][2] == f"1.50: {percent(0.95)} shown, {percent(0.25)} changed"
    assert table.rows[0][3] == f"0.00: {percent(0.2)} shown, {percent(0)} changed, not controllable"
    assert table.rows[1] == ("nurse", "predicted", "0.750", "0.750")
    assert steering_table(story_of(steered), "age") is None


def test_every_output_names_uncontrolled_and_predicted_strengths(steered, capsys):
    show_edits(story_of(steered), open_console())
    page, text = render(steered, Pictures({}, {})), to_markdown(steered)
    for shown in (page, text.replace("\\", ""), " ".join(capsys.readouterr().out.split())):
        assert "The gender edit does not control doctor (male)" in shown
        assert "predicted, without trial images, for nurse" in shown
        assert all(printed in shown for printed in ("female", "male", "0.320"))
    assert f"1.50: {percent(0.95)} shown" in page


def test_it_survives_audit_json(steered):
    again = from_json(to_json(steered))
    assert steering_notes(story_of(again)) == steering_notes(story_of(steered))


def test_a_run_without_recorded_strengths_shows_none(result):
    assert steering_notes(story_of(result)) == ()
    assert "Strength of the gender edit per occupation and group" in render(result, Pictures({}, {}))


def test_a_long_list_is_cut(steered):
    many = {f"job-{i}": {"female": STUCK.as_data()} for i in range(20)}
    cut = replace(steered, lens={**steered.lens, "steering": {"gender": many}})
    [note] = steering_notes(story_of(cut))
    assert "and 12 more" in note
