"""Two runs of one model keep the rate of false flags; a change for the worse is flagged at its place."""

import base64
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import false_discovery_control

from audit.measure.discrepancy.estimate import debiased_squared
from audit.measure.shares.changes import mcnemar_p_value
from audit.records.attributes import Attribute
from audit.records.work import ImageKey
from audit.results.comparison.compare import NothingToCompareError, compare
from audit.results.comparison.differences import Difference, differences, plain_hash
from audit.storage.rows import results_schema
from audit.storage.run_directory import AUDIT, RESULTS, RunDirectory, UnreadableRunError

GROUPS = {"gender": ["female", "male"], "age": ["young", "adult", "old"]}
ATTRIBUTES = tuple(Attribute(name, tuple(groups)) for name, groups in GROUPS.items())
SHARES = {"nurse": 0.9, "guard": 0.2, "chef": 0.5}
IMAGES = 48
AGES = (0.5, 0.3, 0.2)


def config(**changes):
    fixed = {"name": "trial", "seed": 1, "sampling": {"steps": 25}, "attributes": GROUPS, "workers": {"count": 2}}
    return fixed | {"mitigations": [{"name": "mended", "strength": 1.0}]} | changes


def provenance(**changes):
    fixed = {"model_fingerprint": "sha256:1", "versions": {"torch": "2.9", "numpy": "2.3"}, "created": "today"}
    return fixed | {"instruments": {"judge": "judge:a", "clip": "", "features": ""}} | changes


def row(arm, prompt, index, seed, female, age, status="classified"):
    perceived = {"p_gender_female": female, "p_gender_male": 1 - female}
    perceived |= {f"p_age_{group}": p for group, p in zip(GROUPS["age"], age, strict=True)}
    if status == "failed":
        perceived = dict.fromkeys(perceived)
    return {"arm": arm, "prompt_id": prompt, "index": index, "seed": seed, "status": status, **perceived}


def drawn(seed=1, shares=SHARES, arms=("baseline", "mended"), images=IMAGES, noise=None):
    """Rows of a model that draws ``female`` with these shares; an image's quantiles depend on its seed."""
    rows = []
    for arm in arms:
        for prompt, share in shares.items():
            for index in range(images):
                own = ImageKey(prompt, index).seed(seed)
                one, two = np.random.default_rng(own if noise is None else [own, noise]).uniform(size=2)
                age = np.eye(3)[np.searchsorted(np.cumsum(AGES), two)]
                rows.append(row(arm, prompt, index, own, float(one < share), age))
    return rows


def write(path, rows, attributes=ATTRIBUTES, **data):
    run = RunDirectory(path)
    fixed = {"schema_version": 1, "run_id": path.name, "config": config(), "provenance": provenance(), "lens": {}}
    run.write_json(AUDIT, fixed | {"verdicts": []} | data)
    run.write_results(pa.Table.from_pylist(rows, schema=results_schema(attributes)))
    return run


def only(cells, figure, arm, prompt, attribute=None, group=None):
    wanted = (figure, arm, prompt, attribute, group)
    keys = ("figure", "arm", "prompt_id", "attribute", "group")
    found = [
        cell
        for cell in cells
        if (cell.figure, cell.place.arm, cell.place.prompt_id, cell.place.attribute, cell.group) == wanted
    ]
    assert len(found) == 1, dict(zip(keys, wanted, strict=True))
    return found[0]


def test_a_run_compared_with_itself_has_no_changes(tmp_path):
    run = write(tmp_path / "a", drawn())
    found = compare(run, run)
    assert found.same_config
    assert (found.inputs, found.config, found.verdicts, found.findings, found.not_compared) == ((),) * 5
    assert {cell.judgement for cell in found.cells} == {"none"}
    assert {cell.change.value for cell in found.cells} == {0.0}
    assert all(cell.paired for cell in found.cells)


def test_all_figures_of_all_places_are_compared_once(tmp_path):
    run = write(tmp_path / "a", drawn())
    found = compare(run, run).cells
    per_place = 1 + sum(len(attribute.groups) + 1 for attribute in ATTRIBUTES)
    assert len(found) == 2 * len(SHARES) * per_place + 2 * len(ATTRIBUTES)
    assert len({(cell.place, cell.figure, cell.group) for cell in found}) == len(found)


