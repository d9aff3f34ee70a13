"""Tests that a result's frames have the figures of the result, in documented columns."""

from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.records.quality import Measurement
from audit.records.verdicts import Verdict
from audit.records.work import BASELINE
from audit.storage.run_directory import RESULTS
from reports.export.audit_json import to_json
from reports.frames import COLUMNS, image_frame, read_result, result_frames


@pytest.fixture(scope="module")
def frames(result):
    return result_frames(result)


def test_every_frame_has_its_documented_columns_and_no_others(frames):
    assert {name: list(frame.columns) for name, frame in frames.items()} == {
        name: list(columns) for name, columns in COLUMNS.items()
    }
    assert all(meaning for columns in COLUMNS.values() for meaning in columns.values())


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("arms", ["arm"]),
        ("attributes", ["arm", "attribute"]),
        ("prompts", ["prompt_id", "arm", "attribute"]),
        ("groups", ["prompt_id", "arm", "attribute", "group"]),
        ("changes", ["prompt_id", "arm", "attribute", "group"]),
        ("findings", ["prompt_id", "arm", "attribute"]),
    ],
)
def test_a_row_is_one_thing(frames, name, keys):
    assert len(frames[name]) > 0
    assert not frames[name].duplicated(keys).any()
    assert frames[name][keys].notna().all(axis=None)


def test_shares_of_a_prompt_add_up_and_are_in_their_intervals(frames):
    groups = frames["groups"]
    assert np.allclose(groups.groupby(["prompt_id", "arm", "attribute"])["share"].sum(), 1)
    assert (groups["share_low"] <= groups["share"]).all()
    assert (groups["share"] <= groups["share_high"]).all()
    assert (groups["possible_low"] <= groups["share"]).all()
    assert (groups["share"] <= groups["possible_high"]).all()


def test_the_figures_are_those_of_the_result(result, frames):
    row = next(r for r in result.results if (r.prompt_id, r.arm, r.attribute) == ("nurse", BASELINE, "gender"))
    prompt = frames["prompts"].set_index(["prompt_id", "arm", "attribute"]).loc[("nurse", BASELINE, "gender")]
    assert prompt["discrepancy"] == row.fairness_discrepancy.value
    assert prompt["n"] == row.n < prompt["images"] == sum(row.statuses.values())
    share = (
        frames["groups"]
        .set_index(["prompt_id", "arm", "attribute", "group"])
        .loc[("nurse", BASELINE, "gender", "male")]
    )
    assert share["corrected_high"] == row.corrected.shares["male"].high
    overall = next(r for r in result.overall if (r.arm, r.attribute) == (BASELINE, "age"))
    mean = frames["attributes"].set_index(["arm", "attribute"]).loc[(BASELINE, "age")]
    assert mean["discrepancy_like_these_high"] == overall.mean_over_prompts.like_these.high
    assert mean["worst_prompt"] == overall.worst_prompt.prompt_id


def test_findings_are_the_flagged_prompts_with_the_group_in_excess(result, frames):
    flagged = {(r.prompt_id, r.arm, r.attribute): r.most_above_target for r in result.results if r.is_finding}
    found = frames["findings"]
    assert dict(zip(zip(found.prompt_id, found.arm, found.attribute, strict=True), found.group, strict=True)) == flagged
    assert (found["share"] > found["target"]).all()


def test_comparisons_of_paired_images_are_columns_of_the_arms(result):
    psnr = Measurement(21.5, 64, "metric:psnr|peak:255|n:64", 21.1, 21.9)
    quality = (result.quality[0], replace(result.quality[1], psnr=psnr))
    arms = result_frames(replace(result, quality=quality))["arms"].set_index("arm")
    assert arms.loc["difflens-gender", ["psnr", "psnr_low", "psnr_high"]].tolist() == [21.5, 21.1, 21.9]
    assert np.isnan(arms.loc[[BASELINE], ["psnr", "lpips", "dino_i"]].astype(float)).all(axis=None)


def test_what_the_baseline_has_no_figure_for_is_nan_and_never_zero(frames):
    arms = frames["arms"].set_index("arm")
    assert np.isnan(arms.loc[BASELINE, ["clip_i", "kid", "fid"]].astype(float)).all()
    assert arms.loc["difflens-gender", "fid_noise_floor"] == 1.9


def test_a_prompt_without_a_classified_image_has_rows_without_figures(result):
    first = result.results[0]
    empty = replace(first, n=0, shares={}, fairness_discrepancy=None, corrected=None, p_departure=None)
    frames = result_frames(replace(result, results=(empty,), quality=(), changes=()))
    assert frames["groups"]["group"].tolist() == list(first.target)
    assert frames["groups"]["share"].isna().all()
    assert frames["prompts"]["discrepancy"].isna().all()
    assert frames["findings"].empty
    assert list(frames["findings"].columns) == list(COLUMNS["findings"])
    assert frames["arms"].empty


def test_verdicts_have_every_field_of_a_verdict(result, verdict):
    frame = result_frames(replace(result, verdicts=(verdict("fail"), verdict("inconclusive", value=None))))["verdicts"]
    assert list(frame.columns) == [field.name for field in fields(Verdict)]
    assert frame["verdict"].tolist() == ["fail", "inconclusive"]
    assert frame["value"].isna().tolist() == [False, True]


def test_a_run_directory_gives_its_result(result, run_directory):
    assert to_json(read_result(str(run_directory.path))) == to_json(result)


def test_every_image_of_a_run_is_a_row_and_what_was_not_perceived_is_nan(tmp_path):
    table = pa.table(
        {"arm": ["baseline"] * 2, "prompt_id": ["nurse"] * 2, "index": [0, 1], "p_gender_male": [0.9, None]}
    )
    pq.write_table(table, tmp_path / RESULTS)
    images = image_frame(str(tmp_path))
    assert images["index"].tolist() == [0, 1]
    assert images["p_gender_male"].isna().tolist() == [False, True]


def test_a_directory_without_a_result_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_result(str(tmp_path))
