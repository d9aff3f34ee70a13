"""Assignment: every run of consecutive images of a prompt is as near to the target as whole images allow."""

from collections import Counter

import pytest

from audit.mitigate.assignment import assigned_group, turn
from audit.records.work import ImageKey

UNIFORM = {"young": 1 / 3, "adult": 1 / 3, "old": 1 / 3}


@pytest.mark.parametrize("first", range(7))
def test_any_stretch_of_images_meets_a_uniform_target_within_one_image(first):
    groups = Counter(assigned_group(ImageKey("doctor", i), UNIFORM, 5) for i in range(first, first + 31))
    assert max(groups.values()) - min(groups.values()) <= 1


def test_an_uneven_target_is_met_exactly_over_its_round():
    assert Counter(turn({"female": 0.6, "male": 0.4}, seed=1)) == {"female": 3, "male": 2}


def test_the_group_depends_on_the_key_and_not_on_the_batch():
    alone = assigned_group(ImageKey("nurse", 17), UNIFORM, 5)
    assert [assigned_group(ImageKey("nurse", i), UNIFORM, 5) for i in range(20)][17] == alone


def test_prompts_do_not_all_begin_with_the_same_group():
    firsts = {assigned_group(ImageKey(f"occupation-{n}", 0), UNIFORM, 5) for n in range(30)}
    assert firsts == set(UNIFORM)


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="must add up to 1"):
        turn({"female": 0.6, "male": 0.6}, seed=0)
