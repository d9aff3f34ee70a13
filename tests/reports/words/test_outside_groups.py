"""Tests that every report describes images outside the audited groups, and says nothing without such images."""

import re
from dataclasses import replace

import pytest

from audit.records.result import AuditResult
from reports.export.markdown import to_markdown
from reports.figures.charts import status_table
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of
from reports.words.outside_groups import outside_lines


def moved(row, images):
    """Mark a row's first images as outside the audited groups."""
    statuses = row.statuses | {
        "classified": row.statuses["classified"] - images, "outside_groups": images
    }  # fmt: skip
    return replace(row, statuses=statuses, n=row.n - images)


@pytest.fixture
def narrow(result) -> AuditResult:
    """The result of an audit that leaves out middle-aged people, a quarter of all."""
    rows = tuple(moved(row, 16) if row.attribute == "age" else row for row in result.results)
    overall = tuple(moved(row, 256) if row.attribute == "age" else row for row in result.overall)
    provenance = {**result.provenance, "left_out_groups": {"age": ["middle_aged"]}}
    return replace(result, results=rows, overall=overall, provenance=provenance)


def test_they_are_counted_by_arm_under_their_attribute_with_the_groups_that_are_left_out(narrow):
    [line] = outside_lines(story_of(narrow))
    assert line.startswith("Age: images outside the audited groups (middle aged): baseline 256 of 1024 (25\xa0%), ")
    assert line.endswith("They are excluded from the shares, and count as unknown in the bounds.")


def test_the_table_of_statuses_has_a_column_for_them_if_there_are_any(narrow, result):
    table = status_table(story_of(narrow))
    column = table.columns.index("Outside the audited groups")
    assert {row[1]: row[column] for row in table.rows} == {"gender": "0", "age": "256", "skin tone": "0"}
    assert {row[1]: row[-1] for row in table.rows} == {"gender": "2\xa0%", "age": "27\xa0%", "skin tone": "2\xa0%"}
    assert "Outside the audited groups" not in status_table(story_of(result)).columns


def test_every_report_states_this(narrow, result):
    words = "images outside the audited groups (middle aged)"
    page = re.sub(r"\s+", " ", render(narrow, Pictures({}, {})))
    assert words in page
    text = to_markdown(narrow).replace("\\", "")
    assert words in text
    assert "gender 16 of 1024, age 272 of 1024, skin tone 16 of 1024" in text
    assert "outside the audited groups (" not in render(result, Pictures({}, {})) + to_markdown(result)
