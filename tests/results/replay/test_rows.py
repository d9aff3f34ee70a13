"""A row is the same, within the tolerance or different; which of them, the largest difference and the tolerance say."""

import pyarrow as pa
import pytest

from audit.records.attributes import Attribute
from audit.results.replay.facts import Fact, Facts
from audit.results.replay.outcome import Replayed
from audit.results.replay.rows import TOLERANCES, compare_rows
from audit.storage.rows import results_schema

GROUPS = {"gender": ("female", "male")}
SCHEMA = results_schema([Attribute("gender", GROUPS["gender"])])


def row(index=0, female=0.5001, arm="baseline", **values):
    known = {"p_gender_female": female, "p_gender_male": None if female is None else 1 - female}
    fixed = {
        "arm": arm,
        "prompt_id": "nurse",
        "index": index,
        "seed": 9,
        "status": "classified",
        "clip_t": 0.25,
        "clip_d_gender_male": 0.1,
    }
    return fixed | known | values


def compare(was, here, tolerant=True):
    tables = (pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (was, here))
    return compare_rows(*tables, GROUPS, tolerant=tolerant)


def test_equal_rows_are_identical_in_any_order():
    rows = [row(0), row(1, None, status="no_face"), row(0, arm="edited", psnr=31.0)]
    found = compare(rows, rows[::-1], tolerant=False)
    assert [one.result for one in found.rows] == ["identical"] * 3
    assert (found.largest, found.relabelled, found.arms) == ((), 0, ("baseline", "edited"))


@pytest.mark.parametrize(
    ("change", "result", "relabelled"),
    [
        ({"female": 0.5002}, "within", False),
        ({"female": 0.4999}, "within", True),  # a near tie falls to the other side
        ({"female": 0.5001 + 1.1 * TOLERANCES["probability"]}, "different", False),
        ({"status": "low_confidence"}, "within", True),
        ({"female": None, "status": "no_face"}, "different", True),
        ({"seed": 10}, "different", False),
        ({"assigned": "male"}, "different", False),
        ({"clip_t": 0.25 + 0.9 * TOLERANCES["cosine"]}, "within", False),
        ({"clip_t": 0.25 + 1.1 * TOLERANCES["cosine"]}, "different", False),
        ({"clip_t": None}, "different", False),
        ({"clip_d_gender_male": 0.1 + 0.9 * TOLERANCES["cosine"]}, "within", False),
        ({"clip_d_gender_male": 0.1 + 1.1 * TOLERANCES["cosine"]}, "different", False),
        ({"psnr": 30.0}, "different", False),  # where the first run has none
    ],
)
def test_a_change_is_judged_by_the_tolerance_of_its_column(change, result, relabelled):
    [one] = compare([row()], [row(**change)]).rows
    assert (one.result, one.relabelled) == (result, relabelled)
    [exact] = compare([row()], [row(**change)], tolerant=False).rows
    assert exact.result == "different"
    assert set(exact.columns) == set(one.columns) != set()


def test_the_largest_difference_of_each_column_names_its_image():
    found = compare([row(0), row(1), row(2)], [row(0), row(1, 0.6), row(2, 0.505)])
    largest = {one.column: one for one in found.largest}
    assert largest["p_gender_female"].value == pytest.approx(0.0999, abs=1e-6)
    assert largest["p_gender_female"].key == ("baseline", "nurse", 1)
    assert set(largest) == {"p_gender_female", "p_gender_male"}


def test_a_run_from_before_clip_d_that_was_summarised_again_is_compared_without_it():
    found = compare([row(clip_d_gender_male=None)], [row()], tolerant=False)
    assert [one.result for one in found.rows] == ["identical"]
    assert found.not_compared == ("clip_d_gender_male",)
    both = [row(0), row(1, clip_d_gender_male=None)], [row(0), row(1)]
    assert [one.result for one in compare(*both).rows] == ["identical", "different"]


def test_rows_of_one_run_alone_are_missing_or_extra():
    found = compare([row(0), row(1)], [row(1), row(2)])
    assert [one.result for one in found.rows] == ["missing", "identical", "extra"]


def test_columns_of_another_release_are_named_and_not_compared():
    was = pa.Table.from_pylist([row()], schema=SCHEMA).drop_columns(["lpips"])
    found = compare_rows(was, pa.Table.from_pylist([row()], schema=SCHEMA), GROUPS, tolerant=False)
    assert (found.not_compared, found.count("identical")) == (("lpips",), 1)


TORCH = Fact("torch", "2.10.0", "2.11.0", "surroundings")
SEED = Fact("seed", 0, 1, "input")


@pytest.mark.parametrize(
    ("facts", "female", "verdict", "reason"),
    [
        ((), 0.5001, "identical", "bit for bit"),
        ((TORCH,), 0.5001, "identical", "bit for bit"),
        ((TORCH,), 0.5002, "same within tolerance", "torch 2.11.0 was 2.10.0"),
        ((TORCH,), 0.6, "different", "torch 2.11.0 was 2.10.0"),
        ((SEED, TORCH), 0.5002, "different", "Explained by: seed 1 was 0."),
        ((), 0.5002, "different", "No recorded fact differs"),
    ],
)
def test_the_verdict_follows_from_rows_and_facts(facts, female, verdict, reason):
    known = Facts(facts, ())
    tolerant = bool(known.of("surroundings")) and not known.of("input")
    found = Replayed("a", "a-replay", known, compare([row()], [row(female=female)], tolerant), tolerant)
    assert found.verdict == verdict
    assert reason in found.reason
    data = found.as_data()
    assert (data["verdict"], data["rows"]["total"]) == (verdict, 1)
    assert (data["tolerances"] is not None) == tolerant
    assert found.rows_as_csv().splitlines()[0] == "arm,prompt_id,index,result,relabelled,columns"
