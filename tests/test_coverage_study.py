"""The study of the intervals counts rightly, calls a bad interval bad, and writes a page of every family."""

import csv

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage.__main__ import write
from benchmarks.coverage.cells import Cells, source_of
from benchmarks.coverage.families import FAMILIES, studied
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tally import OURS, Tally, tallied
from benchmarks.coverage.verdict import Bias, by_figure, is_clearly_short, is_short

CELL = Setting(2, 50, "parity")


def tally(coverage, samples=2000, n=50, errors=None):
    return Tally("figure", Setting(2, n, "parity"), samples, 0.5, {OURS: coverage}, {OURS: 0.1}, None, errors)


def test_an_interval_is_counted_where_it_holds_what_is_due_in_its_own_sample():
    ends = [(0.0, 0.5), (0.5, 1.0), (0.6, 1.0), (0.2, 0.3)]
    found = tallied("figure", CELL, 0.5, {OURS: ends, "other": ends[:2]}, errors=[0.1, -0.1, 0.1, -0.1])
    assert (found.coverage, found.samples, found.truth) == ({OURS: 0.5, "other": 1.0}, 4, 0.5)
    assert found.width == pytest.approx({OURS: 0.375, "other": 0.5})
    assert (found.error, found.standard_errors) == (pytest.approx(0), pytest.approx(0))
    assert tallied("figure", CELL, [0.1, 0.2, 0.7, 0.8], {OURS: ends}).coverage == {OURS: 0.5}
    assert tallied("figure", CELL, 0.5, {OURS: ends}, weights=[1, 1, 8, 0]).coverage == {OURS: 0.2}


def test_short_is_below_the_line_and_clearly_so_beyond_chance():
    assert not is_short(tally(0.93))
    assert is_short(tally(0.925))
    assert not is_clearly_short(tally(0.925))
    assert is_clearly_short(tally(0.90))
    assert not is_short(tally(0.925, n=8))
    assert is_clearly_short(tally(0.929, samples=0))  # every outcome was counted: there is no chance


def test_a_bias_too_small_for_any_cell_shows_in_all_of_them_together():
    bias = Bias.of([tally(0.95, errors=error) for error in [1.0] * 50 + [3.5]])
    assert (bias.cells, bias.within, bias.largest) == (51, 50 / 51, 3.5)
    assert bias.by_chance == pytest.approx(1 - (1 - 2 * stats.norm.sf(3.5)) ** 51)
    assert bias.mean == pytest.approx(53.5 / np.sqrt(51))
    assert Bias.of([tally(0.95)]) is None


def test_every_family_is_studied_and_written(tmp_path):
    cells = [(name, setting) for name, family in FAMILIES.items() for setting in few(family.settings(True))]
    tallies = [tally for name, setting in cells for tally in FAMILIES[name].study(setting, 20)]
    write(tallies, 20, tmp_path)
    page = (tmp_path / "coverage.md").read_text()
    for figure, members in by_figure(tallies).items():
        assert f"| {figure} | {len(members)} |" in page
    with (tmp_path / "coverage.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["figure"] for row in rows] == [tally.figure for tally in tallies]
    assert (tmp_path / "coverage.svg").read_text().startswith("<svg")


def test_a_study_goes_on_where_it_was_stopped_unless_an_estimator_is_another(tmp_path):
    job, path = ("shares", Setting(2, 8, "mild"), 100), tmp_path / "build" / "cells.jsonl"
    tallies = FAMILIES["shares"].study(job[1], 100)
    Cells(path, FAMILIES).add(job, tallies)
    assert Cells(path, FAMILIES).of(job) == tallies
    assert Cells(path, FAMILIES).of(("shares", job[1], 200)) is None
    assert studied([job], 1, Cells(path, FAMILIES)) == tallies
    assert Cells(path, {**FAMILIES, "shares": FAMILIES["tables"]}).of(job) is None  # as after a change of its sources


def test_a_familys_sources_are_what_its_figures_come_from():
    sources = {name: source_of(family) for name, family in FAMILIES.items()}
    assert len(set(sources.values())) == len(FAMILIES)


def few(settings):
    """The first cell of each kind, with few images."""
    kinds = {}
    for setting in settings:
        if setting.n <= 64:
            kinds.setdefault((setting.scores, setting.detail), setting)
    return kinds.values()
