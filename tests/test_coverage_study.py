"""The study of the intervals counts rightly, calls a bad interval bad, and writes a page of every family."""

import csv
import sys
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from scipy.stats import contingency

from benchmarks.coverage.__main__ import main
from benchmarks.coverage.cells import Cells, source_of
from benchmarks.coverage.families import FAMILIES, studied
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tables import _true_v
from benchmarks.coverage.tally import OURS, Tally, tallied
from benchmarks.coverage.verdict import Bias, by_figure, is_clearly_short, is_short

CELL = Setting(2, 50, "parity")


def tally(coverage, samples=2000, n=50, errors=None, confidence=0.95):
    setting = Setting(2, n, "parity")
    return Tally("figure", setting, samples, 0.5, {OURS: coverage}, {OURS: 0.1}, None, errors, confidence)


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


def test_of_a_gate_s_confidence_a_cell_may_miss_three_standard_errors():
    assert not is_short(tally(0.9981, confidence=0.9995))
    assert is_short(tally(0.9979, confidence=0.9995))
    assert is_short(tally(0.93, confidence=0.975))


def test_a_bias_too_small_for_any_cell_shows_in_all_of_them_together():
    bias = Bias.of([tally(0.95, errors=error) for error in [1.0] * 50 + [3.5]])
    assert (bias.cells, bias.within, bias.largest) == (51, 50 / 51, 3.5)
    assert bias.by_chance == pytest.approx(1 - (1 - 2 * stats.norm.sf(3.5)) ** 51)
    assert bias.mean == pytest.approx(53.5 / np.sqrt(51))
    assert Bias.of([tally(0.95)]) is None


def test_every_family_is_studied_and_written(tmp_path, monkeypatch):
    for family in FAMILIES.values():
        cells = list(few(family.settings(True)))
        monkeypatch.setattr(family, "settings", lambda quick, cells=cells: cells)
    folder, kept = tmp_path / "out", tmp_path / "build" / "cells.csv"
    options = ["--quick", "--simulations", "20", "--processes", "1", "--out", folder, "--cells", kept]
    monkeypatch.setattr(sys, "argv", ["coverage", *map(str, options)])
    main()
    with (folder / "coverage.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    page, figures = (folder / "coverage.md").read_text(), Counter((row["figure"], row["confidence"]) for row in rows)
    assert {row["family"] for row in rows} == set(FAMILIES)
    for (figure, confidence), cells in figures.items():
        assert f"| {figure} | {100 * float(confidence):.5g} % | {cells} |" in page
    assert (folder / "coverage.svg").read_text().startswith("<svg")
    # What it wrote is where another one goes on from, without any work and to the same figures.
    published = Cells(FAMILIES, tmp_path / "other.csv", folder / "coverage.csv")
    jobs = [(name, setting, 20) for name, family in FAMILIES.items() for setting in family.settings(True)]
    found = by_figure(studied(jobs, 1, published))
    assert sorted((name, str(confidence)) for name, confidence in found) == sorted(figures)
    published.write(jobs, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (folder / "coverage.csv").read_bytes()
    assert not (tmp_path / "other.csv").exists()


def test_a_study_goes_on_where_it_was_stopped_unless_an_estimator_is_another(tmp_path):
    job, kept = ("shares", Setting(2, 8, "mild"), 100), tmp_path / "build" / "cells.csv"
    tallies = FAMILIES["shares"].study(job[1], 100)
    Cells(FAMILIES, kept).add(job, tallies)
    for found, tally in zip(Cells(FAMILIES, kept)[job], tallies, strict=True):
        assert (found.figure, found.setting, found.samples, found.error) == ("share", job[1], 0, None)
        assert found.coverage == pytest.approx(tally.coverage, rel=1e-5)
        assert found.width == pytest.approx(tally.width, rel=1e-5)
    assert ("shares", job[1], 200) not in Cells(FAMILIES, kept)
    assert job not in Cells({**FAMILIES, "shares": FAMILIES["tables"]}, kept)  # as after a change of its sources


def test_a_table_that_lacks_a_group_is_held_against_the_groups_it_shows():
    shares = 0.3 * np.diag([0.5, 0.3, 0.2]) + 0.7 * np.outer([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])
    assert _true_v(shares) == pytest.approx(0.3)
    n = 1_000_000
    for part in (shares[:2, :2], shares[:, 1:]):
        table = np.round(n * part / part.sum())
        assert _true_v(part) == pytest.approx(contingency.association(table.astype(int), method="cramer"), abs=1e-3)


def test_a_familys_sources_are_what_its_figures_come_from():
    sources = {name: source_of(family) for name, family in FAMILIES.items()}
    assert len(set(sources.values())) == len(FAMILIES)


def few(settings):
    """The first cell of each kind, with few images."""
    kinds = {}
    for setting in settings:
        if setting.n <= 64:
            kinds.setdefault((setting.target, setting.detail), setting)
    return kinds.values()
