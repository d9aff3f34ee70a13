"""Only the pilot determines the number of images; the designed share has the interval of the design."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from audit.config.settings import AuditConfig
from audit.measure.inference.intervals import share_estimate
from audit.measure.prompts.stratified import pooled_share
from audit.measure.shares.two_stage import images_to_make, two_stage_interval
from audit.planning.plan import plan_shards
from audit.records.attributes import Attribute
from audit.records.work import Prompt
from audit.results.arm_rows import arm_rows
from audit.results.summary import SummaryPlan, summarise
from audit.results.two_stages import Stages, second_stage
from audit.storage.rows import results_schema, row_schema
from audit.storage.run_directory import RunDirectory

GENDER, AGE = Attribute("gender", ("female", "male")), Attribute("age", ("young", "adult", "old"))
ATTRIBUTES = (GENDER, AGE)
PROMPTS = tuple(Prompt(name, f"a {name}", name) for name in ("nurse", "guard"))
BATCH, PILOT = 16, 20
WOMEN = {"nurse": 0.5, "guard": 0.05}


def stages(attribute="gender", **changes):
    asked = {"attribute": attribute, "half_width": 0.1} | changes
    prompts = {"images_per_prompt": PILOT, "two_stage": asked}
    config = {"name": "trial", "attributes": {a.name: a.groups for a in ATTRIBUTES}, "prompts": prompts}
    audit = AuditConfig.model_validate(config)
    return Stages.of(audit.prompts, audit.attributes)


def row(arm, prompt_id, index, failed=False):
    one, two = np.random.default_rng([index, len(prompt_id), arm == "mended"]).uniform(size=2)
    male, age = float(one >= WOMEN[prompt_id]), np.eye(3)[int(3 * two)]
    named = {"arm": arm, "prompt_id": prompt_id, "index": index, "seed": index}
    perceived = {"p_gender_female": 1 - male, "p_gender_male": male}
    perceived |= {f"p_age_{group}": p for group, p in zip(AGE.groups, age, strict=True)}
    if failed:
        return named | dict.fromkeys(perceived) | {"status": "no_face"}
    return named | perceived | {"status": "classified"}


def write(run, shards, failed=lambda index: False):
    for shard in shards:
        found = [
            row(arm, key.prompt_id, key.index, failed(key.index))
            for arm in ("baseline", "mended")
            for key in shard.keys
        ]
        run.write_shard(shard.id, pa.Table.from_pylist(found, schema=row_schema(ATTRIBUTES)))


@pytest.fixture
def run(tmp_path):
    found = RunDirectory(tmp_path)
    found.create({"name": "trial"}, {})
    return found


def women(prompt_id, count, arm="baseline"):
    return sum(row(arm, prompt_id, index)["p_gender_female"] == 1 for index in range(count))


def test_the_second_stage_continues_after_the_pilot_and_is_larger_for_more_even_shares(run):
    pilot = plan_shards(PROMPTS, PILOT, BATCH)
    write(run, pilot)
    further = second_stage(stages(), run, pilot, BATCH)
    for prompt in PROMPTS:
        own = [shard for shard in further if shard.prompt == prompt]
        total = images_to_make(stages().design, PILOT, women(prompt.id, PILOT))
        assert [index for shard in own for index in shard.indices] == list(range(PILOT, total))
        assert [shard.number for shard in own] == list(range(2, 2 + len(own)))
        assert {len(shard.indices) for shard in own[:-1]} <= {BATCH}
    sizes = {p.id: sum(len(s.indices) for s in further if s.prompt == p) for p in PROMPTS}
    assert sizes["nurse"] > sizes["guard"] > 0


def test_the_second_stage_is_the_same_after_a_stop_and_for_other_labels_in_other_arms(run):
    pilot = plan_shards(PROMPTS, PILOT, BATCH)
    write(run, pilot)
    first = second_stage(stages(), run, pilot, BATCH)
    write(run, first[:2])  # a part of it is finished, then the run is stopped
    assert second_stage(stages(), run, pilot, BATCH) == first
    assert second_stage(stages(group="male"), run, pilot, BATCH) == first


def test_a_prompt_with_an_incomplete_pilot_gets_no_second_stage_yet(run):
    pilot = plan_shards(PROMPTS, PILOT, BATCH)
    write(run, pilot[:-1])
    assert {shard.prompt.id for shard in second_stage(stages(), run, pilot[:-1], BATCH)} == {"nurse"}


def test_more_images_are_made_to_replace_unclassified_ones(run):
    pilot = plan_shards(PROMPTS[:1], PILOT, BATCH)
    write(run, pilot, failed=lambda index: index % 2 == 1)
    known = sum(row("baseline", "nurse", index)["p_gender_female"] == 1 for index in range(0, PILOT, 2))
    (*_, last) = second_stage(stages(), run, pilot, BATCH)
    assert last.indices[-1] + 1 == images_to_make(stages().design, PILOT // 2, known)


def sampled(run, failed=lambda index: False, **changes):
    design = stages(**changes)
    pilot = plan_shards(PROMPTS, PILOT, BATCH)
    write(run, pilot, failed)
    further = second_stage(design, run, pilot, BATCH)
    write(run, further, failed)
    shards = sorted([*pilot, *further], key=lambda shard: (PROMPTS.index(shard.prompt), shard.number))
    plan = SummaryPlan("trial", ATTRIBUTES, tuple(shards), ("baseline", "mended"), stages=design.over(shards))
    return design, shards, summarise(run, plan)


def test_only_the_designed_share_has_the_interval_of_the_design(run):
    design, _, result = sampled(run)
    for found in result.results:
        total = result.two_stage.images[found.prompt_id]
        own = (found.arm, found.attribute) == ("baseline", "gender")
        for share in found.shares.values():
            usual = share_estimate(round(share.value * found.n), found.n)
            assert (share == usual) is not own
        if own:
            exact = two_stage_interval(design.design, women(found.prompt_id, PILOT), women(found.prompt_id, total))
            female, male = (found.shares[group] for group in ("female", "male"))
            assert (female.low, female.high) == pytest.approx((exact.low, exact.high))
            assert (1 - male.high, 1 - male.low) == pytest.approx((exact.low, exact.high), abs=1e-6)
    for pool in result.overall:
        rows = [row for row in result.results if (row.arm, row.attribute) == (pool.arm, pool.attribute)]
        for group, share in pool.shares.items():
            counts = [round(row.shares[group].value * row.n) for row in rows]
            assert share == pooled_share(counts, [row.n for row in rows])


def test_with_several_groups_only_the_named_one_has_the_required_precision(run):
    _, _, result = sampled(run, attribute="age", group="old")
    [found] = [r for r in result.results if (r.prompt_id, r.arm, r.attribute) == ("nurse", "baseline", "age")]
    exact = {
        group: share != share_estimate(round(share.value * found.n), found.n) for group, share in found.shares.items()
    }
    assert exact == {"young": False, "adult": False, "old": True}


def test_the_result_has_the_numbers_of_images_made_and_saved(run):
    design, shards, result = sampled(run)
    found = result.two_stage
    assert (found.attribute, found.group, found.pilot, found.half_width) == ("gender", "female", PILOT, 0.1)
    assert found.images == {p.id: sum(len(shard.indices) for shard in shards if shard.prompt == p) for p in PROMPTS}
    assert found.saving == pytest.approx(2 * design.design.single_stage / sum(found.images.values()))
    assert found.widest == max(
        (row.shares["female"].high - row.shares["female"].low) / 2
        for row in result.results
        if (row.arm, row.attribute) == ("baseline", "gender")
    )


def test_a_prompt_with_an_incomplete_pilot_has_the_usual_interval():
    table = pa.Table.from_pylist(
        [row("baseline", "guard", index) for index in range(60)], schema=results_schema(ATTRIBUTES)
    )
    rows = arm_rows(table, "baseline", ATTRIBUTES, {"guard": 60})
    whole = replace(stages(), piloted=frozenset({"guard"}))
    assert whole.interval(rows, "gender", "female", "guard") is not None
    assert stages().interval(rows, "gender", "female", "guard") is None
    assert whole.interval(rows, "gender", "female", None) is None


def test_a_gate_on_the_designed_share_uses_the_interval_of_the_design(run):
    design, shards, _ = sampled(run)
    gate = {"name": "some", "measure": "share:female", "attribute": "gender", "prompt": "guard", "min": 0.01}
    config = AuditConfig.model_validate({"name": "x", "gates": [gate]})
    plan = SummaryPlan("trial", ATTRIBUTES, tuple(shards), ("baseline", "mended"), gates=config.gates)
    [usual] = summarise(run, plan).verdicts
    [staged] = summarise(run, replace(plan, stages=design.over(shards))).verdicts
    exact = two_stage_interval(design.design, women("guard", PILOT), women("guard", staged.n))
    assert (staged.low, staged.high) == pytest.approx((exact.low, exact.high))
    assert (usual.low, usual.high) != (staged.low, staged.high)


def test_images_outside_the_groups_of_the_attribute_have_no_label(run):
    """Half of the pilot shows an age that is not among the design's groups."""

    def aged(index):
        gone = {f"p_age_{group}": None for group in AGE.groups}
        return row("baseline", "guard", index) | (gone | {"outside_age": True} if index % 2 else {})

    [pilot] = plan_shards(PROMPTS[1:], PILOT, PILOT)
    assert pilot.prompt.id == "guard"
    table = pa.Table.from_pylist(list(map(aged, pilot.indices)), schema=row_schema(ATTRIBUTES))
    run.write_shard(pilot.id, table)
    design = stages("age", group="old").design
    further = second_stage(stages("age", group="old"), run, [pilot], BATCH)
    old = sum(row("baseline", "guard", index)["p_age_old"] == 1 for index in range(0, PILOT, 2))
    assert sum(len(shard.indices) for shard in further) == images_to_make(design, PILOT // 2, old) - PILOT
    rows = arm_rows(table.drop_columns(["features"]), "baseline", ATTRIBUTES, {"guard": PILOT})
    found = stages("age", group="old").over([pilot]).interval(rows, "age", "old", "guard")
    assert found.n == PILOT // 2
