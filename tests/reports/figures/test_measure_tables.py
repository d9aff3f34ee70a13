"""Tests that other measures are means over occupations, with their ideal and the value by chance."""

from dataclasses import replace
from statistics import fmean

import pytest

from audit.measure.discrepancy.group_measures import MEASURES, mean_measure
from reports.figures.measure_tables import caveats, measures_by_occupation, measures_table
from reports.index.story import story_of
from reports.words.formats import interval, number


@pytest.fixture(scope="module")
def story(result):
    return story_of(result)


def of(story, prompt, arm, name):
    return story.rows[prompt, arm, "gender"].measures[name]


def test_each_measure_is_averaged_over_occupations_beside_ideal_and_chance(story):
    table = measures_table(story, story.attributes[0])
    assert [row[0].lower() for row in table.rows] == [m.label.lower() for m in MEASURES.values()]
    found = next(row for row in table.rows if row[0].startswith("Total variation"))
    each = [of(story, prompt, "baseline", "total_variation") for prompt in story.prompts]
    mean = mean_measure("total_variation", each, [(0.5, 0.5)] * len(each))
    beside = f"prompts like these\N{NO-BREAK SPACE}{interval(mean.like_these.low, mean.like_these.high)}"
    assert found[1:4] == (
        "0.00",
        number(fmean(measure.expected_at_target for measure in each)),
        f"{number(mean.value)} {interval(mean.low, mean.high)}, {beside}",
    )
    assert "intervals about these prompts" in table.caption


def test_opposite_skews_cancel_in_the_pool_and_not_in_the_mean(story):
    pooled = of(story, None, "baseline", "total_variation").value
    assert pooled < 0.2 < fmean(of(story, prompt, "baseline", "total_variation").value for prompt in story.prompts)


def test_the_pool_comes_before_the_occupations_and_every_row_has_its_n(story):
    table = measures_by_occupation(story, story.attributes[0])
    assert [row[0] for row in table.rows[:2]] == ["all images pooled"] * 2
    assert len(table.rows) == 2 * (1 + len(story.prompts))
    assert table.rows[0][2] == str(story.rows[None, "baseline", "gender"].n)


def test_the_four_fifths_ratio_is_never_shown_without_its_caveat(page_text):
    assert caveats() == ("Four-fifths ratio: a rule of thumb of US hiring law, not a legal finding here.",)
    assert page_text.count(caveats()[0]) == 1


def test_an_old_result_without_measures_has_no_table(result):
    old = replace(result, results=tuple(replace(row, measures={}) for row in result.results))
    story = story_of(old)
    assert measures_table(story, story.attributes[0]) is None
