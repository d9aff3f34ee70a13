"""Tests the tables of two attributes: occupations with an association, and marks for small counts."""

from dataclasses import replace

import pytest

from audit.records.estimates import Estimate
from audit.records.intersections import Cell, Dependence, Intersection
from reports.figures.intersection_tables import combination_tables, dependence_table, together_table
from reports.index.story import story_of


def pair(prompt, p_adjusted, counts=(26, 6, 6, 26), arm="baseline", expected=16.0, small=False):
    groups = [(one, other) for one in ("female", "male") for other in ("young", "old")]
    n = sum(counts)
    cells = tuple(
        Cell(group, Estimate(count / n, 0.1, 0.6, n), count, expected, small)
        for group, count in zip(groups, counts, strict=True)
    )
    test = Dependence(9.0, p_adjusted / 2, p_adjusted, "exact", Estimate(0.61, 0.42, 0.78, n))
    return Intersection(prompt, arm, ("gender", "age"), n, cells, test)


@pytest.fixture
def shown(result):
    def of(*pairs):
        return story_of(replace(result, intersections=pairs))

    return of


def test_occupations_are_named_by_adjusted_p_the_clearest_first(shown):
    story = shown(pair(None, 0.001), pair("judge", 0.04), pair("chef", 0.06), pair("doctor", 0.002, (6, 26, 26, 6)))
    table = together_table(story)
    assert [row[0] for row in table.rows] == ["doctor", "judge"]
    assert table.rows[1][3] == "female and young: 26, expected 16.0"
    assert table.rows[0][3] == "female and young: 6, expected 16.0"
    assert dependence_table(story).rows == (
        ("gender and age", "baseline", "0.610 [0.420, 0.780]", "< 0.001", "2", "64"),
    )


def test_small_cells_are_marked_and_arms_stand_side_by_side(shown):
    arms = (pair(None, 0.5), pair(None, 0.5, (1, 0, 2, 1), arm="edit", expected=1.0, small=True))
    (table,) = combination_tables(shown(*arms))
    assert table.columns == ("Combination", "baseline", "n", "if independent", "edit", "n", "if independent")
    assert table.rows[0] == (
        "female and young",
        "41\xa0% [10, 60]",
        "26",
        "16.0",
        "25\xa0% [10, 60]",
        "1 (small)",
        "1.0",
    )


def test_a_pair_without_a_test_states_the_reason(shown):
    alone = replace(pair(None, 0.5), dependence=None)
    assert dependence_table(shown(alone)).rows[0][2:4] == ("one group only", "–")


def test_an_old_result_without_intersections_has_no_section(shown, page_text):
    assert dependence_table(shown()) is None
    assert "Association of attributes" in page_text


def test_many_findings_are_cut_and_say_how_many_there_were(shown):
    table = together_table(shown(*(pair(f"p{i}", 0.01) for i in range(60))))
    assert len(table.rows) == 50
    assert table.caption.endswith("50 of 60")