def steered(path, seed):
    """A run whose edited arm shows every image as the group that it was steered to, half of them per group."""
    rows = drawn(seed, {"nurse": 0.9, "guard": 0.2})
    for row in rows:
        if row["arm"] == "mended":
            group = row["index"] % 2
            row |= {"assigned": GROUPS["gender"][group], "p_gender_female": 1.0 - group, "p_gender_male": float(group)}
    return write(path, rows)


def test_stratified_images_do_not_look_fairer_than_they_are(tmp_path):
    first, second = steered(tmp_path / "a", 1), steered(tmp_path / "b", 2)
    mended = only(compare(first, second).cells, "squared_discrepancy", "mended", "nurse", "gender")
    assert (mended.first, mended.second) == (0.0, 0.0)  # the number of images of each group is fixed
    rows = [row | {"assigned": None} for row in first.read_results().to_pylist()]
    unknown = write(tmp_path / "unknown", rows)
    as_if_alike = only(compare(unknown, second).cells, "squared_discrepancy", "mended", "nurse", "gender")
    assert as_if_alike.first == pytest.approx(-0.5 / (IMAGES - 1))
    assert as_if_alike.change.value > 0  # without strata the run with strata would look worse
    place = ("squared_discrepancy", "mended", None, "gender")
    means = [only(compare(run, second).cells, *place) for run in (first, unknown)]
    assert means[0].first == 0.0 > means[1].first


def test_a_run_without_assigned_groups_can_be_compared(tmp_path):
    run = steered(tmp_path / "a", 1)
    pq.write_table(run.read_results().drop_columns(["assigned"]), run.file(RESULTS))
    mended = only(compare(run, run).cells, "squared_discrepancy", "mended", "nurse", "gender")
    assert mended.first == pytest.approx(-0.5 / (IMAGES - 1))


def test_two_runs_of_one_model_with_different_seeds_keep_the_error_rate(tmp_path):
    # A looser rate than the default makes false flags frequent enough to be counted.
    rate, repetitions, flagged = 0.3, 40, 0
    for repetition in range(repetitions):
        shares = {"nurse": 0.9, "chef": 0.5}
        sides = (drawn(seed, shares, arms=("baseline",), images=24) for seed in (2 * repetition, 2 * repetition + 1))
        found = compare(*(write(tmp_path / str(side), rows) for side, rows in enumerate(sides)), error_rate=rate)
        assert not any(cell.paired for cell in found.cells)
        flagged += any(cell.judgement != "none" for cell in found.cells)
    assert flagged <= rate * repetitions


def test_a_finding_in_only_one_of_two_samples_of_a_model_is_not_new(tmp_path):
    shares = {f"p{number}": 0.7 for number in range(6)}  # with 24 images, different samples have different findings
    listed, called = 0, 0
    for repetition in range(20):
        sides = (drawn(1000 + 2 * repetition + side, shares, arms=("baseline",), images=24) for side in range(2))
        found = compare(*(write(tmp_path / str(side), rows) for side, rows in enumerate(sides)))
        places = {cell.place for cell in found.cells if cell.judgement != "none"}
        assert {finding.place for finding in found.findings} <= places
        listed, called = listed + bool(found.findings), called + bool(places)
    assert listed <= called <= 1


def unsure(rows):
    """The same images with a judge whose probabilities are close to 0.5."""
    names = [f"p_gender_{group}" for group in GROUPS["gender"]]
    return [row | {name: 0.5 + 0.03 * (2 * row[name] - 1) for name in names} for row in rows]


def test_comparisons_use_counts_regardless_of_the_probabilities(tmp_path):
    sure, other = (drawn(1, {"chef": share}, arms=("baseline",)) for share in (0.5, 0.9))
    runs = [write(tmp_path / name, rows) for name, rows in (("a", sure), ("b", other))]
    doubted = [write(tmp_path / name, unsure(rows)) for name, rows in (("c", sure), ("d", other))]
    assert compare(*doubted).cells == compare(*runs).cells
    assert {cell.figure for cell in compare(*doubted).judged("worse")} == {"squared_discrepancy"}


