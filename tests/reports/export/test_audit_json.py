"""Tests that audit.json and results.parquet conform to their schemas, and audit.json is read back completely."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator, ValidationError

from audit.records.attributes import Attribute
from audit.records.quality import Measurement
from audit.records.result import TwoStageSampling
from audit.records.work import Prompt, Shard
from audit.results.summary import LensEvidence, SummaryPlan, summarise
from audit.storage.rows import row_schema
from audit.storage.run_directory import AUDIT, RunDirectory
from reports.export.audit_json import (
    from_json,
    intersections_to_csv,
    read_audit_json,
    to_csv,
    to_json,
    write_audit_json,
)
from reports.export.old_schema import JUDGED_SOFT
from reports.figures.pictures import Pictures
from reports.html import render

ATTRIBUTES = (Attribute("gender", ("female", "male")), Attribute("skin_tone", ("light", "dark")))
NEW = ("changes", "shifts", "intersections", "missing")
"""Fields that schema version 1 did not have."""

VERSION_2 = Path(__file__).parents[1] / "audit_v2.json"
"""Written by the release before version 3: 40 of 50 nurses seen as female at probability 0.53, and gates on them."""

SCHEMAS = Path(__file__).parents[3] / "reports" / "schemas"


def validator(name):
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def shard_rows(shard, rng):
    for arm in ("baseline", "mended"):
        for key in shard.keys:
            failed = shard.prompt.id == "ghost"
            male, dark = rng.uniform(size=2)
            perceived = {"p_gender_female": 1 - male, "p_gender_male": male}
            perceived |= {"p_skin_tone_light": 1 - dark, "p_skin_tone_dark": dark, "p_prompt_shown": rng.uniform()}
            scores = {
                "clip_i": 0.9 if arm == "mended" else None,
                "clip_t": rng.uniform(),
                "psnr": rng.uniform(10, 100) if arm == "mended" else None,
                "lpips": rng.uniform() if arm == "mended" else None,
                "dino_i": rng.uniform(-1, 1) if arm == "mended" else None,
                "features": rng.normal(size=3),
            }
            name = {"arm": arm, "prompt_id": key.prompt_id, "index": key.index, "seed": key.seed(0)}
            yield {**name, "status": "failed" if failed else "classified"} | ({} if failed else perceived | scores)


@pytest.fixture(scope="module")
def produced(tmp_path_factory):
    """A run with a prompt that failed in every image, and a lens."""
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    run.create({"name": "export", "limits": [0.1]}, {"torch": "x"})
    rng = np.random.default_rng(0)
    shards = tuple(Shard(Prompt(name, f"a {name}", name), 0, tuple(range(8))) for name in ("nurse", "ghost"))
    for shard in shards:
        table = pa.Table.from_pylist(list(shard_rows(shard, rng)), schema=row_schema(ATTRIBUTES))
        part = {"attribution/gender": np.ones((2, 4), np.float32), "images": np.array(8)}
        run.write_shard(shard.id, table, {"attribution": part})
    lens = LensEvidence({"name": "lens-1"}, {"gender": {"male": [(3, 0.1, 2.0)]}})
    names = {"clip_signature": "net:clip", "feature_signature": "net:features"}
    plan = SummaryPlan("export-1", ATTRIBUTES, shards, ("baseline", "mended"), **names)
    return run, summarise(run, plan, lens)


def test_audit_json_is_what_its_schema_says(produced):
    run, result = produced
    write_audit_json(run, result)
    text = run.file("audit.json").read_text()
    data = json.loads(text, parse_constant=pytest.fail)
    validator("audit").validate(data)
    assert data == json.loads(json.dumps(to_json(result)))
    lines = [json.loads(line.strip(", ")) for line in text.splitlines() if line.startswith('    {"prompt_id": "')]
    assert [line for line in lines if "statuses" in line] == data["results"]  # a line for each row
    assert data["verdicts"] == []
    assert len(data["results"]) == 2 * 2 * 2
    assert {"value", "n", "signature", "rescaled"} <= data["quality"][1]["clip_i"].keys()


def test_comparisons_of_paired_images_are_read_back_and_older_files_have_none(produced):
    result = produced[1]
    assert result.quality[1].psnr.n == result.quality[1].lpips.n == 8
    data = json.loads(json.dumps(to_json(result)))
    assert from_json(data).quality == result.quality
    for row in data["quality"]:
        del row["psnr"], row["lpips"], row["dino_i"]
    validator("audit").validate(data)
    older = from_json(data).quality[1]
    assert (older.psnr, older.lpips, older.dino_i) == (None, None, None)


def test_every_row_of_results_parquet_is_what_its_schema_says(produced):
    run, _ = produced
    rows = run.read_results().to_pylist()
    assert len(rows) == 32
    for row in rows:
        validator("results").validate(row)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("overall"),
        lambda data: data["results"][0].pop("prompt_id"),
        lambda data: data["results"][0].update(mean_over_prompts=0.1),
        lambda data: data["overall"][0].update(prompt_id="nurse"),
        lambda data: data["results"][0]["shares"]["male"].update(value=1.2),
        lambda data: data["results"][0]["fairness_discrepancy"].pop("expected_at_parity"),
        lambda data: data["results"][0]["measures"]["total_variation"].pop("ideal"),
        lambda data: data["intersections"][0].pop("dependence"),
        lambda data: data["intersections"][0]["cells"][0].update(groups=["male"]),
        lambda data: data["quality"][1]["clip_i"].pop("signature"),
        lambda data: data["quality"][1]["clip_i"].update(n=0),
        lambda data: data.update(schema_version=1),
    ],
)
def test_the_schema_refuses_what_the_contract_does_not_promise(produced, damage):
    data = json.loads(json.dumps(to_json(produced[1])))
    damage(data)
    with pytest.raises(ValidationError):
        validator("audit").validate(data)


def test_two_stage_results_conform_to_the_schema_and_are_read_back(produced):
    staged = TwoStageSampling("gender", "female", 0.1, 0.097, 32, 104, {"nurse": 48, "ghost": 104})
    result = replace(produced[1], two_stage=staged)
    data = json.loads(json.dumps(to_json(result), allow_nan=False))
    validator("audit").validate(data)
    assert data["two_stage"]["saving"] == pytest.approx(208 / 152)
    assert from_json(data) == result
    assert to_json(produced[1])["two_stage"] is None


def test_verdicts_conform_to_the_schema_and_are_read_back(produced, verdict):
    missing = verdict(
        "inconclusive", value=None, low=None, high=None, margin=None, n=0, note="no image", prompt_id=None
    )
    result = replace(produced[1], verdicts=(verdict("fail"), missing))
    data = json.loads(json.dumps(to_json(result), allow_nan=False))
    validator("audit").validate(data)
    assert from_json(data) == result
    data["verdicts"][0]["verdict"] = "perhaps"
    with pytest.raises(ValidationError):
        validator("audit").validate(data)


def test_second_opinions_conform_to_the_schema_and_are_read_back(seconded):
    data = json.loads(json.dumps(to_json(seconded), allow_nan=False))
    validator("audit").validate(data)
    found = from_json(data)
    assert (found.agreement, found.second_views) == (seconded.agreement, seconded.second_views)
    assert {row["n"] for row in data["agreement"]} == {0, 1008}
    data["second_views"][0]["direction"] = "wrong"
    with pytest.raises(ValidationError):
        validator("audit").validate(data)


def test_a_result_without_second_opinions_is_still_read(produced):
    data = {name: value for name, value in to_json(produced[1]).items() if name not in ("agreement", "second_views")}
    validator("audit").validate(data)
    assert from_json(data) == produced[1]


def test_a_row_may_hold_what_a_further_judge_sees(produced):
    row = produced[0].read_results().slice(0, 1).to_pylist()[0]
    validator("results").validate(row | {"by_clip_gender_male": 0.5, "by_clip_skin_tone_dark": None})
    with pytest.raises(ValidationError):
        validator("results").validate(row | {"by_clip_gender_male": 1.5})


@pytest.mark.parametrize("change", [{"status": "asleep"}, {"p_gender_male": 1.5}, {"face": 1}, {"seed": None}])
def test_the_row_schema_refuses_what_the_contract_does_not_promise(produced, change):
    row = produced[0].read_results().slice(0, 1).to_pylist()[0]
    with pytest.raises(ValidationError):
        validator("results").validate(row | change)


def test_a_prompt_without_a_classified_image_is_null_and_not_zero(produced):
    (row, *_) = [row for row in to_json(produced[1])["results"] if row["prompt_id"] == "ghost"]
    assert (row["n"], row["shares"], row["fairness_discrepancy"]) == (0, {}, None)
    assert row["statuses"]["failed"] == 8


def test_reading_gives_the_written_result_back(produced):
    run, result = produced
    write_audit_json(run, result)
    assert read_audit_json(run) == result


def test_a_number_that_is_not_finite_is_written_as_null_and_read_as_nan(produced):
    result = produced[1]
    broken = Measurement(math.nan, 4, "metric:kid", low=None, high=None, extra={"noise_floor": math.inf})
    quality = (result.quality[0], replace(result.quality[1], kid=broken))
    data = json.loads(json.dumps(to_json(replace(result, quality=quality)), allow_nan=False))
    validator("audit").validate(data)
    assert data["quality"][1]["kid"]["value"] is None
    found = from_json(data).quality[1].kid
    assert math.isnan(found.value)
    assert math.isnan(found.extra["noise_floor"])


def test_a_file_written_before_measures_and_intersections_is_valid_and_read_without_them(produced):
    data = json.loads(json.dumps(to_json(produced[1])))
    del data["intersections"]
    for row in (*data["results"], *data["overall"]):
        del row["measures"]
    validator("audit").validate(data)
    read = from_json(data)
    assert read.intersections == ()
    assert all(row.measures == {} for row in read.results)
    assert read.changes == produced[1].changes


def test_an_older_file_has_the_distance_of_an_edited_arm_from_the_reference_beside_that_from_the_baseline(produced):
    result = produced[1]
    kid = Measurement(0.25, 16, "metric:kernel_distance|pairs:left out|net:features|against:baseline|n:16")
    quality = (result.quality[0], replace(result.quality[1], kid=kid))
    data = json.loads(json.dumps(to_json(replace(result, quality=quality))))
    for row in data["quality"]:
        del row["fid_to_reference"], row["kid_to_reference"]
    data["quality"][1]["kid"] |= {"to_reference": 0.5, "baseline_to_reference": 0.75}
    validator("audit").validate(data)
    baseline, mended = from_json(data).quality
    signature = "metric:kernel_distance|net:features|against:reference|n:16"
    assert mended.kid_to_reference == Measurement(0.5, 16, signature)
    assert (baseline.kid_to_reference, mended.fid_to_reference) == (None, None)


def test_distances_from_a_reference_come_back_whole(produced):
    found = Measurement(0.25, 16, "metric:kernel_distance", extra={"standard_error": 0.125, "blocks": 16.0})
    result = replace(produced[1], quality=tuple(replace(row, kid_to_reference=found) for row in produced[1].quality))
    data = json.loads(json.dumps(to_json(result), allow_nan=False))
    validator("audit").validate(data)
    assert from_json(data) == result


def test_another_schema_version_is_refused(produced):
    with pytest.raises(ValueError, match=r"schema version 7, expected 3 or older; render the run with the release"):
        from_json({**to_json(produced[1]), "schema_version": 7})


def test_the_table_has_a_line_per_group_and_one_for_a_prompt_without_any(produced):
    result = produced[1]
    lines = list(csv.DictReader(io.StringIO(to_csv(result))))
    expected = sum(max(1, len(row.shares)) for row in (*result.results, *result.overall))
    assert len(lines) == expected
    (male,) = [x for x in lines if (x["prompt_id"], x["arm"], x["group"]) == ("nurse", "mended", "male")]
    (row,) = [r for r in result.results if (r.prompt_id, r.arm, r.attribute) == ("nurse", "mended", "gender")]
    assert float(male["share"]) == row.shares["male"].value
    assert float(male["plug_in"]) == row.fairness_discrepancy.plug_in
    assert float(male["soft_discrepancy"]) == row.fairness_discrepancy.soft
    found = row.measures["total_variation"]
    ends = ("total_variation", "total_variation_low", "total_variation_high")
    assert tuple(float(male[name]) for name in ends) == (found.value, found.low, found.high)
    ghost = next(line for line in lines if line["prompt_id"] == "ghost")
    assert (ghost["n"], ghost["share"], ghost["group"]) == ("0", "", "")


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\tx", " =1", "\n=1", "＝1", "\N{NO-BREAK SPACE}=1", "\x0b=1"]
)
def test_no_text_of_the_table_is_a_formula(result, text):
    row = replace(result.results[0], prompt_id=text, arm=text, attribute=text)
    row = replace(row, shares={text: next(iter(row.shares.values()))})
    (line,) = csv.DictReader(io.StringIO(to_csv(replace(result, results=(row,), overall=()))))
    assert [line[name] for name in ("prompt_id", "arm", "attribute", "group")] == [f"'{text}"] * 4
    assert float(line["share"]) >= 0


def test_the_table_of_intersections_has_a_line_per_combination(result):
    lines = list(csv.DictReader(io.StringIO(intersections_to_csv(result))))
    assert len(lines) == sum(len(pair.cells) for pair in result.intersections)
    pair, line = result.intersections[0], lines[0]
    cell, v = pair.cells[0], pair.dependence.cramers_v
    names = ("prompt_id", "arm", "attribute_1", "group_1")
    assert [line[name] for name in names] == ["", "baseline", "gender", "female"]
    assert (int(line["count"]), float(line["expected"]), line["small"]) == (cell.count, cell.expected, "false")
    assert (float(line["cramers_v"]), float(line["cramers_v_high"])) == (v.value, v.high)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "\n=1"])
def test_no_text_of_the_table_of_intersections_is_a_formula(result, text):
    pair = result.intersections[0]
    cell = replace(pair.cells[0], groups=(text, text))
    pair = replace(pair, prompt_id=text, arm=text, attributes=(text, text), cells=(cell,), dependence=None)
    (line,) = csv.DictReader(io.StringIO(intersections_to_csv(replace(result, intersections=(pair,)))))
    names = ("prompt_id", "arm", "attribute_1", "attribute_2", "group_1", "group_2")
    assert [line[name] for name in names] == [f"'{text}"] * 6
    assert line["cramers_v"] == ""


def test_a_result_of_version_1_is_read_with_what_its_counts_can_tell(produced):
    data = to_json(produced[1])
    old = {name: data[name] for name in data if name not in NEW} | {"schema_version": 1}
    for row in (*old["results"], *old["overall"]):
        for name in ("bounds", "discrepancy_bounds", "corrected", "measures"):
            del row[name]
        if row["fairness_discrepancy"]:
            found = row["fairness_discrepancy"]
            kept = {name: found[name] for name in ("expected_at_parity", "n")}
            row["fairness_discrepancy"] = kept | {
                "value": found["soft"], "plug_in_soft": found["soft"], "plug_in_hard": found["plug_in"]
            }  # fmt: skip
    for row in old["overall"]:
        row["mean_over_prompts"] = 0.3
    read = from_json(json.loads(json.dumps(old)))
    now = {(row.prompt_id, row.arm, row.attribute): row for row in produced[1].results}
    for row in read.results:
        same = now[row.prompt_id, row.arm, row.attribute]
        assert row.shares == same.shares
        if row.n > 1:
            assert row.bounds == same.bounds
            assert row.fairness_discrepancy == same.fairness_discrepancy
    assert (read.changes, read.intersections) == ((), ())
    for row, same in zip(read.overall, produced[1].overall, strict=True):
        assert row.mean_over_prompts == same.mean_over_prompts
        assert row.fairness_discrepancy == same.fairness_discrepancy


def test_a_file_of_version_2_is_counted_again_and_keeps_its_soft_figures_under_their_name(tmp_path):
    (tmp_path / AUDIT).write_text(VERSION_2.read_text())
    read, old = read_audit_json(RunDirectory(tmp_path)), json.loads(VERSION_2.read_text())
    validator("audit").validate(json.loads(json.dumps(to_json(read))))
    assert read.schema_version == 2
    nurse, before = read.results[0].fairness_discrepancy, old["results"][0]["fairness_discrepancy"]
    assert (before["value"], before["plug_in_hard"]) == pytest.approx((0.025, 0.424), abs=0.001)
    assert (nurse.plug_in, nurse.soft) == pytest.approx((before["plug_in_hard"], before["plug_in_soft"]))
    assert nurse.value == pytest.approx(math.sqrt(0.18 - 0.32 / 49))  # 80 % and 20 %, without what chance adds
    assert (nurse.p_parity, nurse.p_adjusted) == pytest.approx((before["p_parity"], before["p_adjusted"]))
    mean = read.overall[0].mean_over_prompts
    assert mean.soft == pytest.approx(old["overall"][0]["mean_over_prompts"]["plug_in_soft"])
    assert mean.value > 0.25
    assert read.changes == ()  # theirs were of mean probabilities, and counted ones need the single images
    assert [(verdict.verdict, verdict.note) for verdict in read.verdicts] == [("pass", JUDGED_SOFT), ("pass", "")]
    text = render(read, Pictures({}, {}))
    assert text.count(JUDGED_SOFT) == 1
    assert "schema version 2" in text
