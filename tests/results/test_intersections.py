"""Planted dependence between attributes is detected, with p-values adjusted for the number of prompts."""

import numpy as np
import pytest

from audit.records.attributes import Attribute
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.intersections import MOST_LISTED, intersections

GENDER = Attribute("gender", ("female", "male"))
AGE = Attribute("age", ("young", "old"))
TONE = Attribute("tone", ("light", "medium", "dark"))

APART = [[16, 16], [16, 16]]
TOGETHER = [[26, 6], [6, 26]]
"""Gender by age, each attribute at parity."""


def arm(tables, name=BASELINE, unclassified=0):
    """Rows whose prompts have these tables of gender by age, and an independent tone."""
    codes = {"gender": [], "age": [], "tone": []}
    prompts, statuses, start = {}, [], 0
    for number, table in enumerate(tables):
        pairs = [at for at in np.ndindex(2, 2) for _ in range(table[at[0]][at[1]])]
        size = len(pairs) + unclassified
        codes["gender"] += [*(pair[0] for pair in pairs), *[0] * unclassified]
        codes["age"] += [*(pair[1] for pair in pairs), *[0] * unclassified]
        codes["tone"] += [i % 3 for i in range(size)]
        statuses += ["classified"] * len(pairs) + ["no_face"] * unclassified
        prompts[f"p{number}"] = slice(start, start + size)
        start += size
    sizes = {"gender": 2, "age": 2, "tone": 3}
    probabilities = {key: np.eye(sizes[key])[values] for key, values in codes.items()}
    return ArmRows(name, np.array(statuses), probabilities, prompts, {})


def of(found, prompt, attributes=("gender", "age"), name=BASELINE):
    (item,) = [x for x in found if (x.prompt_id, x.attributes, x.arm) == (prompt, attributes, name)]
    return item


def test_each_pair_of_attributes_has_a_result_over_all_prompts_and_per_prompt():
    found = intersections({BASELINE: arm([APART] * 3)}, (GENDER, AGE, TONE))
    pairs = [("gender", "age"), ("gender", "tone"), ("age", "tone")]
    assert [x.attributes for x in found if x.prompt_id is None] == pairs
    assert len(found) == 3 * (1 + 3)
    assert [cell.groups for cell in of(found, None, ("gender", "tone")).cells][:2] == [
        ("female", "light"), ("female", "medium"),
    ]  # fmt: skip


def test_only_the_prompt_with_planted_dependence_is_significant():
    found = intersections({BASELINE: arm([APART] * 9 + [TOGETHER])}, (GENDER, AGE))
    assert of(found, "p9").dependence.p_adjusted < 1e-4
    assert all(of(found, f"p{i}").dependence.p_adjusted > 0.5 for i in range(9))
    assert of(found, "p9").dependence.p_adjusted == pytest.approx(10 * of(found, "p9").dependence.p_value)


def test_expected_counts_use_the_shares_of_each_prompt():
    nurses, firefighters = [[36, 4], [9, 1]], [[1, 9], [4, 36]]
    overall = of(intersections({BASELINE: arm([nurses, firefighters])}, (GENDER, AGE)), None)
    assert [cell.count for cell in overall.cells] == [37, 13, 13, 37]
    assert [cell.expected for cell in overall.cells] == pytest.approx([37, 13, 13, 37])
    assert overall.dependence.p_value == pytest.approx(1)
    assert overall.dependence.method == "cochran_mantel_haenszel"


def test_a_weak_dependence_in_all_prompts_is_detected_over_all_prompts():
    weak = [[9, 6], [6, 9]]
    overall = of(intersections({BASELINE: arm([weak] * 20)}, (GENDER, AGE)), None)
    assert overall.dependence.p_value < 1e-4
    assert overall.n == 600


def test_with_a_single_prompt_the_overall_test_is_exact_too():
    found = intersections({BASELINE: arm([TOGETHER])}, (GENDER, AGE))
    assert of(found, None).dependence.method == "exact"
    assert of(found, None).dependence.p_value == of(found, "p0").dependence.p_value


def test_images_without_a_group_are_excluded_from_cells():
    found = intersections({BASELINE: arm([TOGETHER], unclassified=30)}, (GENDER, AGE))
    assert [cell.count for cell in of(found, "p0").cells] == [26, 6, 6, 26]
    assert intersections({BASELINE: arm([[[0, 0], [0, 0]]], unclassified=5)}, (GENDER, AGE)) == ()


def test_a_prompt_with_only_small_cells_is_not_listed_but_counts_overall():
    few = [[5, 2], [2, 5]]
    found = intersections({BASELINE: arm([few] * 4)}, (GENDER, AGE))
    assert [item.prompt_id for item in found] == [None]
    assert found[0].n == 56
    assert found[0].dependence.cramers_v.n == 4


def test_an_attribute_with_only_one_group_has_cells_and_no_test():
    found = intersections({BASELINE: arm([[[20, 12], [0, 0]]] * 2)}, (GENDER, AGE))
    assert [item.dependence for item in found] == [None] * 3
    assert [cell.count for cell in of(found, "p1").cells] == [20, 12, 0, 0]


def test_the_most_significant_of_many_prompts_are_listed_and_all_count_in_the_adjustment():
    tables = [APART] * 150 + [TOGETHER] * 3
    found = intersections({BASELINE: arm(tables), "edit": arm(tables[::-1], "edit")}, (GENDER, AGE))
    listed = [x.prompt_id for x in found if x.arm == BASELINE and x.prompt_id]
    assert len(listed) == MOST_LISTED
    assert {"p150", "p151", "p152"} <= set(listed)
    assert [x.prompt_id for x in found if x.arm == "edit" and x.prompt_id][:3] == ["p0", "p1", "p2"]
    clear = of(found, "p150").dependence
    # Three tie at the smallest p-value, so each is adjusted by 153 / 3.
    assert clear.p_adjusted == pytest.approx(51 * clear.p_value)