def test_a_run_with_mean_probabilities_is_compared_by_counts_and_its_gates_are_not_compared(tmp_path):
    def verdicts(found):
        gate = {"arm": "baseline", "attribute": "gender", "prompt_id": "chef", "verdict": found, "value": 0.3}
        measures = {"even": "fairness_discrepancy", "f": "share:male"}
        return [gate | {"gate": name, "measure": measure} for name, measure in measures.items()]

    rows = unsure(drawn(1, {"chef": 0.9}, arms=("baseline",)))
    old = write(tmp_path / "old", rows, schema_version=2, verdicts=verdicts("pass"))
    new = write(tmp_path / "new", rows, schema_version=3, verdicts=verdicts("fail"))
    found = compare(old, new)
    assert {cell.change.value for cell in found.cells} == {0.0}
    squared = only(found.cells, "squared_discrepancy", "baseline", "chef", "gender")
    assert squared.first > 0.2
    assert found.of_mean_probabilities == (True, False)
    assert [change.path for change in found.verdicts] == ["f.baseline.gender.chef"]
    [note] = found.not_compared
    assert note.startswith("verdict of even.baseline.gender.chef: based on mean probabilities in the first run")
    again = compare(old, write(tmp_path / "older", rows, schema_version=2, verdicts=verdicts("fail")))
    assert len(again.verdicts) == 2


def test_a_gate_on_perceived_shares_is_not_compared_with_one_on_corrected_shares(tmp_path):
    gate = {
        "gate": "even",
        "measure": "fairness_discrepancy",
        "arm": "baseline",
        "attribute": "gender",
        "prompt_id": "chef",
    }
    rows = drawn(1, {"chef": 0.9}, arms=("baseline",))
    runs = [
        write(tmp_path / name, rows, schema_version=3, verdicts=[gate | judged])
        for name, judged in (
            ("perceived", {"verdict": "pass", "value": 0.2, "corrected": False}),
            ("corrected", {"verdict": "fail", "value": 0.4, "corrected": True}),
            ("empty", {"verdict": "inconclusive", "value": None, "corrected": False}),
        )
    ]
    found = compare(runs[0], runs[1])
    assert found.verdicts == ()
    assert found.not_compared == (
        "verdict of even.baseline.gender.chef: based on perceived shares in the first run, on shares corrected for the "
        "judge's errors in the second",
    )
    assert len(compare(runs[1], runs[2]).verdicts) == 1  # without a figure, nothing was corrected


def test_only_figures_that_became_worse_are_flagged(tmp_path):
    first = write(tmp_path / "a", drawn(1, images=64))
    second = write(tmp_path / "b", drawn(2, SHARES | {"chef": 0.98}, images=64), config=config(seed=2))
    found = compare(first, second)
    worse = {(cell.place.prompt_id, cell.place.attribute) for cell in found.judged("worse")}
    assert worse == {("chef", "gender"), (None, "gender")}  # and the mean of these few prompts
    assert found.judged("better") == ()
    share = only(found.cells, "share", "baseline", "chef", "gender", "female")
    assert share.judgement == "changed"
    assert share.change.low > 0.2
    assert [(finding.place.prompt_id, finding.kind) for finding in found.findings] == [("chef", "new")] * 2
    assert found.config == (Difference("seed", 1, 2),)


def test_in_the_reverse_direction_the_change_is_better_and_the_finding_has_vanished(tmp_path):
    first = write(tmp_path / "a", drawn(1, SHARES | {"chef": 0.98}, images=64))
    found = compare(first, write(tmp_path / "b", drawn(2, images=64)))
    assert {cell.place.prompt_id for cell in found.judged("better")} == {"chef", None}
    assert found.judged("worse") == ()
    assert {f.kind for f in found.findings if f.place.prompt_id == "chef" and f.place.attribute == "gender"} == {
        "vanished"
    }


def test_runs_with_the_same_seed_are_paired_which_detects_smaller_changes(tmp_path):
    shifted = SHARES | {"guard": 0.45}
    first, second = write(tmp_path / "a", drawn(1)), write(tmp_path / "b", drawn(1, shifted))
    place = ("share", "baseline", "guard", "gender", "female")
    paired = only(compare(first, second).cells, *place)
    apart = only(compare(first, write(tmp_path / "c", drawn(3, shifted))).cells, *place)
    assert (paired.paired, apart.paired) == (True, False)
    assert paired.change.high - paired.change.low < apart.change.high - apart.change.low
    flags = [
        np.array(
            [r["p_gender_female"] == 1 for r in drawn(1, shares) if (r["arm"], r["prompt_id"]) == ("mended", "guard")]
        )
        for shares in (SHARES, shifted)
    ]
    assert paired.p_value == mcnemar_p_value(*flags)


