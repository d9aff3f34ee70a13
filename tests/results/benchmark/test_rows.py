"""What a benchmark computes itself agrees with the audit, and with counting by hand."""

import numpy as np
import pytest

from audit.config.mitigations.edits import MeanDifferenceConfig
from audit.config.mitigations.guidance import FairDiffusionConfig
from audit.planning.targets import uniform_targets
from audit.records.attributes import Attribute
from audit.records.changes import AttributeShift
from audit.results.arm_rows import ArmRows
from audit.results.benchmark.costs import calls_alone
from audit.results.benchmark.rows import beyond_chance, flipped, part_discrepancy
from audit.results.benchmark.steered import Figure
from audit.results.groups import overall_result

GENDER, AGE = Attribute("gender", ("female", "male")), Attribute("age", ("young", "adult", "old"))
ATTRIBUTES = {"gender": ("female", "male"), "age": ("young", "adult", "old")}


def rows(arm, gender, age, statuses=None, prompts=2):
    size = len(gender) // prompts
    probabilities = {"gender": np.eye(2)[gender], "age": np.eye(3)[age]}
    places = {f"p{n}": slice(n * size, (n + 1) * size) for n in range(prompts)}
    return ArmRows(arm, np.array(statuses or ["classified"] * len(gender)), probabilities, places, {})


def test_an_arm_that_changes_nothing_flips_nothing():
    baseline = rows("baseline", [0, 1, 1, 0], [0, 1, 2, 0])
    assert flipped(baseline, baseline, ["age"]).value == 0


def test_flips_count_images_with_another_group_in_any_of_the_attributes_that_both_arms_classified():
    baseline = rows("baseline", [0, 1, 1, 0, 1, 1], [0, 1, 2, 0, 0, 0])
    statuses = ["classified"] * 5 + ["no_face"]
    arm = rows("arm", [1, 1, 1, 0, 0, 0], [1, 1, 2, 2, 0, 1], statuses)
    assert flipped(baseline, arm, ["age"]).value == pytest.approx(2 / 5)
    assert flipped(baseline, arm, ["age", "gender"]).value == pytest.approx(3 / 5)
    assert flipped(baseline, arm, []) is None


def test_the_discrepancy_of_all_images_is_that_of_the_audit():
    rng = np.random.default_rng(2)
    arm = rows("arm", rng.integers(0, 2, 40), rng.integers(0, 3, 40))
    targets = uniform_targets(list(arm.prompts), [AGE])
    overall = overall_result(arm, AGE, targets)
    found = part_discrepancy(arm.codes("age"), arm.prompt_numbers(), np.full((2, 3), 1 / 3))
    assert found == pytest.approx(overall.mean_over_prompts.value)


def test_prompts_with_too_few_images_are_left_out():
    goals = np.full((2, 2), 0.5)
    assert part_discrepancy(np.array([0, 1]), np.array([0, 1]), goals) is None
    assert part_discrepancy(np.array([0, 0, 1]), np.array([0, 0, 1]), goals) == pytest.approx(np.sqrt(0.5))


def test_a_shift_below_its_floor_is_no_shift():
    shift = AttributeShift("arm", "age", 0.1, 0.15, 0.4, 2, 40, 0.0, 0.3)
    assert beyond_chance(shift) == Figure(0.0, 0.0, 0.3)


def test_calls_are_those_of_the_method_alone():
    late = MeanDifferenceConfig(name="a", method="mean_difference", attribute="gender", window=(0.5, 1))
    twice = late.model_copy(update={"reverse_step": "asymmetric"})
    guided = FairDiffusionConfig(name="a", method="fair_diffusion", attribute="age")
    assert calls_alone(late, 10, ATTRIBUTES) == 10
    assert calls_alone(twice, 10, ATTRIBUTES) == 15
    assert calls_alone(guided, 10, ATTRIBUTES) == 10 * (1 + guided.extra_calls(3))
    assert guided.extra_calls(3) > 0
