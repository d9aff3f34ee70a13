"""The summary is computed from the rows, does not depend on the order of shards, and never replaces missing data."""

import os
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import false_discovery_control

from audit.analyses.attribution import feature_findings
from audit.config.sections import GateConfig
from audit.measure.discrepancy import fairness
from audit.measure.discrepancy.group_measures import MOST_GROUPS, group_measures
from audit.measure.image_sets.frechet import FeatureStats, frechet_distance
from audit.measure.image_sets.kernel import kernel_distance
from audit.measure.inference.intervals import share_estimate
from audit.measure.prompts.stratified import stratified_mean, stratified_share
from audit.planning.targets import AuditTargets
from audit.records.attributes import Attribute, SecondOpinion, TargetSource
from audit.records.estimates import OverPrompts
from audit.records.work import Prompt, Shard
from audit.results.quality import kernel_sample
from audit.results.summary import LensEvidence, SummaryPlan, summarise
from audit.storage.outside.picture import READING
from audit.storage.rows import clip_d_columns, results_schema, row_schema
from audit.storage.run_directory import RunDirectory

ATTRIBUTES = (Attribute("gender", ("female", "male")), Attribute("age", ("young", "adult", "old")))
ARMS = ("baseline", "mended")
PROMPTS = tuple(Prompt(id=name, text=f"a face photo of a {name}", occupation=name) for name in ("nurse", "guard"))
SHARDS = tuple(Shard(prompt, number, (2 * number, 2 * number + 1)) for prompt in PROMPTS for number in range(4))
DIMENSIONS = 3


def row(arm, prompt, index, **changes):
    rng = np.random.default_rng([index, len(prompt.id), ord(prompt.id[0]), len(arm)])
    male, age = rng.uniform(), rng.dirichlet((1, 1, 1))
    perceived = {"p_gender_female": 1 - male, "p_gender_male": male}
    perceived |= {f"p_age_{group}": p for group, p in zip(("young", "adult", "old"), age, strict=True)}
    name = {"arm": arm, "prompt_id": prompt.id, "index": index, "seed": index, "status": "classified"}
    scores = {"clip_i": None if arm == "baseline" else rng.uniform(0.8, 1), "clip_t": rng.uniform(0.2, 0.3)}
    features = rng.normal(size=DIMENSIONS).tolist()
    return name | perceived | scores | {"p_prompt_shown": rng.uniform(), "features": features} | changes


FAILED = {
    "status": "failed", "p_gender_female": None, "p_gender_male": None, "p_age_young": None, "p_age_adult": None,
    "p_age_old": None, "p_prompt_shown": None, "clip_i": None, "clip_t": None, "features": None,
}  # fmt: skip


def write(path, change=lambda arm, prompt, index: {}, shards=SHARDS, attribution=None, arms=ARMS):
    run = RunDirectory(path)
    run.create({"name": "test"}, {"torch": "x"})
    for shard in shards:
        keys = [(arm, shard.prompt, index) for index in reversed(shard.indices) for arm in arms]
        found = [row(*key, **change(*key)) for key in keys]
        part = None if attribution is None else attribution(shard)
        parts = {} if part is None else {"attribution": part}
        run.write_shard(shard.id, pa.Table.from_pylist(found, schema=row_schema(ATTRIBUTES)), parts)
    return run


def plan(**changes):
    signatures = {"clip_signature": "net:clip", "feature_signature": "net:features"}
    fixed = {"run_id": "test-1", "attributes": ATTRIBUTES, "shards": SHARDS, "arms": ARMS}
    return SummaryPlan(**fixed | signatures | changes)


def column(run, arm, name, prompt=None):
    table = run.read_results().to_pylist()
    return np.array([r[name] for r in table if r["arm"] == arm and prompt in (None, r["prompt_id"])], dtype=float)


def only(items, **wanted):
    (found,) = [item for item in items if all(getattr(item, name) == value for name, value in wanted.items())]
    return found