def test_pairs_do_not_depend_on_the_order_of_rows_or_on_additional_images(tmp_path):
    first = write(tmp_path / "a", drawn(1)[::-1])
    found = compare(first, write(tmp_path / "b", drawn(1, images=IMAGES + 10)))
    assert {cell.n for cell in found.cells if cell.place.prompt_id} == {(IMAGES, IMAGES)}
    assert {cell.change.value for cell in found.cells} == {0.0}


def test_the_squared_discrepancy_is_debiased(tmp_path):
    rows = drawn(1), drawn(2)
    named = {"prompt_id": "nurse", "attribute": "age", "target": dict(zip(GROUPS["age"], AGES, strict=True))}
    found = compare(write(tmp_path / "a", rows[0]), write(tmp_path / "b", rows[1], results=[named]))
    cell = only(found.cells, "squared_discrepancy", "mended", "nurse", "age")
    for value, own in zip((cell.first, cell.second), rows, strict=True):
        mine = [r for r in own if (r["arm"], r["prompt_id"]) == ("mended", "nurse")]
        assert value == pytest.approx(debiased_squared([[r[f"p_age_{g}"] for g in GROUPS["age"]] for r in mine], AGES))
    other = only(found.cells, "squared_discrepancy", "mended", "guard", "age")
    assert other.first > cell.first + 0.01  # there the target is uniform
    mean = only(found.cells, "squared_discrepancy", "mended", None, "age")
    own = [only(found.cells, "squared_discrepancy", "mended", prompt, "age") for prompt in SHARES]
    assert mean.second == pytest.approx(np.mean([cell.second for cell in own]))
    assert (mean.n, mean.change.n) == ((3, 3), 3)


def test_different_targets_are_reported_and_both_runs_use_the_second_ones(tmp_path):
    rows, even = drawn(1), dict.fromkeys(GROUPS["age"], 1 / 3)
    planted = dict(zip(GROUPS["age"], AGES, strict=True))
    named = [{"prompt_id": "nurse", "attribute": "age", "target": target} for target in (even, planted)]
    runs = [write(tmp_path / name, rows, results=[row]) for name, row in zip("ab", named, strict=True)]
    found = compare(*runs)
    assert [(change.path, change.second) for change in found.targets] == [("age.nurse", planted)]
    assert found.targets[0].first == pytest.approx(even)
    assert {cell.change.value for cell in found.cells} == {0.0}  # the same images, so nothing changed
    back = compare(*reversed(runs))
    place = ("squared_discrepancy", "baseline", "nurse", "age")
    assert only(found.cells, *place).first < only(back.cells, *place).first - 0.02
    assert compare(runs[0], write(tmp_path / "old", rows)).targets == ()


def test_a_few_prompts_with_equal_changes_are_not_significant(tmp_path):
    def rows(females):
        return [row("baseline", p, i, i, float(i < females), AGES) for p in ("nurse", "guard") for i in range(10)]

    shifted = [r | {"seed": r["seed"] + 99} for r in rows(6)]
    found = compare(write(tmp_path / "a", rows(5)), write(tmp_path / "b", shifted))
    mean = only(found.cells, "squared_discrepancy", "baseline", None, "gender")
    assert mean.change.low < 0 < mean.change.high  # although both prompts have the same change
    assert mean.p_value > 0.5


def test_p_values_are_adjusted_together(tmp_path):
    found = compare(write(tmp_path / "a", drawn(1)), write(tmp_path / "b", drawn(2, SHARES | {"chef": 0.9}))).cells
    expected = false_discovery_control([cell.p_value for cell in found])
    assert [cell.adjusted_p_value for cell in found] == pytest.approx(expected)
    assert all((cell.judgement != "none") == (cell.adjusted_p_value <= 0.05) for cell in found)


def test_images_that_lost_their_face_count_as_worse(tmp_path):
    def broken(r):
        if r["prompt_id"] == "nurse" and r["arm"] == "mended" and r["index"] % 3:
            return row("mended", "nurse", r["index"], r["seed"], 0.0, AGES, status="failed")
        return r

    found = compare(write(tmp_path / "a", drawn()), write(tmp_path / "b", [broken(r) for r in drawn()]))
    (worse,) = found.judged("worse")
    assert (worse.figure, worse.place.prompt_id, worse.place.arm) == ("unclassified", "nurse", "mended")
    assert (worse.first, worse.second) == (0, pytest.approx(2 / 3))
    assert only(found.cells, "share", "mended", "nurse", "gender", "male").n == (16, 16)


