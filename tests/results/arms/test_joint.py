"""The joint distribution of steered attributes against its target, and rows of runs without columns by attribute."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from audit.records.attributes import Attribute
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows, arm_rows
from audit.results.arms.joint import JointTarget, joint_counts, joint_results
from audit.storage.rows import assigned_column, results_schema, with_later_columns

GROUPS = {"gender": ("female", "male"), "age": ("young", "adult", "old")}
CELLS = list(itertools.product(*GROUPS.values()))
EVEN = JointTarget(GROUPS, dict.fromkeys(CELLS, 1 / 6))


def rows(arm, cells, *, steered=None, faceless=0, prompts=1):
    """Rows in which each prompt shows these cells, and images without a face after them."""
    shown = list(cells) * prompts
    codes = [[groups.index(cell[place]) for cell in shown] for place, groups in enumerate(GROUPS.values())]
    statuses = ["classified"] * len(shown) + ["no_face"] * faceless
    probabilities = {
        name: np.vstack([np.eye(len(groups))[own], np.full((faceless, len(groups)), np.nan)])
        for (name, groups), own in zip(GROUPS.items(), codes, strict=True)
    }
    slices = {f"p{i}": slice(i * len(cells), (i + 1) * len(cells)) for i in range(prompts)}
    last = list(slices)[-1]
    slices[last] = slice(slices[last].start, len(statuses))
    groups = {} if steered is None else {
        name: np.array([cell[place] for cell in steered]) for place, name in enumerate(GROUPS)
    }  # fmt: skip
    return ArmRows(arm, np.array(statuses), probabilities, slices, {}, steered=groups)


def test_an_arm_on_target_has_distance_0_and_the_baseline_half_the_sum_of_differences():
    before = rows(BASELINE, [("male", "old")] * 9 + [("female", "young")] * 3)
    after = rows("both", CELLS * 2, steered=CELLS * 2)
    found = {
        one.arm: one for one in joint_results({BASELINE: before, "both": after}, {"both": EVEN}) if not one.prompt_id
    }
    assert found["both"].plug_in == pytest.approx(0, abs=1e-12)
    assert found["both"].shown == {"gender": 1.0, "age": 1.0}
    assert found[BASELINE].plug_in == pytest.approx((0.75 - 1 / 6) + (0.25 - 1 / 6))
    measured = found[BASELINE].total_variation
    assert measured.value == pytest.approx(found[BASELINE].plug_in)
    assert measured.low < measured.value < measured.high
    assert 0 < found["both"].expected_at_target < 0.4
    assert found[BASELINE].shown == {}


def test_margins_on_target_do_not_hide_that_the_combinations_are_off_it():
    tied = [("female", "young"), ("female", "young"), ("male", "old"), ("male", "old"), ("female", "adult")]
    tied.append(("male", "adult"))
    (_, _, whole, _) = joint_results({BASELINE: rows(BASELINE, tied), "both": rows("both", tied)}, {"both": EVEN})
    assert whole.plug_in == pytest.approx(1 / 3)


def test_images_without_a_group_are_left_out_and_prompts_are_counted_apart():
    both = rows("both", [("male", "old"), ("female", "adult")], steered=[("male", "old")] * 7, faceless=3, prompts=2)
    counts = joint_counts(both, EVEN)
    assert counts.tolist() == [[0, 1, 0, 0, 0, 1]] * 2
    found = joint_results({BASELINE: both, "both": both}, {"both": EVEN})
    assert [(one.prompt_id, one.n) for one in found[:3]] == [(None, 4), ("p0", 2), ("p1", 2)]
    assert found[0].shown == {"gender": 0.5, "age": 0.5}


def test_an_arm_without_a_single_face_has_no_figure():
    found = joint_results({BASELINE: rows(BASELINE, CELLS), "both": rows("both", [], faceless=6)}, {"both": EVEN})
    assert (found[2].n, found[2].plug_in, found[2].total_variation, found[2].cells) == (0, None, None, ())


def test_more_combinations_than_have_an_interval_still_have_the_figure():
    groups = {"gender": GROUPS["gender"], "age": tuple("abcdefg")}
    target = JointTarget(groups, dict.fromkeys(itertools.product(*groups.values()), 1 / 14))
    probabilities = {"gender": np.eye(2)[[0, 1]], "age": np.eye(7)[[0, 6]]}
    seen = ArmRows("both", np.array(["classified"] * 2), probabilities, {"p": slice(0, 2)}, {})
    found = joint_results({BASELINE: seen, "both": seen}, {"both": target})[0]
    assert (found.plug_in, found.total_variation) == (pytest.approx(12 / 14), None)


def test_rows_of_older_runs_have_no_groups_by_attribute_and_can_be_read():
    attributes = tuple(Attribute(name, groups) for name, groups in GROUPS.items())
    schema = results_schema(attributes)
    plain = {
        "arm": "m", "prompt_id": "p", "index": 0, "seed": 1, "status": "classified", "assigned": "female",
        "outside_gender": False, "outside_age": False, "p_gender_female": 1.0, "p_gender_male": 0.0,
        "p_age_young": 1.0, "p_age_adult": 0.0, "p_age_old": 0.0,
    }  # fmt: skip
    old = pa.Table.from_pylist([plain], schema=schema).drop_columns([assigned_column(name) for name in GROUPS])
    read = with_later_columns(old, schema)
    assert read.schema.equals(schema)
    found = arm_rows(read, "m", attributes, {"p": 1})
    assert (found.assigned.tolist(), dict(found.steered)) == (["female"], {})
    assert arm_rows(old, "m", attributes, {"p": 1}).steered == {}


def test_one_attribute_with_uneven_shares_is_compared_with_its_own_target():
    target = JointTarget({"gender": GROUPS["gender"]}, {("female",): 0.3, ("male",): 0.7})
    shown = [("female", "old")] * 3 + [("male", "old")] * 7
    (_, _, whole, _) = joint_results(
        {BASELINE: rows(BASELINE, shown), "a": rows("a", shown, steered=shown)}, {"a": target}
    )
    assert whole.attributes == ("gender",)
    assert [(cell.groups, cell.share) for cell in whole.cells] == [(("female",), 0.3), (("male",), 0.7)]
    assert whole.plug_in == pytest.approx(0, abs=1e-12)
    assert whole.shown == {"gender": 1.0}
