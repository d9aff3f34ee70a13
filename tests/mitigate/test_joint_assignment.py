"""A joint arm assigns combinations of groups: the joint target and every margin are met, also in short runs."""

from collections import Counter

import pytest

from audit.config.settings import AuditConfig
from audit.mitigate.assignment import assigned_groups, assigned_parts, cell_turn, turn
from audit.records.work import ImageKey

GROUPS = {"gender": ("female", "male"), "age": ("young", "adult", "old"), "skin_tone": ("light", "dark")}


def arm(targets=("uniform", "uniform"), target="independent"):
    parts = [
        {"method": "mean_difference", "attribute": attribute, "target": share, "hookpoints": [f"up_blocks.{number}"]}
        for number, (attribute, share) in enumerate(zip(GROUPS, targets, strict=False))
    ]
    [section] = AuditConfig(
        name="a", attributes=GROUPS, mitigations=[{"name": "j", "method": "joint", "parts": parts, "target": target}]
    ).mitigations
    return section, [GROUPS[name] for name in section.attributes]


def cells_of(made, images, prompt="doctor"):
    return list(zip(*assigned_parts(*made, [ImageKey(prompt, i) for i in range(images)], 3), strict=True))


@pytest.mark.parametrize("prompt", ["doctor", "nurse", "x-ray technician"])
def test_independent_uniform_parts_meet_every_combination_and_any_stretch_of_each_margin(prompt):
    cells = cells_of(arm(), 60, prompt)
    assert set(Counter(cells).values()) == {10}
    for first in range(40):
        for place in (0, 1):
            counts = Counter(cell[place] for cell in cells[first : first + 12])
            assert max(counts.values()) - min(counts.values()) <= 2
        assert max(Counter(cells[first : first + 12]).values()) <= 3


def test_a_product_of_uneven_targets_is_met_exactly_over_its_round():
    counts = Counter(cells_of(arm([{"female": 0.7, "male": 0.3}, {"young": 0.5, "adult": 0.5, "old": 0}]), 40))
    assert counts == {
        ("female", "young"): 14, ("female", "adult"): 14, ("male", "young"): 6, ("male", "adult"): 6,
    }  # fmt: skip


def test_shares_of_combinations_are_met_though_the_attributes_depend_on_each_other():
    shares = {"female & young": 0.45, "female & old": 0.05, "male & old": 0.45, "male & young": 0.05}
    shares |= {"female & adult": 0, "male & adult": 0.0}
    counts = Counter(cells_of(arm(target=shares), 20))
    assert counts == {("female", "young"): 9, ("female", "old"): 1, ("male", "old"): 9, ("male", "young"): 1}


def test_three_attributes_and_shares_that_no_short_round_meets_end_on_the_target():
    made = arm([{"female": 0.613, "male": 0.387}, {"young": 0.2, "adult": 0.3, "old": 0.5}, "uniform"])
    target = made[0].shares(made[1])
    counts = Counter(cells_of(made, 840))
    assert all(abs(counts[cell] - 840 * share) < 1 for cell, share in target.items())


def test_one_attribute_is_assigned_as_before_joint_arms_existed():
    """The rule for one attribute: the group that lies behind most."""
    for target in ({"a": 0.6, "b": 0.4}, {"a": 1.0, "b": 0.0}, {"a": 0.137, "b": 0.263, "c": 0.6}):
        for seed in range(4):
            groups = list(target)[seed % len(target) :] + list(target)[: seed % len(target)]
            taken, expected = dict.fromkeys(groups, 0), []
            for position in range(1, len(found := turn(target, seed)) + 1):
                group = max(groups, key=lambda g: target[g] * position - taken[g])
                taken[group] += 1
                expected.append(group)
            assert list(found) == expected


@pytest.mark.parametrize(("female", "images"), [(0, 0), (1, 20), (0.7, 14), (0.3, 6)])
def test_any_share_from_0_to_1_is_met(female, images):
    mitigation = {
        "name": "m", "attribute": "gender", "method": "prompt", "target": {"female": female, "male": 1 - female},
    }  # fmt: skip
    [section] = AuditConfig(name="a", mitigations=[mitigation]).mitigations
    groups = assigned_groups(section, GROUPS["gender"], [ImageKey("doctor", i) for i in range(20)], 0)
    assert groups.count("female") == images


def test_shares_of_combinations_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="must add up to 1"):
        cell_turn({("female", "young"): 0.6, ("male", "young"): 0.6}, seed=0)