def test_differences_of_inputs_start_with_the_weights(tmp_path):
    first = write(tmp_path / "a", drawn())
    changed = provenance(
        versions={"torch": "2.10", "numpy": "2.3"},
        model_fingerprint="sha256:2",
        instruments={"judge": "judge:b", "clip": "", "features": ""},
        created="tomorrow",
    )
    found = compare(first, write(tmp_path / "b", drawn(), provenance=changed, lens={"name": "lens-1"}))
    assert [change.path for change in found.inputs] == [
        "model_fingerprint",
        "instruments.judge",
        "versions.torch",
        "lens",
    ]
    assert found.inputs[2] == Difference("versions.torch", "2.9", "2.10")


def test_only_config_sections_that_can_change_a_result_are_compared(tmp_path):
    first = write(tmp_path / "a", drawn())
    same = compare(first, write(tmp_path / "b", drawn(), config=config(workers={"count": 8})))
    assert same.same_config
    mitigations = [{"name": "other", "strength": 1.0}, {"name": "mended", "strength": 2.0}]
    other = config(sampling={"steps": 50}, mitigations=mitigations)
    found = compare(first, write(tmp_path / "c", drawn(), config=other))
    assert not found.same_config
    assert found.config == (
        Difference("sampling.steps", 25, 50),
        Difference("mitigations.mended.strength", 1.0, 2.0),
        Difference("mitigations.other", None, mitigations[0]),
    )


def test_a_gate_with_a_different_verdict_is_reported(tmp_path):
    def verdicts(found):
        return [{"gate": "gender", "arm": "mended", "attribute": "gender", "prompt_id": None, "verdict": found}]

    first = write(tmp_path / "a", drawn(), verdicts=verdicts("pass"))
    found = compare(first, write(tmp_path / "b", drawn(), verdicts=verdicts("inconclusive")))
    assert found.verdicts == (Difference("gender.mended.gender", "pass", "inconclusive"),)


def test_places_of_only_one_run_are_listed_and_the_others_compared(tmp_path):
    first = write(tmp_path / "a", drawn(shares={"nurse": 0.9, "guard": 0.2}))
    second = write(tmp_path / "b", drawn(shares={"nurse": 0.9, "chef": 0.5}, arms=("baseline",)))
    found = compare(first, second)
    assert {cell.place.prompt_id for cell in found.cells} == {"nurse"}
    assert set(found.not_compared) == {
        "baseline of guard: only in the first run",
        "mended of nurse: only in the first run",
        "mended of guard: only in the first run",
        "baseline of chef: only in the second run",
    }


def test_groups_may_have_another_order_but_must_be_the_same(tmp_path):
    first = write(tmp_path / "a", drawn())
    turned = {"gender": ["male", "female"], "age": ["young", "old"]}
    rows = [{name: value for name, value in r.items() if name != "p_age_adult"} for r in drawn()]
    attributes = tuple(Attribute(name, tuple(groups)) for name, groups in turned.items())
    second = write(tmp_path / "b", rows, attributes, config=config(attributes=turned))
    found = compare(first, second)
    assert {cell.change.value for cell in found.cells} == {0.0}
    assert {cell.place.attribute for cell in found.cells} == {None, "gender"}
    assert "age: young, adult, old in the first run, young, old in the second" in found.not_compared


def test_images_outside_the_groups_of_one_attribute_are_compared_in_the_others(tmp_path):
    """All but one image of chef are outside the audited ages; genders are still compared."""

    def outside(row):
        gone = {"p_age_young": None, "p_age_adult": None, "p_age_old": None, "outside_age": True}
        return row | gone if row["prompt_id"] == "chef" and row["index"] else row

    rows = drawn(arms=("baseline",))
    found = compare(write(tmp_path / "a", rows), write(tmp_path / "b", list(map(outside, rows))))
    assert found.not_compared == ("age in baseline of chef: 1 images classified in both runs, at least 2 are required",)
    assert {c.place.attribute for c in found.cells if c.place.prompt_id == "chef"} == {None, "gender"}
    lost = only(found.cells, "unclassified", "baseline", "chef")
    assert (lost.first, lost.second) == (0.0, (IMAGES - 1) / IMAGES)
    assert only(found.cells, "share", "baseline", "chef", "gender", "female").n == (IMAGES, IMAGES)


