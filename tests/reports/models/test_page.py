"""The page of a comparison of models from stored results, and the same figures in the other files."""

import csv
import io
import json
import re
from dataclasses import replace
from importlib import resources

import jsonschema
import pyarrow.parquet as pq
import pytest

from audit.results.models.compare import MODELS, compare_models
from audit.results.models.records import ComparedModel
from reports.models.files import FIGURE_SCHEMA, PAGE, comma_separated, figure_rows, write_files
from reports.models.page import render
from reports.models.schema import SCHEMA, models_schema
from reports.models.sentences import place_text, statements_of, title_of
from reports.models.tables import cost_table, discrepancy_table, places_table, share_differences_table, shares_table
from tests.model_runs import rows_of, three_models, write_run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return compare_models("trial", three_models(tmp_path_factory.mktemp("runs")))


def test_the_headline_says_who_is_more_skewed_in_what(found):
    assert title_of(found) == "first and second are more skewed in gender than even."


def test_the_headline_claims_nothing_that_is_not_established(found):
    none = replace(found, differences=tuple(replace(d, established=False) for d in found.differences))
    assert title_of(none) == "No model is established to be more skewed than another."
    assert all(not statement.established for statement in statements_of(none))


def test_each_attribute_says_what_is_established_and_what_is_open(found):
    gender, age = statements_of(found)
    assert gender.established[0] == "first and second are more skewed than even."
    assert "4 of 9 compared shares" in gender.established[1]
    assert "first and even for nurse, guard" in gender.established[1]
    assert gender.open == "Not established: a difference of the mean discrepancies of first and second."
    assert age.established == ()
    assert "None of 27 compared shares of single occupations is established to differ." in age.open


def test_places_are_numbers_only_where_they_are_established(found):
    gender, age = places_table(found, "baseline").rows
    assert [cell.rpartition("place ")[2] for cell in gender[1:]] == ["2–3", "2–3", "1"]
    assert [cell.rpartition("place ")[2] for cell in age[1:]] == ["1–3"] * 3
    assert (place_text(2, 2), place_text(1, 3)) == ("2", "1–3")


def test_the_caption_counts_the_occupations_of_the_means(found, tmp_path):
    assert "over 3 occupations;" in places_table(found, "baseline").caption
    rows = [r | {"status": "low_confidence"} if r["prompt_id"] == "chef" else r for r in rows_of(images=8, noise=4)]
    runs = {n: write_run(tmp_path / n, r) for n, r in (("shy", rows), ("bold", rows_of(images=8, noise=5)))}
    assert "over 2 occupations;" in places_table(compare_models("trial", runs), "baseline").caption
    one = tuple(replace(d, mean=replace(d.mean, n=1 + (d.attribute == "age"))) for d in found.discrepancies)
    assert "over 1–2 occupations;" in places_table(replace(found, discrepancies=one), "baseline").caption
    assert "over 1 occupation;" in places_table(replace(found, discrepancies=one[:1]), "baseline").caption


def test_many_open_pairs_are_counted_and_not_listed(found):
    [mean, *_] = found.differences
    pairs = [replace(mean, first=f"m{n}", second="z", established=n == 0) for n in range(10)]
    [gender, _] = statements_of(replace(found, differences=tuple(pairs)))
    assert gender.open.startswith("Not established: a difference of the mean discrepancies of m1 and z, or of m2 and z")
    assert "m6 and z, or of 3 more pairs." in gender.open
    assert "m7" not in gender.open


def test_a_cut_table_says_so_and_no_difference_is_minus_zero(found):
    share = next(d for d in found.differences if d.group)
    small = replace(share, established=True, difference=replace(share.difference, value=-0.001))
    table = share_differences_table(replace(found, differences=(small,) * 250), "baseline")
    assert len(table.rows) == 200
    assert "(250, of which 200 are shown" in table.caption
    assert table.rows[0][5].startswith("0 [")
    many = tuple(replace(s, prompt_id=f"{s.prompt_id} {n}") for n in range(100) for s in found.shares)
    assert "the first 200 of 600 rows" in shares_table(replace(found, shares=many), "baseline", "gender").caption


