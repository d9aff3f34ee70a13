"""Differences between models are established where they are planted, and nowhere else."""

import numpy as np
import pytest

from audit.measure.discrepancy.changes import two_sample_discrepancy_change
from audit.measure.shares.changes import fisher_p_value, two_sample_share_difference
from audit.records.work import BASELINE
from audit.results.comparison.compare import NothingToCompareError
from audit.results.comparison.finished_run import read_finished_run
from audit.results.models.compare import MODELS, compare_models, read_models, write_models
from audit.results.models.difference_tests import discrepancy_tests, model_differences, share_tests
from audit.results.models.places import ModelRun
from audit.results.models.records import ERROR_RATE
from audit.storage.run_directory import RESULTS, RunDirectory, UnreadableRunError
from tests.model_runs import GROUPS, SHARES, config, provenance, rows_of, three_models, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return three_models(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def found(runs):
    return compare_models("trial", runs, ["later"])


def models_of(runs):
    return [ModelRun(name, read_finished_run(run)) for name, run in runs.items()]


def means(found, attribute):
    return {(d.first, d.second): d for d in found.differences if d.group is None and d.attribute == attribute}


def test_planted_differences_of_discrepancies_are_established_and_others_are_not(found):
    gender = means(found, "gender")
    assert {pair: d.established for pair, d in gender.items()} == {
        ("first", "second"): False, ("first", "even"): True, ("second", "even"): True,
    }  # fmt: skip
    assert all(d.difference.value > 0 and d.low > 0 for d in gender.values() if d.established)
    assert not any(d.established for d in means(found, "age").values())


def test_planted_differences_of_shares_are_established_and_others_are_not(found):
    shares = [d for d in found.differences if d.group is not None]
    assert {(d.first, d.second, d.prompt_id, d.group) for d in shares if d.established} == {
        (model, "even", prompt, "female") for model in ("first", "second") for prompt in ("nurse", "guard")
    }
    assert len(shares) == 3 * 3 * (1 + 3)  # pairs × prompts × groups; of two groups one is tested


def test_the_error_rate_is_split_over_both_families_and_all_their_tests(found, runs):
    tests = list(discrepancy_tests(models_of(runs))), list(share_tests(models_of(runs)))
    smallest = [min(d.level for d in found.differences if (d.group is None) == (of == 0)) for of in (0, 1)]
    assert smallest == pytest.approx([ERROR_RATE / 2 / len(own) for own in tests])
    assert all((d.low > 0 or d.high < 0) == d.established for d in found.differences)


def test_a_share_has_the_figures_of_fishers_test_and_of_the_score_interval(found):
    [d] = [
        d
        for d in found.differences
        if (d.first, d.second, d.prompt_id, d.group) == ("first", "even", "nurse", "female")
    ]
    counts = [round(value * 80) for value in (d.first_value, d.second_value)]
    alone = two_sample_share_difference(counts[1], 80, counts[0], 80)
    assert (d.difference.value, d.difference.low, d.difference.high) == (alone.value, alone.low, alone.high)
    assert d.p_value == fisher_p_value(counts[0], 80, counts[1], 80)
    deciding = two_sample_share_difference(counts[1], 80, counts[0], 80, 1 - d.level)
    assert (d.low, d.high) == (deciding.low, deciding.high)


def test_pairs_that_are_computed_together_have_the_intervals_of_each_alone(runs):
    first, _, even = models_of(runs)
    [test] = [t for t in discrepancy_tests([first, even]) if t.compared.attribute == "gender"]
    attribute = first.run.attributes[0]
    changes = [
        two_sample_discrepancy_change(*(m.labels(BASELINE, p, attribute) for m in (even, first)), (0.5, 0.5), 0.99)
        for p in SHARES
    ]
    assert test.interval(0.99).value == pytest.approx(np.mean([change.value for change in changes]))
    alone = next(iter(discrepancy_tests([first, even]))).interval(0.99)
    together = [
        t for t in discrepancy_tests(models_of(runs)) if (t.compared.first, t.compared.second) == ("first", "even")
    ]
    assert (together[0].interval(0.99).low, together[0].interval(0.99).high) == pytest.approx((alone.low, alone.high))


def test_places_are_open_where_no_difference_is_established(found):
    places = {(d.attribute, d.model): (d.best_place, d.last_place) for d in found.discrepancies}
    assert [places["gender", model] for model in ("even", "first", "second")] == [(1, 1), (2, 3), (2, 3)]
    assert {places["age", model] for model in ("even", "first", "second")} == {(1, 3)}


def test_shares_quality_and_cost_are_side_by_side(found):
    nurse = [s.share.value for s in found.shares if (s.prompt_id, s.group) == ("nurse", "female")]
    assert nurse[0] > 0.75 > nurse[2]
    assert [(f.model, f.figure, f.value) for f in found.figures] == [
        (m, "clip_t", 0.3) for m in ("first", "second", "even")
    ]
    first, second, _ = found.costs
    assert (first.images, first.failed, first.unclassified.value) == (240, 0, 0.0)
    assert (first.seconds_per_image, second.seconds_per_image) == (0.25, None)
    assert found.waiting == ("later",)
    assert (found.missing, found.notices) == ((), ())


def test_one_model_compared_with_itself_establishes_nothing(runs):
    found = compare_models("same", {"a": runs["first"], "b": runs["first"]})
    assert not any(d.established for d in found.differences)
    assert {d.difference.value for d in found.differences} == {0.0}


def test_what_only_some_models_have_is_named(tmp_path, runs):
    other = rows_of({"nurse": 0.9, "pilot": 0.1}, arms=(BASELINE, "edited"), noise=9)
    few = [row for row in other if not (row["prompt_id"] == "pilot" and row["index"] > 0)]
    found = compare_models("trial", {**runs, "other": write_run(tmp_path / "other", few)})
    assert found.prompts == ("nurse",)
    assert found.arms == (BASELINE,)
    assert "prompt pilot: not in first and second and even" in found.missing
    assert "prompt guard: not in other" in found.missing
    assert "arm edited: not in first and second and even" in found.missing
    assert {d.mean.n for d in found.discrepancies} == {1}
    assert all(d.prompt_id in (None, "nurse") for d in found.differences if "other" in (d.first, d.second))


def test_too_few_classified_images_are_named(tmp_path, runs):
    rows = rows_of(noise=5)
    for row in rows:
        if row["prompt_id"] == "chef" and row["index"] > 0:
            row["status"] = "low_confidence"
    found = compare_models("trial", {"first": runs["first"], "shy": write_run(tmp_path / "shy", rows)})
    assert "gender of prompt chef, arm baseline: fewer than 2 classified images of shy" in found.missing
    assert {d.mean.n for d in found.discrepancies} == {2}
    assert found.costs[1].unclassified.value == pytest.approx(79 / 240)


def test_another_judge_template_or_target_is_a_notice(tmp_path, runs):
    changed = {
        "config": config(judge={"source": "other.pt"}, prompts={"template": "one {occupation}"}),
        "provenance": provenance(instruments={"judge": "judge:b"}),
        "results": [{"prompt_id": "nurse", "attribute": "gender", "target": {"female": 0.8, "male": 0.2}}],
    }
    other = write_run(tmp_path / "other", rows_of(noise=4), **changed)
    notices = " ".join(compare_models("trial", {"first": runs["first"], "other": other}).notices)
    assert "judge.source is 'bundled' for first and 'other.pt' for other" in notices
    assert "prompts.template is" in notices
    assert "the judges of first and other are not the same" in notices
    assert "targets of other differ from those of first for gender.nurse" in notices


def test_other_sampling_is_no_notice_because_models_differ_in_it(tmp_path, runs):
    other = write_run(tmp_path / "other", rows_of(noise=4), config=config(sampling={"steps": 9}))
    assert compare_models("trial", {"first": runs["first"], "other": other}).notices == ()


def test_verdicts_are_those_of_the_gates(tmp_path, runs):
    gate = {"gate": "g", "arm": BASELINE, "verdict": "fail", "level": "warn", "value": 0.1}
    rows = [[gate], [gate | {"level": "fail"}], [gate | {"level": "fail", "verdict": "inconclusive"}]]
    for number, verdicts in enumerate(rows):
        write_run(tmp_path / str(number), rows_of(noise=number), verdicts=verdicts)
    unfinished = provenance(unfinished_shards=["a"])
    write_run(tmp_path / "3", rows_of(noise=3), provenance=unfinished)
    models = compare_models("v", {str(n): RunDirectory(tmp_path / str(n)) for n in range(4)}).models
    assert [model.verdict for model in models] == ["warn", "fail", "inconclusive", "incomplete"]


def test_models_without_anything_in_common_are_refused(tmp_path, runs):
    alone = write_run(tmp_path / "alone", rows_of({"pilot": 0.5}))
    with pytest.raises(NothingToCompareError, match="prompt pilot: not in first"):
        compare_models("trial", {"first": runs["first"], "alone": alone})
    with pytest.raises(NothingToCompareError, match="at least two models"):
        compare_models("trial", {"first": runs["first"]})


def test_an_attribute_with_other_groups_is_not_compared(tmp_path, runs):
    other = write_run(
        tmp_path / "other", rows_of(noise=4), config=config(attributes=GROUPS | {"age": ["young", "old"]})
    )
    found = compare_models("trial", {"first": runs["first"], "other": other})
    assert list(found.attributes) == ["gender"]
    assert any(line.startswith("attribute age (young, old): not in first") for line in found.missing)


def test_a_refusal_lists_only_some_of_what_is_missing(tmp_path, runs):
    alone = write_run(tmp_path / "alone", rows_of({f"p{n}": 0.5 for n in range(40)}, images=2))
    with pytest.raises(NothingToCompareError, match=r"; and 35 more\. Compare"):
        compare_models("trial", {"first": runs["first"], "alone": alone})


@pytest.mark.parametrize("times", [b'{"images": 2', b'{"images": 0, "seconds": 0}', b'{"images": 3}', b"[]"])
def test_a_damaged_file_of_times_is_a_time_that_is_not_known(tmp_path, runs, times):
    other = write_run(tmp_path / "other", rows_of(noise=4))
    other.write_bytes("times.json", times)
    assert compare_models("trial", {"first": runs["first"], "other": other}).costs[1].seconds_per_image is None


@pytest.mark.parametrize("quality", ["text", [3], [{"arm": BASELINE, "clip_t": {}}], [{"clip_t": {"value": None}}]])
def test_a_quality_that_is_no_figure_is_left_out(tmp_path, runs, quality):
    other = write_run(tmp_path / "other", rows_of(noise=4), quality=quality)
    assert {f.model for f in compare_models("trial", {"first": runs["first"], "other": other}).figures} == {"first"}


def test_an_unfinished_run_is_refused(tmp_path, runs):
    with pytest.raises(UnreadableRunError, match="expected a finished run"):
        compare_models("trial", {"first": runs["first"], "none": RunDirectory(tmp_path / "none")})
    half = write_run(tmp_path / "half", rows_of(noise=4))
    data = half.read_bytes(RESULTS)
    half.write_bytes(RESULTS, data[: len(data) // 2])
    with pytest.raises(UnreadableRunError, match="expected a Parquet file"):
        compare_models("trial", {"first": runs["first"], "half": half})


def test_a_stored_comparison_is_read_again(tmp_path, found):
    place = RunDirectory(tmp_path)
    write_models(place, found)
    assert read_models(place) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "expected version 1, found 9"),
        ({"models": "x"}, "at models"),
        ({"differences": [{}]}, "at differences"),
    ],
)
def test_a_stored_comparison_of_another_form_is_refused(tmp_path, found, change, message):
    place = RunDirectory(tmp_path)
    write_models(place, found)
    place.write_json(MODELS, place.read_json(MODELS) | change)
    with pytest.raises(UnreadableRunError, match=message):
        read_models(place)