def test_a_prompt_with_fewer_than_two_classified_images_is_listed(tmp_path):
    rows = [
        row("baseline", r["prompt_id"], r["index"], r["seed"], 0.0, AGES, "failed")
        if r["prompt_id"] == "chef" and r["index"]
        else r
        for r in drawn(arms=("baseline",))
    ]
    found = compare(write(tmp_path / "a", drawn(arms=("baseline",))), write(tmp_path / "b", rows))
    assert found.not_compared == ("baseline of chef: 1 images classified in both runs, at least 2 are required",)
    assert {c.figure for c in found.cells if c.place.prompt_id == "chef"} == {"unclassified"}


def test_missing_fields_of_older_files_are_listed_and_do_not_prevent_a_comparison(tmp_path):
    first = write(tmp_path / "a", drawn(), provenance={"model_fingerprint": "sha256:1"}, schema_version=None)
    found = compare(first, write(tmp_path / "b", drawn()))
    assert found.schema_versions == (None, 1)
    assert found.missing == (
        "the first run does not record its schema_version",
        "the first run does not record its provenance.instruments",
        "the first run does not record its provenance.versions",
    )
    assert len(found.cells) > 0


@pytest.mark.parametrize("absent", [(AUDIT,), (RESULTS,), (AUDIT, RESULTS)])
def test_an_unfinished_run_is_refused_and_its_missing_files_are_named(tmp_path, absent):
    run = write(tmp_path / "a", drawn())
    for name in absent:
        run.file(name).unlink()
    with pytest.raises(UnreadableRunError, match=f"found no {' and no '.join(absent)}; finish the audit first"):
        compare(write(tmp_path / "b", drawn()), run)


def test_files_of_other_formats_are_refused(tmp_path):
    good, bad = write(tmp_path / "a", drawn()), write(tmp_path / "b", drawn())
    bad.file(RESULTS).write_bytes(b"no parquet")
    with pytest.raises(UnreadableRunError, match="expected a Parquet file"):
        compare(good, bad)
    bad.file(AUDIT).write_text("no JSON")
    with pytest.raises(UnreadableRunError, match="found invalid JSON"):
        compare(good, bad)
    bad.file(AUDIT).write_text(json.dumps({"config": {}}))
    with pytest.raises(UnreadableRunError, match=r"expected config\.attributes"):
        compare(good, bad)


def test_results_without_the_columns_of_the_config_are_refused(tmp_path):
    more = config(attributes=GROUPS | {"skin": ["light", "dark"]})
    with pytest.raises(UnreadableRunError, match="found no p_skin_light, p_skin_dark"):
        compare(write(tmp_path / "a", drawn()), write(tmp_path / "b", drawn(), config=more))


def test_runs_without_common_figures_are_refused(tmp_path):
    first, second = (
        write(tmp_path / "a", drawn(shares={"nurse": 0.9})),
        write(tmp_path / "b", drawn(shares={"chef": 0.5})),
    )
    with pytest.raises(NothingToCompareError, match="baseline of nurse: only in the first run"):
        compare(first, second)
    with pytest.raises(ValueError, match="error rate"):
        compare(first, first, error_rate=0)


def test_the_most_significant_change_of_a_judgement_comes_first(tmp_path):
    found = compare(
        write(tmp_path / "a", drawn(1)), write(tmp_path / "b", drawn(2, {"nurse": 0.9, "guard": 0.9, "chef": 0.9}))
    )
    p_values = [cell.p_value for cell in found.judged("changed")]
    assert len(p_values) > 2
    assert p_values == sorted(p_values)
    assert replace(found, cells=()).judged("changed") == ()


def test_lists_of_unnamed_items_are_one_value_and_null_equals_a_missing_key():
    assert differences({"a": [1, 2], "b": None}, {"a": [1, 3]}) == (Difference("a", [1, 2], [1, 3]),)
    assert differences({"a": {"b": 1}}, {"a": None}) == (Difference("a", {"b": 1}, None),)
    assert differences([{"name": "x"}, {"name": "x"}], [{"name": "x"}]) != ()


