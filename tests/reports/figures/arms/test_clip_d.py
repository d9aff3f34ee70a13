"""CLIP-D in every output of an audit: report, Markdown, audit.json, frames and MLflow metrics; nothing without it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from audit.records.arms.clip_d import GroupSimilarity
from audit.records.estimates import LikeThese, OverPrompts
from audit.records.work import BASELINE
from reports.export.audit_json import from_json, to_json
from reports.export.markdown import escaped, to_markdown
from reports.figures.arms.clip_d import ASSUMED, clip_d_table
from reports.figures.pictures import Pictures
from reports.frames import result_frames
from reports.html import render
from reports.index.story import story_of
from reports.tracking.metrics import headline_metrics

ARM = "difflens-gender"
SCHEMA = Path(__file__).parents[4] / "reports" / "schemas" / "audit.schema.json"
EDITED = OverPrompts(0.42, 0.4, 0.44, 1024, LikeThese(0.3, 0.5))
MOVED = OverPrompts(-0.05, -0.07, -0.03, 1020, None)
HOSTILE = "<img src=x onerror=1>"


def row(arm, group, cosine=EDITED, change=MOVED, attribute="gender"):
    return GroupSimilarity(
        arm, attribute, group, (f"a face photo of {group}",), "metric:clip_d|net:a|n:9", cosine, change
    )


@pytest.fixture
def measured(result):
    """The sample with two groups and two arms, one group with a text that CLIP cuts."""
    long = [row(arm, HOSTILE, None, None, attribute="age") for arm in (BASELINE, ARM)]
    male = [row(BASELINE, "male", OverPrompts(0.47, 0.45, 0.49, 1023, None), None), row(ARM, "male")]
    return replace(result, clip_d=(male[0], long[0], male[1], long[1]))


def test_a_group_s_arms_are_next_to_each_other_in_the_table(measured):
    rows = clip_d_table(story_of(measured)).rows
    assert [line[:3] for line in rows[2:]] == [("gender: male", BASELINE, "1023"), ("gender: male", ARM, "1024")]
    assert rows[3][3].startswith("0.420 [0.400, 0.440]")
    assert rows[2][4] == "–"
    assert rows[3][4] == "−0.050 [−0.070, −0.030]"
    assert rows[0][3].startswith("not measured")


def test_the_report_and_the_summary_say_what_was_assumed_and_no_name_becomes_markup(measured):
    page, text = render(measured, Pictures({}, {})), to_markdown(measured)
    assert "as its text describes it" in page
    assert "StyleGAN-NADA" in page
    assert escaped(ASSUMED) in text
    assert "−0.050 [−0.070, −0.030]" in page
    assert "<img src=x" not in page + text


def test_audit_json_conforms_to_its_schema_and_is_read_back(measured):
    data = json.loads(json.dumps(to_json(measured)))
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(data)
    assert from_json(data).clip_d == measured.clip_d
    del data["clip_d"]
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(data)
    assert from_json(data).clip_d == ()


def test_the_frame_has_a_row_for_each_group_and_arm(measured):
    frame = result_frames(measured)["clip_d"].set_index(["arm", "group"])
    assert frame.loc[(ARM, "male"), ["clip_d", "clip_d_low", "change", "change_high", "n"]].tolist() == [
        0.42, 0.4, -0.05, -0.03, 1024,
    ]  # fmt: skip
    assert np.isnan(frame.loc[(BASELINE, "male"), "change"])
    assert np.isnan(frame.loc[(BASELINE, HOSTILE), "clip_d"])


def test_metrics_of_groups_with_characters_that_mlflow_refuses_stay_apart(measured):
    metrics = headline_metrics(story_of(measured))
    assert metrics[f"{ARM}/gender/clip_d_male"] == 0.42
    assert metrics[f"{ARM}/gender/clip_d_change_male_low"] == -0.07
    assert "baseline/gender/clip_d_change_male" not in metrics


@pytest.mark.parametrize(
    "groups", [("é", "ü", "__1"), ("male", "change_male"), ("male", "male_low", "male_n_1", "male_n")]
)
def test_names_of_metrics_are_those_of_one_group_and_the_same_in_every_arm(measured, groups):
    """One arm has fewer figures than the other, and each value is found under one name in both."""
    near = [OverPrompts(place / 10, place / 10 - 0.01, place / 10 + 0.01, 4, None) for place in range(len(groups))]
    rows = [row(ARM, group, near[place]) for place, group in enumerate(groups)]
    rows += [row(BASELINE, group, near[place] if place else None, None) for place, group in enumerate(groups)]
    found = headline_metrics(story_of(replace(measured, clip_d=tuple(rows))))
    own = {name.partition("/")[2]: value for name, value in found.items() if name.startswith(ARM) and "clip_d" in name}
    assert len(own) == 8 * len(groups)
    for place in range(1, len(groups)):
        [name] = [name for name, value in own.items() if value == place / 10 and not name.endswith(("_low", "_high"))]
        assert found[f"{BASELINE}/{name}"] == place / 10


def test_an_arm_whose_images_all_failed_is_not_said_to_have_a_long_text(measured):
    failed = (row(BASELINE, "male", EDITED, None), row(ARM, "male", None, None))
    rows = clip_d_table(story_of(replace(measured, clip_d=failed))).rows
    assert rows[1][:4] == ("gender: male", ARM, "0", "no image has one")


def test_a_result_without_clip_d_prints_nothing_of_it(result):
    assert result.clip_d == ()
    for text in (render(result, Pictures({}, {})), to_markdown(result)):
        assert "CLIP-D" not in text
    assert result_frames(result)["clip_d"].empty
    assert not [name for name in headline_metrics(story_of(result)) if "clip_d" in name]
