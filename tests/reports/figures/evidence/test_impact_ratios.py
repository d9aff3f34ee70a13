"""Tests impact ratios: counts that add up, the most frequent group, the 2 % rule and the interval of a ratio."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from audit.measure.inference.intervals import share_estimate
from audit.records.estimates import NBSP
from audit.records.groups import GroupResult
from audit.records.work import BASELINE
from reports.export.impact_csv import COLUMNS, impact_ratios_to_csv
from reports.figures.evidence.impact_ratios import impact_ratios, impact_tables
from reports.index.story import story_of


def of_counts(result, **counts):
    """The result with one row: the pooled counts of one attribute, two images of which have no group."""
    n = sum(counts.values())
    shares = {group: share_estimate(count, n) for group, count in counts.items()}
    row = GroupResult(None, BASELINE, "gender", n, {"classified": n, "no_face": 2}, shares, None)
    return replace(result, overall=(row,), results=(), intersections=())


def test_counts_and_unknown_pictures_add_up_to_all_pictures(result):
    found = list(impact_ratios(result))
    images = {(row.prompt_id, row.arm): sum(row.statuses.values()) for row in (*result.overall, *result.results)}
    cells = {}
    for one in found:
        cells.setdefault((one.prompt_id, one.arm, one.attributes), []).append(one)
    assert {len(key[2]) for key in cells} == {1, 2}
    for (prompt, arm, _), rows in cells.items():
        assert sum(one.count for one in rows) + rows[0].unknown == images[prompt, arm]
        assert sum(one.share.value for one in rows) == pytest.approx(1)


def test_counts_of_pooled_rows_are_the_sums_over_the_prompts(result):
    by_group = {}
    for one in impact_ratios(result):
        if len(one.attributes) == 1:
            key = (one.arm, one.attributes, one.groups)
            pooled, single = by_group.get(key, (0, 0))
            by_group[key] = (one.count, single) if one.prompt_id is None else (pooled, single + one.count)
    assert all(pooled == single for pooled, single in by_group.values())


def test_the_ratio_is_to_the_most_frequent_group_which_has_exactly_one(result):
    female, male = impact_ratios(of_counts(result, female=30, male=60))
    assert (male.ratio.value, male.ratio.low, male.ratio.high) == (1, 1, 1)
    assert female.ratio.value == 0.5
    assert female.ratio.low < 0.5 < female.ratio.high
    assert female.unknown == 2


def test_a_group_below_two_percent_is_left_out_but_keeps_its_count_and_share(result):
    rare, edge, most = impact_ratios(of_counts(result, a=19, b=20, c=961))
    assert rare.left_out
    assert rare.ratio is None
    assert (rare.count, rare.share.value) == (19, 0.019)
    assert not edge.left_out
    assert edge.ratio is not None
    assert most.ratio.value == 1


def test_an_absent_group_is_left_out(result):
    absent, _ = impact_ratios(of_counts(result, female=0, male=40))
    assert (absent.count, absent.ratio) == (0, None)


def test_the_interval_of_a_ratio_covers_the_true_ratio(result):
    truth, covered = np.array([0.2, 0.5, 0.3]), 0
    draws = np.random.default_rng(5).multinomial(200, truth, size=400)
    for counts in draws:
        first = next(impact_ratios(of_counts(result, **dict(zip("abc", map(int, counts), strict=True)))))
        covered += first.ratio.low <= 0.4 <= first.ratio.high
    assert covered / len(draws) >= 0.93


def test_the_table_says_what_is_left_out_and_how_many_are_unknown(result):
    [table] = impact_tables(story_of(replace(of_counts(result, female=1, male=99), results=result.results)))
    assert "unknown group: baseline 2 of 102" in table.caption
    assert table.rows[0][-1] == f"left out (below 2{NBSP}%)"
    assert table.rows[1][-1] == "1 (most frequent)"


def test_the_export_has_every_row_and_leaves_out_what_is_below_the_limit(result):
    rows = list(csv.DictReader(io.StringIO(impact_ratios_to_csv(result))))
    found = list(impact_ratios(result))
    assert len(rows) == len(found)
    assert tuple(rows[0]) == COLUMNS
    for row, one in zip(rows, found, strict=True):
        assert (row["impact_ratio"] == "") == one.left_out == (row["left_out"] == "true")
        assert (int(row["count"]), int(row["unknown"])) == (one.count, one.unknown)