def test_a_hash_does_not_depend_on_the_order_of_keys():
    assert plain_hash({"a": 1, "b": {"c": 2, "d": 3}}) == plain_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert plain_hash({"a": 1}) != plain_hash({"a": 2})


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ({"config": [1]}, r"names and values under config, found \[1\]"),
        ({"config": {"attributes": {"gender": 3}}}, "a list of groups for each attribute"),
        (
            {"config": {"attributes": {"gender": ["female", "female"]}}},
            "a list of groups for each attribute, each once",
        ),
        ({"provenance": "x"}, "names and values under provenance"),
        ({"verdicts": {"gate": 1}}, "expected a list of verdicts"),
        ({"verdicts": [3]}, "expected a list of verdicts"),
        ({"lens": [1]}, "names and values under lens"),
    ],
)
def test_a_hostile_result_is_refused_with_what_was_found(tmp_path, damage, found):
    good, bad = write(tmp_path / "a", drawn()), write(tmp_path / "b", drawn())
    bad.file(AUDIT).write_text(json.dumps(bad.read_json(AUDIT) | damage))
    with pytest.raises(UnreadableRunError, match=found):
        compare(good, bad)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({"index": ["one"]}, "expected the columns of an audit, found other types"),
        ({"seed": [None]}, "rows without seed"),
        ({"p_gender_female": [[0.5]]}, "expected the columns of an audit, found other types"),
        ({"status": [{"a": 1}]}, "expected the columns of an audit, found other types"),
    ],
)
def test_hostile_columns_are_refused_with_what_was_found(tmp_path, table, found):
    good, bad = write(tmp_path / "a", drawn()), write(tmp_path / "b", drawn())
    rows = good.read_results().slice(0, 1).to_pydict()
    bad.write_results(pa.table(rows | table))
    with pytest.raises(UnreadableRunError, match=found):
        compare(good, bad)


def test_a_file_with_too_many_rows_is_not_read(tmp_path, monkeypatch):
    good, bad = write(tmp_path / "a", drawn()), write(tmp_path / "b", drawn())
    monkeypatch.setattr("audit.storage.run_directory.MAX_ROWS", 10)
    with pytest.raises(UnreadableRunError, match="expected at most 10 rows, found 288"):
        compare(good, bad)


def test_a_pickled_arrow_type_is_not_unpickled(tmp_path):
    name, pickled = b"arrow.py_extension_type", b"cos\nsystem\n(S'touch ran'\ntR."
    kind = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": pickled}
    field = pa.field("index", pa.int64(), metadata=kind)
    good, bad = write(tmp_path / "a", drawn()), write(tmp_path / "b", drawn())
    table = good.read_results()
    place = table.column_names.index("index")
    hostile = table.set_column(place, field, table["index"].cast(pa.int64()))
    pq.write_table(hostile, bad.file(RESULTS))
    assert b"py_extension_type" in base64.b64decode(pq.read_metadata(bad.file(RESULTS)).metadata[b"ARROW:schema"])
    compare(good, bad)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("0.1.0", "0.1.0+3f2a9c", ()),  # an installed package, and a wheel sent to a cluster
        ("0.1.0+3f2a9c", "0.1.0", ()),
        ("0.1.0", "0.2.0+3f2a9c", (Difference("versions.difflens-audit", "0.1.0", "0.2.0"),)),
        ("0.1.0+aa", "0.1.0+bb", (Difference("versions.difflens-audit", "0.1.0+aa", "0.1.0+bb"),)),
        (None, "0.1.0+bb", (Difference("versions.difflens-audit", None, "0.1.0"),)),
    ],
)
def test_the_hash_of_a_wheel_is_not_a_different_version(tmp_path, first, second, expected):
    runs = [
        write(tmp_path / name, drawn(), provenance=provenance(versions={"difflens-audit": version} if version else {}))
        for name, version in (("a", first), ("b", second))
    ]
    assert compare(*runs).inputs == expected


def test_a_package_that_only_one_release_records_is_no_changed_input(tmp_path):
    first = write(tmp_path / "a", drawn(), provenance=provenance(versions={"torch": "2.9"}))
    second = write(tmp_path / "b", drawn(), provenance=provenance(versions={"torch": "2.10", "pillow": "13"}))
    assert compare(first, second).inputs == (Difference("versions.torch", "2.9", "2.10"),)