def test_a_missing_or_cut_comparison_is_refused(tmp_path, found):
    place = RunDirectory(tmp_path)
    with pytest.raises(UnreadableRunError, match="found none"):
        read_models(place)
    write_models(place, found)
    place.write_bytes(MODELS, place.read_bytes(MODELS)[:500])
    with pytest.raises(UnreadableRunError, match=r"models\.json"):
        read_models(place)


def test_the_order_of_the_models_changes_only_the_sign(runs):
    forward, back = (model_differences(list(order)) for order in (models_of(runs), models_of(runs)[::-1]))
    reverse = {(d.second, d.first, d.attribute, d.prompt_id, d.group): d for d in back}
    for d in forward:
        other = reverse[d.first, d.second, d.attribute, d.prompt_id, d.group]
        assert (d.established, d.difference.value) == (other.established, pytest.approx(-other.difference.value))


def test_steered_images_are_a_stratified_sample(tmp_path):
    rows = rows_of({"nurse": 0.5, "guard": 0.5}, arms=(BASELINE, "edited"), noise=7)
    for row in rows:
        if row["arm"] == "edited":
            group = row["index"] % 2
            row |= {"assigned": GROUPS["gender"][group], "p_gender_female": 1.0 - group, "p_gender_male": float(group)}
    runs = {name: write_run(tmp_path / name, rows) for name in ("a", "b")}
    found = compare_models("steered", runs)
    [edited] = [d for d in found.differences if (d.arm, d.attribute, d.group) == ("edited", "gender", None)]
    assert (edited.first_value, edited.second_value) == (0.0, 0.0)  # the numbers of both groups are fixed
