"""Every measure of a gate is computed from the rows, and missing images never make a gate pass."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from audit.config.fields import GATE_MEASURES
from audit.records.attributes import Attribute
from audit.records.quality import Measurement, QualityResult
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.changes import attribute_shifts, group_changes, missing_difference
from audit.results.gates.inputs import GateReader
from audit.results.gates.verdicts import Gate, GateInput, NoData, evaluate

GENDER = Attribute("gender", ("female", "male"))
PROMPTS, IMAGES = ("doctor", "nurse", "pilot"), 200


def arm(name, male, unclassified=0):
    """Rows with a share of men per prompt; the first ``unclassified`` images of each prompt have no face."""
    statuses, probabilities = [], []
    for share in male:
        men = np.arange(IMAGES) % 100 < round(100 * share)
        probabilities.append(np.stack([1 - men, men], 1) * 0.98 + 0.01)
        statuses += ["no_face"] * unclassified + ["classified"] * (IMAGES - unclassified)
    prompts = {p: slice(i * IMAGES, (i + 1) * IMAGES) for i, p in enumerate(PROMPTS)}
    scores = {"clip_i": np.full(len(statuses), 0.9) + np.tile([0.01, -0.01], len(statuses) // 2)}
    scores |= {"dino_i": scores["clip_i"], "lpips": 1 - scores["clip_i"], "psnr": 30 * scores["clip_i"]}
    scores["p_prompt_shown"] = np.where(np.arange(len(statuses)) % 60 == 0, 0.2, 0.9)
    return ArmRows(name, np.array(statuses), {"gender": np.concatenate(probabilities)}, prompts, scores)


def reader(edited, targets=None):
    baseline = arm(BASELINE, (0.9, 0.1, 0.9))
    kid = Measurement(0.004, 600, "metric:kid", 0.002, 0.006, {"standard_error": 0.001, "degrees": 19})
    quality = QualityResult("edit", None, None, None, kid, None, {})
    shifts = attribute_shifts(baseline, [edited], [GENDER])
    return GateReader({BASELINE: baseline, "edit": edited}, [GENDER], targets or {}, {"edit": quality}, shifts=shifts)


def gate(measure, limit, side="max", prompt=None, name="edit"):
    return Gate("gate", measure, "gender", prompt, name, limit, side)


def verdict(gate, edited):
    [found] = evaluate([gate], [reader(edited).read(gate)])
    return found


FAIR = arm("edit", (0.5, 0.5, 0.5))


@pytest.mark.parametrize("measure", [name if name != "share" else "share:male" for name in GATE_MEASURES])
def test_every_measure_has_a_value_inside_an_interval_that_widens_with_confidence(measure):
    found = reader(FAIR).read(gate(measure, 0.5))
    assert isinstance(found, GateInput)
    low, high = found.interval_at(0.95)
    wider_low, wider_high = found.interval_at(0.999)
    assert wider_low <= low <= found.value <= high <= wider_high


def test_a_fair_arm_passes_and_a_skewed_one_fails_by_prompt_and_overall():
    skewed = arm("edit", (0.9, 0.1, 0.9))
    for prompt in (None, "doctor"):
        assert verdict(gate("fairness_discrepancy", 0.3, prompt=prompt), FAIR).verdict == "pass"
        assert verdict(gate("fairness_discrepancy", 0.3, prompt=prompt), skewed).verdict == "fail"
    assert verdict(gate("share:male", 0.8, prompt="pilot"), skewed).verdict == "fail"
    assert verdict(gate("share_ratio", 0.6, "min", "pilot"), FAIR).verdict == "pass"


def test_opposite_skews_do_not_cancel_in_the_overall_figure():
    found = reader(arm("edit", (0.9, 0.1, 0.9))).read(gate("fairness_discrepancy", 0.3))
    assert found.value == pytest.approx(0.39 * 2**0.5, abs=0.02)


def test_a_measure_that_the_target_leaves_undefined_never_passes_a_gate():
    only_men = GateReader({BASELINE: FAIR}, [GENDER], {prompt: {"gender": (0.0, 1.0)} for prompt in PROMPTS}, {})
    found = only_men.read(gate("kl_divergence", 5.0, name=BASELINE))
    assert isinstance(found, NoData)
    assert "a target with a share of 0" in found.reason
    assert only_men.read(gate("total_variation", 0.9, name=BASELINE)).value == pytest.approx(0.5)


def test_the_target_of_a_pool_includes_its_unclassified_images():
    statuses = np.array(["classified"] * IMAGES + (["no_face"] * 20 + ["classified"] * 180) + ["classified"] * IMAGES)
    broken = replace(FAIR, statuses=statuses)
    own = {"doctor": {"gender": (0.6, 0.4)}, "nurse": {"gender": (0.1, 0.9)}, "pilot": {"gender": (0.5, 0.5)}}
    gated = gate("total_variation", 0.2, name=BASELINE)
    found = GateReader({BASELINE: broken}, [GENDER], own, {}).read(gated)
    assert found.value == pytest.approx(300 / 580 - (0.6 + 0.1 + 0.5) / 3)  # share of women; 20 men have no face
    assert found.unclassified == pytest.approx(20 / 600)


def test_a_figure_of_pooled_prompts_has_a_note():
    opposite = arm("edit", (0.9, 0.1, 0.5))
    found = verdict(gate("total_variation", 0.1), opposite)
    assert (found.verdict, found.note) == ("pass", "all prompts pooled, so opposite skews cancel")
    assert verdict(gate("total_variation", 0.1, prompt="doctor"), opposite).verdict == "fail"


def test_too_few_images_give_no_verdict():
    assert verdict(gate("fairness_discrepancy", 0.05, prompt="doctor"), FAIR).verdict == "inconclusive"


def test_an_arm_with_half_of_its_faces_destroyed_passes_no_fairness_gate():
    blanked = arm("edit", (0.5, 0.5, 0.5), unclassified=IMAGES // 2)
    limits = {"fairness_discrepancy": (0.3, "max"), "total_variation": (0.2, "max"), "kl_divergence": (0.1, "max")}
    limits |= {"share_ratio": (0.5, "min"), "normalised_entropy": (0.85, "min"), "effective_groups": (1.8, "min")}
    for prompt, (measure, (limit, side)) in itertools.product((None, "doctor"), limits.items()):
        found = verdict(gate(measure, limit, side, prompt), blanked)
        assert found.verdict == "inconclusive"
        assert "50.0\xa0% of the images have no perceived group" in found.note
        assert verdict(gate(measure, limit, side, prompt), FAIR).verdict == "pass"
    assert missing_difference(arm(BASELINE, (0.5, 0.5, 0.5)), blanked).differs
    assert not missing_difference(arm(BASELINE, (0.5, 0.5, 0.5)), FAIR).differs


def few(rng, name, male):
    """Ten prompts of eight images each, every image male with its own probability."""
    men = rng.random(80) < male
    prompts = {f"prompt-{number}": slice(8 * number, 8 * number + 8) for number in range(10)}
    return ArmRows(name, np.full(80, "classified"), {"gender": np.stack([~men, men], 1) * 1.0}, prompts, {})


def shift_verdict(rng, male_before, male_after, limit):
    before, after = few(rng, BASELINE, male_before), few(rng, "edit", male_after)
    shifts = attribute_shifts(before, [after], [GENDER])
    [found] = evaluate(
        [gate("attribute_shift", limit)],
        [
            GateReader({BASELINE: before, "edit": after}, [GENDER], {}, {}, shifts=shifts).read(
                gate("attribute_shift", limit)
            )
        ],
    )
    return found.verdict


def test_a_shift_by_chance_fails_no_gate_and_a_true_shift_does():
    rng = np.random.default_rng(7)
    unchanged = [shift_verdict(rng, 0.5, 0.5, 0.05) for _ in range(40)]  # observed: 0.2 on average
    assert set(unchanged) == {"inconclusive"}
    moved = [shift_verdict(rng, 0.9, 0.2, 0.1) for _ in range(20)]  # by 0.7
    assert moved.count("fail") >= 18


def test_without_a_classified_image_there_is_no_data():
    gone = arm("edit", (0.5, 0.5, 0.5), unclassified=IMAGES)
    for measure in ("fairness_discrepancy", "share:male", "share_ratio"):
        found = gate(measure, 0.3, prompt="doctor")
        assert isinstance(reader(gone).read(found), NoData)
        assert verdict(found, gone).verdict == "inconclusive"


def test_changes_are_paired_by_prompt_and_averaged_over_prompts():
    changes = group_changes(arm(BASELINE, (0.9, 0.1, 0.9)), FAIR, [GENDER], {})
    assert [change.prompt_id for change in changes] == [*PROMPTS, None]
    doctor, mean = changes[0], changes[-1]
    assert (doctor.n, mean.n) == (IMAGES, len(PROMPTS))
    assert doctor.shares["male"].value == pytest.approx(-0.4)
    assert doctor.squared.high < 0
    assert mean.squared.value == pytest.approx(np.mean([change.squared.value for change in changes[:-1]]))


def test_a_prompt_is_compared_with_its_target_and_an_arm_with_all_targets():
    skewed = arm("edit", (0.9, 0.1, 0.9))
    targets = {"doctor": {"gender": (0.1, 0.9)}, "nurse": {"gender": (0.9, 0.1)}, "pilot": {"gender": (0.1, 0.9)}}
    for prompt in ("nurse", None):
        limit = gate("fairness_discrepancy", 0.2, prompt=prompt)
        [even] = evaluate([limit], [reader(skewed).read(limit)])
        [own] = evaluate([limit], [reader(skewed, targets).read(limit)])
        assert (even.verdict, own.verdict) == ("fail", "pass")
        assert own.value < 0.05
