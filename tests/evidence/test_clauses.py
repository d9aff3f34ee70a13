"""The clause map: every path exists in a real result, and what is missing counts as missing."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.evidence.clauses.clause_map import BUNDLE, clause_map, covered, has
from ray_jobs.cli.commands import app
from reports.figures.evidence.clauses import clause_tables, map_words
from tests.evidence.conftest import config_of, make

STATEMENT = {
    "responsible": "Ada Example",
    "independence": "none",
    "intended_use": "illustrations",
    "population": "occupations",
    "known_gaps": "English only",
    "model_energy": "not known",
    "valid_until": "2030-01-01",
}


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    """A run with a statement and a second judge, and its audit.json with what only other audits have."""
    seen_twice = {
        "quality": {"clip": "bundled", "features": "none"},
        "second_opinions": [{"name": "clip", "source": "zero-shot"}],
    }
    run = make(config_of(statement=STATEMENT, **seen_twice), tmp_path_factory.mktemp("stated"))
    return run, json.loads(run.read_bytes("audit.json"))


def test_every_clause_has_a_source_with_a_date_and_how_it_was_read():
    mapped = clause_map()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", mapped.dated)
    for clause in mapped.clauses:
        assert clause.clause
        assert clause.asks
        assert clause.source.title
        assert re.fullmatch(r"\d{4}(-\d\d-\d\d)?", clause.source.date)
        assert clause.source.basis


ELSEWHERE = {"provenance.protocol", "counterfactuals[].shown", "provenance.sampling.steps"}
"""Paths that a run of the renderer cannot have: a registered run, one with counterfactual arms, one of a real model."""


def test_every_path_is_one_of_a_real_result(stated):
    _, audit = stated
    paths = {path for clause in clause_map().clauses for path in clause.paths if not path.startswith(BUNDLE)}
    assert {path for path in paths if not has(audit, path)} == ELSEWHERE
    schema = (Path(__file__).parents[2] / "reports" / "schemas" / "audit.schema.json").read_text()
    assert all(f'"{name}"' in schema for path in paths for name in path.replace("[]", "").split(".")[:1])


def test_every_file_is_in_a_bundle(stated, tmp_path):
    run, _ = stated
    answer = CliRunner().invoke(app, ["bundle", str(run.path), "--to", str(tmp_path / "b.zip")])
    assert answer.exit_code == 0, answer.output
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        names = {name.split("/", 1)[-1] for name in archive.namelist()} | set(archive.namelist())
    wanted = {path.removeprefix(BUNDLE) for c in clause_map().clauses for path in c.paths if path.startswith(BUNDLE)}
    assert wanted <= names


def test_coverage_is_all_some_or_none(stated):
    _, audit = stated
    by_asks = {one.clause.asks: one for one in covered(clause_map(), audit)}
    assert by_asks["the gap between the evaluation and real use"].coverage == "covered"
    assert by_asks["statistical significance, and power that was planned before"].coverage == "partly covered"
    assert by_asks["energy consumption"].coverage == "covered"
    unstated = json.loads(json.dumps(audit))
    del unstated["config"]["statement"]["model_energy"]
    [energy] = (one for one in covered(clause_map(), unstated) if one.clause.asks == "energy consumption")
    assert energy.coverage == "partly covered"  # the audit's own energy says nothing about the model's training
    nothing = covered(clause_map(), {})
    held = {one.clause.asks: one.coverage for one in nothing if one.coverage != "absent"}
    assert set(held.values()) == {"covered", "partly covered"}  # every bundle has random samples and impact ratios
    assert len(held) == 2


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_what_says_nothing_does_not_count(value):
    assert not has({"a": {"b": value}}, "a.b")
    assert not has({"a": [{"b": value}]}, "a[].b")
    assert has({"a": [{"b": value}, {"b": 0}]}, "a[].b")
    assert not has({"a": 3}, "a[].b")
    assert not has({"a": {"b": 1}}, "a[].b")


def test_tables_have_a_row_for_each_clause(stated):
    _, audit = stated
    tables = clause_tables(audit)
    assert sum(len(table.rows) for table in tables) == len(clause_map().clauses)
    assert len(tables) == 5
    assert "○ absent" in {row[0] for table in tables for row in table.rows}
    assert clause_map().dated in map_words()