def test_results_are_sorted_by_arm_prompt_and_index_without_features(tmp_path):
    run = write(tmp_path, shards=SHARDS[::-1])
    summarise(run, plan())
    table = run.read_results()
    keys = list(zip(*(table[name].to_pylist() for name in ("arm", "prompt_id", "index")), strict=True))
    assert keys == [(arm, prompt.id, index) for arm in ARMS for prompt in PROMPTS for index in range(8)]
    assert table.schema.equals(results_schema(ATTRIBUTES))


def test_the_order_in_which_shards_were_finished_has_no_effect(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", shards=SHARDS[::-1])
    assert summarise(first, plan()) == summarise(second, plan())
    assert first.file("results.parquet").read_bytes() == second.file("results.parquet").read_bytes()


def test_shares_and_discrepancy_of_a_prompt_use_only_its_rows(tmp_path):
    run = write(tmp_path)
    result = summarise(run, plan())
    male = column(run, "mended", "p_gender_male", "guard")
    found = only(result.results, prompt_id="guard", arm="mended", attribute="gender")
    assert found.n == 8
    assert found.shares["male"] == share_estimate(int((male > 0.5).sum()), 8)
    assert found.fairness_discrepancy.plug_in == pytest.approx(abs((male > 0.5).mean() - 0.5) * np.sqrt(2))
    assert found.fairness_discrepancy.soft == pytest.approx(abs(male.mean() - 0.5) * np.sqrt(2))
    assert found.fairness_discrepancy.expected_at_parity == fairness.expected_at_parity(8, (0.5, 0.5))
    assert len(result.results) == len(PROMPTS) * len(ARMS) * len(ATTRIBUTES)


def test_opposite_skews_cancel_in_the_pool_and_not_in_the_mean_over_prompts(tmp_path):
    def skewed(arm, prompt, index):
        male = 0.9 if prompt.id == "guard" else 0.1
        return {"p_gender_male": male, "p_gender_female": 1 - male}

    result = summarise(write(tmp_path, skewed), plan())
    overall = only(result.overall, arm="baseline", attribute="gender")
    assert overall.prompt_id is None
    assert overall.n == 16
    assert (overall.fairness_discrepancy.plug_in, overall.mean_over_prompts.value) == (0, pytest.approx(np.sqrt(0.5)))
    assert overall.fairness_discrepancy.soft == pytest.approx(0, abs=1e-6)
    assert overall.mean_over_prompts.soft == pytest.approx(0.4 * np.sqrt(2), rel=1e-5)


UNSURE = Shard(PROMPTS[0], 0, tuple(range(300)))
"""The judge classifies 240 of these 300 images as female, with probabilities close to 0.5."""


def unsure(arm, prompt, index):
    female = 0.53 if index < 240 else 0.47
    return {"p_gender_female": female, "p_gender_male": 1 - female}


def test_with_an_uncertain_judge_the_discrepancy_uses_counts_and_soft_uses_probabilities(tmp_path):
    gate = GateConfig(
        name="balanced", measure="fairness_discrepancy", attribute="gender", arm="baseline", prompt="nurse", max=0.1
    )
    run = write(tmp_path, unsure, shards=(UNSURE,), arms=("baseline",))
    result = summarise(run, plan(shards=(UNSURE,), arms=("baseline",), gates=(gate,)))
    found = only(result.results, attribute="gender")
    counted = found.fairness_discrepancy
    assert found.shares["female"].value == 0.8
    assert counted.plug_in == pytest.approx(0.3 * np.sqrt(2))  # the example in docs/explanation/numbers.md
    assert counted.low < counted.value < counted.plug_in < counted.high
    assert counted.value == pytest.approx(0.424, abs=0.002)
    assert counted.expected_at_parity == fairness.expected_at_parity(300, (0.5, 0.5))
    assert counted.soft == pytest.approx((0.8 * 0.53 + 0.2 * 0.47 - 0.5) * np.sqrt(2))  # 0.025
    assert found.is_finding
    [verdict] = result.verdicts
    assert (verdict.verdict, verdict.value) == ("fail", counted.value)
    assert only(result.overall, attribute="gender").mean_over_prompts.value == counted.value


def test_the_change_by_an_edit_uses_counted_shares_too(tmp_path):
    def evened(arm, prompt, index):
        female = 0.53 if index < (240 if arm == "baseline" else 150) else 0.47
        return {"p_gender_female": female, "p_gender_male": 1 - female}

    [change] = summarise(write(tmp_path, evened, shards=(UNSURE,)), plan(shards=(UNSURE,))).changes[:1]
    assert change.shares["female"].value == pytest.approx(-0.3)
    assert change.squared.value == pytest.approx(-0.18, abs=0.003)  # from 0.3² + 0.3² to 0; with probabilities 0.0006
    assert change.squared.high < -0.1


def test_p_values_of_arms_and_of_prompts_are_adjusted_separately(tmp_path):
    result = summarise(write(tmp_path), plan())
    for rows in (result.overall, result.results):
        for arm in ARMS:
            found = [row.fairness_discrepancy for row in rows if row.arm == arm]
            expected = false_discovery_control([one.p_parity for one in found])
            assert [one.p_adjusted for one in found] == pytest.approx(expected)
            assert [one.p_adjusted for one in found] != [one.p_parity for one in found]


def test_the_interval_of_a_mean_discrepancy_ends_at_the_largest_possible_value(tmp_path):
    def men(arm, prompt, index):
        return {"p_gender_male": 1.0, "p_gender_female": 0.0}

    mean = only(summarise(write(tmp_path, men), plan()).overall, arm="baseline", attribute="gender").mean_over_prompts
    assert mean.low < mean.value == mean.high == pytest.approx(np.sqrt(0.5))


OWN = AuditTargets(
    {"nurse": {"gender": (0.9, 0.1)}, "guard": {"gender": (0.3, 0.7)}},
    {"gender": TargetSource("csv", "labour.csv", "00ff", ("a survey",))},
)


def test_every_prompt_is_compared_with_its_target_and_the_pool_with_their_mean(tmp_path):
    def on_target(arm, prompt, index):
        male = float(index < (1 if prompt.id == "nurse" else 7))
        return {"p_gender_male": male, "p_gender_female": 1 - male}

    tens = tuple(Shard(prompt, 0, tuple(range(10))) for prompt in PROMPTS)
    result = summarise(write(tmp_path, on_target, shards=tens), plan(targets=OWN, shards=tens))
    rows = [row for row in (*result.results, *result.overall) if row.attribute == "gender"]
    assert [row.fairness_discrepancy.plug_in for row in rows] == pytest.approx([0] * 6, abs=1e-6)
    assert [row.fairness_discrepancy.soft for row in rows] == pytest.approx([0] * 6, abs=1e-6)
    assert only(result.overall, arm="mended", attribute="gender").mean_over_prompts.value == pytest.approx(0, abs=1e-6)
    assert only(rows, arm="mended", prompt_id="guard").target == {"female": 0.3, "male": 0.7}
    assert only(rows, arm="mended", prompt_id=None).target == pytest.approx({"female": 0.6, "male": 0.4})
    assert result.targets == {"gender": OWN.sources["gender"], "age": TargetSource("uniform")}
    assert only(result.overall, arm="mended", attribute="age").target == dict.fromkeys(("young", "adult", "old"), 1 / 3)


def test_a_pool_weighs_targets_by_the_images_that_were_classified(tmp_path):
    result = summarise(
        write(tmp_path, lambda arm, prompt, index: FAILED if prompt.id == "nurse" and index > 1 else {}),
        plan(targets=OWN),
    )
    overall = only(result.overall, arm="mended", attribute="gender")
    assert overall.target["female"] == pytest.approx((2 * 0.9 + 8 * 0.3) / 10)


def test_a_change_uses_the_target_of_its_prompt(tmp_path):
    def moved(arm, prompt, index):
        male = index % 2 if arm == "baseline" else 0
        return {"p_gender_male": male, "p_gender_female": 1 - male}

    targets = AuditTargets({"nurse": {"gender": (1.0, 0.0)}})
    changes = summarise(write(tmp_path, moved), plan(targets=targets)).changes
    nurse, guard = (only(changes, prompt_id=name, attribute="gender").squared.value for name in ("nurse", "guard"))
    assert nurse < -0.4 < 0.4 < guard  # all women: on target for nurses, far from equal shares
    assert only(changes, prompt_id=None, attribute="gender").squared.value == pytest.approx((nurse + guard) / 2)


def test_unclassified_images_are_counted_but_not_in_shares(tmp_path):
    def broken(arm, prompt, index):
        if arm == "mended" and prompt.id == "nurse" and index < 3:
            return FAILED if index == 0 else {"status": "low_confidence"}
        return {}

    run = write(tmp_path, broken)
    result = summarise(run, plan())
    found = only(result.results, prompt_id="nurse", arm="mended", attribute="age")
    assert found.n == found.fairness_discrepancy.n == found.shares["old"].n == 5
    assert found.statuses == {
        "classified": 5, "outside_groups": 0, "low_confidence": 2, "no_face": 0, "failed": 1, "unlabelled": 0
    }  # fmt: skip
    quality = only(result.quality, arm="mended")
    assert (quality.clip_i.n, quality.clip_t.n, quality.fid.n, quality.prompt_shown.n) == (15, 15, 15, 15)


def test_a_prompt_without_a_classified_image_has_no_share_and_no_discrepancy(tmp_path):
    result = summarise(write(tmp_path, lambda arm, prompt, index: FAILED if prompt.id == "nurse" else {}), plan())
    for found in (r for r in result.results if r.prompt_id == "nurse"):
        assert (found.n, found.shares, found.fairness_discrepancy) == (0, {}, None)
        assert found.statuses["failed"] == 8
    guard = only(result.results, prompt_id="guard", arm="baseline", attribute="gender")
    overall = only(result.overall, arm="baseline", attribute="gender")
    assert (overall.mean_over_prompts.value, overall.mean_over_prompts.n) == (guard.fairness_discrepancy.value, 1)


def test_an_arm_of_failed_images_has_no_quality_figures(tmp_path):
    result = summarise(write(tmp_path, lambda arm, prompt, index: FAILED if arm == "mended" else {}), plan())
    found = only(result.quality, arm="mended")
    assert (found.clip_i, found.clip_t, found.fid, found.kid, found.prompt_shown) == (None,) * 5
    assert found.attribute_shift == {}
    assert only(result.overall, arm="mended", attribute="age").mean_over_prompts is None


def test_clip_scores_have_an_interval_a_signature_and_a_rescaled_value(tmp_path):
    run = write(tmp_path)
    result = summarise(run, plan())
    found = only(result.quality, arm="mended").clip_i
    expected = stratified_mean(column(run, "mended", "clip_i"), np.repeat([0, 1], 8))
    assert found.like_these is None  # two prompts are too few for an interval for prompts like these
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert found.extra == {"rescaled": pytest.approx((expected.value + 1) / 2)}
    assert found.signature == "metric:clip_i|net:clip|n:16"
    baseline = only(result.quality, arm="baseline")
    assert (baseline.clip_i, baseline.fid, baseline.kid, baseline.attribute_shift) == (None, None, None, {})
    assert baseline.clip_t.n == 16


PAIRED_SIGNATURES = {"psnr": "peak:255", "lpips": "net:lpips|resize:none", "dino_i": "net:dino|resize:x"}


def paired(arm, prompt, index):
    """PSNR of half the images is cut at 100 dB; LPIPS is missing for one image."""
    if arm == "baseline":
        return {}
    return {"psnr": 100.0 if index % 2 else 20.0 + index, "lpips": None if index == 3 else 0.01 * index, "dino_i": 0.9}


def test_comparisons_with_the_baseline_image_have_an_interval_within_their_range_and_a_signature(tmp_path):
    run = write(tmp_path, paired)
    result = summarise(run, plan(pair_signatures=PAIRED_SIGNATURES))
    found = only(result.quality, arm="mended")
    expected = stratified_mean(column(run, "mended", "psnr"), np.repeat([0, 1], 8))
    assert (found.psnr.value, found.psnr.low) == pytest.approx((expected.value, expected.low))
    assert found.psnr.high == pytest.approx(min(expected.high, 100))
    assert 0 <= found.lpips.low <= found.lpips.value == pytest.approx(0.01 * 25 / 7)
    assert found.psnr.signature == "metric:psnr|peak:255|n:16"
    assert found.lpips.signature == "metric:lpips|net:lpips|resize:none|n:14"
    assert found.dino_i.value == pytest.approx(0.9)
    baseline = only(result.quality, arm="baseline")
    assert (baseline.psnr, baseline.lpips, baseline.dino_i) == (None, None, None)


def test_shards_of_an_older_version_without_the_comparisons_are_summarised(tmp_path):
    run = write(tmp_path / "new")
    old = RunDirectory(tmp_path / "old")
    old.create({"name": "test"}, {"torch": "x"})
    for shard in SHARDS:
        later = ["psnr", "lpips", "dino_i", *clip_d_columns(ATTRIBUTES)]
        old.write_shard(shard.id, run.read_shard(shard.id).drop_columns(later))
    found, expected = (summarise(one, plan(run_id="same")) for one in (old, run))
    assert found == expected
    assert only(found.quality, arm="mended").psnr is None
    assert old.read_results().schema.equals(results_schema(ATTRIBUTES))


def features_of(arm, prompts=PROMPTS, parity=(0, 1)):
    chosen = [(prompt, index) for prompt in prompts for index in range(8) if index % 2 in parity]
    return np.array([row(arm, *key)["features"] for key in chosen], dtype=np.float32)


def test_distances_use_all_features_and_have_a_split_half_noise_floor(tmp_path):
    quality = only(summarise(write(tmp_path), plan()).quality, arm="mended")
    stats = [FeatureStats.of(features_of(arm)) for arm in ("mended", "baseline")]
    halves = [FeatureStats.of(features_of("baseline", parity=(p,))) for p in (0, 1)]
    assert quality.fid.value == pytest.approx(frechet_distance(*stats), rel=1e-9)
    assert quality.fid.extra == {"noise_floor": pytest.approx(frechet_distance(*halves), rel=1e-9)}
    assert quality.fid.signature == "metric:frechet_distance|net:features|against:baseline|n:16"
    names = np.repeat([prompt.id for prompt in PROMPTS], 8)
    expected = kernel_distance(features_of("mended"), features_of("baseline"), (names, names), paired=True)
    assert quality.kid.value == pytest.approx(expected.value)
    assert (quality.kid.low, quality.kid.high) == pytest.approx(expected.interval())
    assert quality.kid.signature.endswith("|net:features|against:baseline|prompts:2|n:16")
    floor = kernel_distance(*(features_of("baseline", parity=(p,)) for p in (0, 1)), (names[::2], names[::2]))
    assert quality.kid.extra["noise_floor"] == pytest.approx(floor.value)


@pytest.mark.parametrize("arms", [ARMS, ("baseline",)])
def test_every_arm_including_the_baseline_has_a_distance_to_the_reference(tmp_path, arms):
    reference = np.random.default_rng(5).normal(2, 1, (9, DIMENSIONS)).astype(np.float32)
    run = write(tmp_path, arms=arms)
    quality = summarise(run, plan(arms=arms), reference=reference).quality
    assert [row.arm for row in quality] == list(arms)
    for row in quality:
        features = features_of(row.arm)
        fid = frechet_distance(FeatureStats.of(features), FeatureStats.of(reference))
        assert row.fid_to_reference.value == pytest.approx(fid, rel=1e-9)
        assert row.fid_to_reference.signature == (
            f"metric:frechet_distance|net:features|against:reference|pictures:{READING}|n:16"
        )
        names = np.repeat([prompt.id for prompt in PROMPTS], 8)
        assert row.kid_to_reference.value == pytest.approx(kernel_distance(features, reference, (names, None)).value)
        assert row.kid_to_reference.n == 16
    assert all(row.fid_to_reference is None for row in summarise(run, plan(arms=arms)).quality)


def shards_of(prompts, images):
    return tuple(
        Shard(Prompt(f"p{number}", "x", "x"), part, tuple(range(4 * part, min(4 * part + 4, images))))
        for number in range(prompts)
        for part in range(-(-images // 4))
    )


def test_the_kernel_sample_is_limited_paired_and_independent_of_the_order_of_shards(tmp_path):
    sample = kernel_sample(SHARDS, 12)
    assert len(sample) == 12
    assert sample == kernel_sample(SHARDS[::-1], 12)
    quality = only(summarise(write(tmp_path), plan(kid_images=12)).quality, arm="mended")
    assert (quality.kid.n, quality.fid.n) == (12, 16)


@pytest.mark.parametrize(("prompts", "images", "most", "counted"), [(4, 20, 48, 4), (4, 5, 48, 4), (100, 8, 60, 10)])
def test_the_kernel_sample_is_balanced_over_prompts_and_halves(prompts, images, most, counted):
    sample = kernel_sample(shards_of(prompts, images), most)
    by_prompt = [[index for name, index in sample if name == prompt] for prompt in {name for name, _ in sample}]
    assert len(by_prompt) == counted
    assert {len(indices) for indices in by_prompt} == {min(images, most // counted)}
    assert all(abs(sum(1 if index % 2 else -1 for index in indices)) <= 1 for indices in by_prompt)


def test_a_prompt_with_too_few_images_is_excluded_from_kernel_distances(tmp_path):
    def failed(arm, prompt, index):
        return FAILED if prompt.id == "guard" and index > 1 and arm == "mended" else {}

    quality = only(summarise(write(tmp_path, failed), plan()).quality, arm="mended")
    assert quality.kid.signature.endswith("|prompts:1|n:8")
    assert quality.fid.n == 10


def test_attribute_shift_is_the_mean_total_variation_over_prompts(tmp_path):
    def shifted(arm, prompt, index):
        female = arm == "mended" and prompt.id == "guard" and index < 2
        return {"p_gender_male": 0.1 if female else 0.9, "p_gender_female": 0.9 if female else 0.1}

    result = summarise(write(tmp_path, shifted), plan())
    assert only(result.quality, arm="mended").attribute_shift["gender"] == pytest.approx((2 / 8 + 0) / 2)


def test_a_prompt_counts_as_shown_from_one_half(tmp_path):
    result = summarise(write(tmp_path, lambda arm, prompt, index: {"p_prompt_shown": (0.49, 0.5)[index % 2]}), plan())
    assert only(result.quality, arm="baseline").prompt_shown == OverPrompts(**asdict(stratified_share([4, 4], [8, 8])))


def gender_attribution(shard):
    value = {"nurse": 1.0, "guard": 3.0}[shard.prompt.id] + shard.number
    return {"attribution/gender": np.full((2, 5), 2 * value, np.float32), "images": np.array(2)}


def test_a_second_judge_is_compared_and_changes_no_figure(tmp_path):
    second = SecondOpinion("clip", ATTRIBUTES[:1])
    alone = summarise(write(tmp_path / "alone"), plan())
    run = RunDirectory(tmp_path / "asked")
    run.create({"name": "test"}, {"torch": "x"})
    for shard in SHARDS:
        found = [row(arm, shard.prompt, index) for index in reversed(shard.indices) for arm in ARMS]
        for line in found:  # gives the same answers as the first one, except for images with index 3
            male = line["p_gender_male"] if line["index"] != 3 else 1 - line["p_gender_male"]
            line |= {"by_clip_gender_male": male, "by_clip_gender_female": 1 - male}
        run.write_shard(shard.id, pa.Table.from_pylist(found, schema=row_schema(ATTRIBUTES, (second,))))
    asked = summarise(run, plan(opinions=(second,)))
    assert [(a.judge, a.arm, a.attribute, a.share) for a in asked.agreement] == [
        ("clip", arm, "gender", share_estimate(14, 16)) for arm in ARMS
    ]
    assert replace(asked, agreement=(), second_views=()) == alone
    assert run.read_results().schema.equals(results_schema(ATTRIBUTES, (second,)))
    with pytest.raises(ValueError, match=r"other columns than the config requires \(by_clip_gender_female, by_clip"):
        summarise(run, plan())


def test_features_have_their_attribution_by_prompt(tmp_path):
    lens = LensEvidence(card={"name": "lens-1"}, features={"gender": {"male": [(4, 0.5, 1.5)]}})
    result = summarise(write(tmp_path, attribution=gender_attribution), plan(), lens)
    assert result.lens["name"] == "lens-1"
    assert result.lens["features"] == [
        {"attribute": "gender", "group": "male", "latent": 4, "score": 0.5, "mean_firing": 1.5,
         "by_prompt": {"nurse": pytest.approx(-1.0), "guard": pytest.approx(1.0)}}
    ]  # fmt: skip


def test_attribution_is_read_for_the_group_and_latent_of_the_feature():
    attribution = {"gender": {"nurse": np.array([[0, 1], [2, 3]]), "guard": np.array([[0, 5], [2, 13]])}}
    found = feature_findings(ATTRIBUTES, {"gender": {"male": [(1, 0.1, 0.2)], "female": [(1, 0.3, 0.4)]}}, attribution)
    assert [(f.group, f.by_prompt) for f in found] == [
        ("female", {"nurse": -2.0, "guard": 2.0}),
        ("male", {"nurse": -5.0, "guard": 5.0}),
    ]


def test_features_without_attribution_have_no_prompts(tmp_path):
    lens = LensEvidence(card={}, features={"age": {"old": [(0, 0.5, 1.5)]}})
    (found,) = summarise(write(tmp_path), plan(), lens).lens["features"]
    assert found["by_prompt"] == {}


def test_attribution_of_only_some_shards_is_refused(tmp_path):
    run = write(tmp_path, attribution=lambda shard: gender_attribution(shard) if shard.number else None)
    with pytest.raises(ValueError, match="nurse-0000 has no attribution"):
        summarise(run, plan(), LensEvidence(card={}, features={}))


def test_a_shard_that_differs_from_the_plan_is_refused(tmp_path):
    run = write(tmp_path)
    with pytest.raises(ValueError, match=r"nurse-0000: expected 4 rows, found 4 \(first difference: .*'nurse', 0"):
        summarise(run, plan(shards=(replace(SHARDS[0], indices=(1, 7)),)))
    table = run.read_shard(SHARDS[0].id)
    run.write_shard(SHARDS[0].id, pa.concat_tables([table, table]))
    with pytest.raises(ValueError, match="a repeated row"):
        summarise(run, plan())
    run.write_shard(SHARDS[0].id, table.drop_columns(["p_age_old"]))
    with pytest.raises(ValueError, match=r"other columns than the config requires \(p_age_old\)"):
        summarise(run, plan())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_age_old": None}, "expected probabilities of age"),
        ({"status": "asleep"}, "expected a status among"),
        ({"features": [1.0]}, "one length|one feature network"),
    ],
)
def test_inconsistent_rows_are_refused(tmp_path, change, message):
    run = write(tmp_path, lambda arm, prompt, index: change if index == 5 else {})
    with pytest.raises(ValueError, match=message):
        summarise(run, plan())


def test_an_unfinished_shard_or_no_shard_is_refused(tmp_path):
    run = write(tmp_path, shards=SHARDS[1:])
    with pytest.raises(FileNotFoundError, match="nurse-0000 is not finished"):
        summarise(run, plan())
    with pytest.raises(ValueError, match="expected finished shards to summarise, found none"):
        summarise(run, plan(shards=()))


def test_20_000_rows_fit_in_far_less_than_one_gib(tmp_path):
    script = textwrap.dedent("""
        import pathlib, sys
        import numpy as np, pyarrow as pa
        from audit.records.attributes import Attribute, TargetSource
        from audit.records.estimates import OverPrompts
        from audit.records.work import Prompt, Shard
        from audit.storage.rows import row_schema
        from audit.storage.run_directory import RunDirectory
        from audit.results.summary import SummaryPlan, summarise

        attribute, arms, n = Attribute("gender", ("female", "male")), ("baseline", "mended"), 250
        shards = [Shard(Prompt(f"p{i}", "x", "x"), 0, tuple(range(n))) for i in range(40)]
        run = RunDirectory(pathlib.Path(sys.argv[1]))
        run.create({}, {})
        rng = np.random.default_rng(0)
        schema = row_schema([attribute])
        for shard in shards:
            male = rng.uniform(size=2 * n).astype(np.float32)
            data = {name: [None] * 2 * n for name in schema.names}
            data |= {"arm": [a for a in arms for _ in range(n)], "prompt_id": [shard.prompt.id] * 2 * n}
            data |= {"index": [*range(n)] * 2, "seed": [*range(n)] * 2, "status": ["classified"] * 2 * n}
            data |= {"p_gender_male": male, "p_gender_female": 1 - male}
            data |= {"features": list(rng.normal(size=(2 * n, 256)).astype(np.float32))}
            run.write_shard(shard.id, pa.table(data, schema=schema))
        summarise(run, SummaryPlan("r", (attribute,), tuple(shards), arms))
        assert run.read_results().num_rows == 20_000
        # Not getrusage, because its peak is inherited from the parent process.
        status = pathlib.Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    """)
    command = [sys.executable, "-c", script, tmp_path / "run"]
    process = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    assert int(process.stdout) < 512


def test_rows_have_the_measures_of_their_counts_and_target(tmp_path):
    own = AuditTargets({prompt.id: {"age": (0.6, 0.3, 0.1)} for prompt in PROMPTS})
    result = summarise(write(tmp_path), plan(targets=own))
    for found in (*result.results, *result.overall):
        counts = [round(share.value * found.n) for share in found.shares.values()]
        target = (0.6, 0.3, 0.1) if found.attribute == "age" else (0.5, 0.5)
        expected = group_measures(counts, target)
        if found.prompt_id is not None:
            assert found.measures == expected
            continue
        assert found.measures.keys() == expected.keys()
        for name, measure in found.measures.items():  # the interval of a pool takes its prompts into account
            assert (measure.value, measure.ideal) == (expected[name].value, expected[name].ideal)
    assert only(result.overall, arm="mended", attribute="age").measures["kl_divergence"].ideal == 0


def test_a_prompt_without_a_classified_image_has_no_measures_and_no_cells(tmp_path):
    result = summarise(write(tmp_path, lambda arm, prompt, index: FAILED if prompt.id == "nurse" else {}), plan())
    assert all((found.measures == {}) == (found.prompt_id == "nurse") for found in result.results)
    assert [(pair.prompt_id, pair.n) for pair in result.intersections] == [(None, 8), (None, 8)]


def test_an_audit_with_more_groups_than_the_measures_support_has_no_measures(tmp_path):
    many = (Attribute("tone", tuple(f"t{i}" for i in range(MOST_GROUPS + 1))),)
    run, shard = RunDirectory(tmp_path), Shard(PROMPTS[0], 0, (0, 1))
    run.create({"name": "test"}, {})
    perceived = {f"p_tone_t{i}": 1 / len(many[0].groups) for i in range(len(many[0].groups))}
    rows = [
        {"arm": "baseline", "prompt_id": "nurse", "index": index, "seed": index, "status": "classified"} | perceived
        for index in shard.indices
    ]
    run.write_shard(shard.id, pa.Table.from_pylist(rows, schema=row_schema(many)))
    result = summarise(run, plan(attributes=many, shards=(shard,), arms=("baseline",)))
    assert [found.measures for found in result.results] == [{}]