def test_the_page_shows_all_tables_and_charts_and_no_other_host(found):
    page = render(found)
    assert page.count('<svg class="chart"') == 1 + 2
    assert "first and second are more skewed in gender than even." in page
    assert "0.250 s" in page
    assert 'href="../../even/report.html"' in page
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert len(re.findall(r"<h1>", page)) == 1


def test_what_is_missing_waiting_or_incomplete_is_said(found):
    incomplete = tuple(replace(model, verdict="incomplete") for model in found.models[:1])
    page = render(
        replace(
            found, waiting=("later",), models=(*incomplete, *found.models[1:]), missing=("prompt pilot: not in even",),
            notices=("judge.source is 'a' for first",),
        )
    )  # fmt: skip
    assert "Not finished: later." in page
    assert "Images are missing in the audit of first." in page
    assert "prompt pilot: not in even" in page
    assert "Attention: judge.source is" in page


def test_more_models_than_marks_are_shown_in_tables(tmp_path):
    runs = {f"m{n}": write_run(tmp_path / f"m{n}", rows_of(images=8, noise=n)) for n in range(5)}
    page = render(compare_models("many", runs))
    assert "<svg" not in page
    assert page.count("Shares of perceived gender") >= 1


def test_names_cannot_inject_markup(found):
    hostile = "<img src=x onerror=1>"
    models = tuple(ComparedModel(hostile, hostile, hostile, hostile, "none") for _ in found.models)
    costs = tuple(replace(cost, model=hostile) for cost in found.costs)
    discrepancies = tuple(replace(d, model=hostile, worst_prompt=hostile) for d in found.discrepancies)
    differences = tuple(replace(d, first=hostile, second=hostile) for d in found.differences)
    bad = replace(
        found, name=hostile, models=models, costs=costs, discrepancies=discrepancies, differences=differences,
        missing=(hostile,), notices=(hostile,), waiting=(hostile,),
    )  # fmt: skip
    assert "<img src=x" not in render(bad)


def test_the_files_hold_the_same_figures(found, tmp_path):
    assert write_files(found, tmp_path) == tmp_path / PAGE
    names = {f"{name}.{kind}" for name in ("figures", "differences") for kind in ("parquet", "csv")}
    assert {path.name for path in tmp_path.iterdir()} == names | {PAGE, MODELS}
    differences = pq.read_table(tmp_path / "differences.parquet").to_pylist()
    assert len(differences) == len(found.differences)
    assert sum(row["established"] for row in differences) == 2 + 4
    rows = list(csv.DictReader(io.StringIO((tmp_path / "figures.csv").read_text())))
    assert len(rows) == pq.read_table(tmp_path / "figures.parquet").num_rows == len(list(figure_rows(found)))
    [place] = [r for r in rows if (r["model"], r["attribute"], r["figure"]) == ("even", "gender", "discrepancy_mean")]
    assert (place["best_place"], place["last_place"], place["n"]) == ("1", "1", "3")


def test_a_spreadsheet_runs_no_name():
    text = comma_separated([{"model": "=1+1", "value": -1.0}], FIGURE_SCHEMA)
    assert "'=1+1" in text
    assert "-1.0" in text


def test_the_stored_comparison_satisfies_the_committed_schema(found, tmp_path):
    write_files(found, tmp_path)
    text = resources.files("reports").joinpath("schemas", SCHEMA).read_text(encoding="utf-8")
    committed = json.loads(text)
    assert committed == models_schema(), f"run python -m reports.models.schema > reports/schemas/{SCHEMA}"
    jsonschema.validate(json.loads((tmp_path / MODELS).read_text()), committed)


def test_tables_without_rows_are_empty(found):
    nothing = replace(found, differences=tuple(replace(d, established=False) for d in found.differences))
    assert share_differences_table(nothing, "baseline").rows == ()
    assert len(discrepancy_table(found, "baseline").rows) == 3 * 2
    assert [row[0] for row in cost_table(found).rows] == ["first", "second", "even"]
