"""Arms whose prompts name different groups: shares of the named group, and what else differs, paired by image."""

import numpy as np
import pytest

from audit.config.mitigations.texts import PromptConfig
from audit.records.arms.counterfactuals import NamedArm
from audit.records.attributes import Attribute
from audit.results.arm_rows import ArmRows
from audit.results.arms.counterfactuals import counterfactual_pairs

GENDER, AGE = Attribute("gender", ("female", "male")), Attribute("age", ("young", "old"))
NAMED = (NamedArm("she", "gender", "female"), NamedArm("he", "gender", "male"))
EVEN = {}


def rows(arm, genders, ages, faceless=()):
    """Rows of two prompts, which share the images evenly; images in ``faceless`` have no face."""
    n = len(genders)
    seen = [place not in faceless for place in range(n)]
    probabilities = {
        "gender": np.where(np.array(seen)[:, None], np.eye(2)[genders], np.nan),
        "age": np.where(np.array(seen)[:, None], np.eye(2)[ages], np.nan),
    }
    statuses = np.array(["classified" if one else "no_face" for one in seen])
    return ArmRows(arm, statuses, probabilities, {"p0": slice(0, n // 2), "p1": slice(n // 2, n)}, {})


def pair(she, he):
    [found] = counterfactual_pairs({"she": she, "he": he}, NAMED, (GENDER, AGE), EVEN)
    return found


def test_shown_is_the_share_of_the_named_group_in_its_own_arm():
    found = pair(rows("she", [0] * 18 + [1] * 2, [0] * 20), rows("he", [1] * 20, [0] * 20))
    assert {group: share.value for group, share in found.shown.items()} == {"female": 0.9, "male": 1.0}
    assert found.shown["female"].low < 0.9 < found.shown["female"].high


def test_a_word_that_also_makes_older_is_found_with_its_sign_and_the_named_attribute_is_not_listed():
    found = pair(rows("she", [0] * 40, [0] * 40), rows("he", [1] * 40, [1] * 30 + [0] * 10))
    assert {change.attribute for change in found.changes} == {"age"}
    [mean] = (change for change in found.changes if change.prompt_id is None)
    assert mean.shares["old"].value == pytest.approx(0.75)  # the first prompt all, the second half
    assert mean.shares["old"].low > 0
    assert mean.shares["young"].value == pytest.approx(-0.75)
    assert [c.shares["old"].value for c in found.changes if c.prompt_id] == pytest.approx([1.0, 0.5])


def test_equal_images_differ_in_nothing():
    found = pair(rows("she", [0] * 20, [0, 1] * 10), rows("he", [1] * 20, [0, 1] * 10))
    [mean] = (change for change in found.changes if change.prompt_id is None)
    assert mean.shares["old"].low <= 0 <= mean.shares["old"].high
    assert not found.missing.differs


def test_faces_that_are_lost_under_one_word_are_a_difference():
    found = pair(rows("she", [0] * 60, [0] * 60), rows("he", [1] * 60, [0] * 60, faceless=range(20)))
    assert found.missing.differs
    assert found.missing.difference.value == pytest.approx(1 / 3)
    assert found.shown["male"].n == 40


def test_arms_of_one_group_or_of_different_attributes_are_no_pair():
    arms = {name: rows(name, [0] * 4, [0] * 4) for name in ("a", "b", "c")}
    named = (NamedArm("a", "gender", "male"), NamedArm("b", "gender", "male"), NamedArm("c", "age", "old"))
    assert counterfactual_pairs(arms, named, (GENDER, AGE), EVEN) == ()


def test_an_arm_without_a_classified_image_has_no_pair():
    arms = {"she": rows("she", [0] * 4, [0] * 4, faceless=range(4)), "he": rows("he", [1] * 4, [0] * 4)}
    assert counterfactual_pairs(arms, NAMED, (GENDER, AGE), EVEN) == ()


@pytest.mark.parametrize(
    ("keys", "group"),
    [
        ({"target": {"female": 1, "male": 0}}, "female"),
        ({"target": {"female": 0, "male": 1}}, "male"),
        ({}, None),
        ({"target": {"female": 0.9, "male": 0.1}}, None),
        ({"target": {"female": 1, "male": 0}, "strength": 0.5}, None),
        ({"target": {"female": 1, "male": 0}, "strength": 0}, None),
        ({"target": {"female": 1, "male": 0}, "blocks": ["mid_block"]}, None),
    ],
)
def test_only_a_prompt_that_names_one_group_in_full_counts(keys, group):
    section = PromptConfig(name="a", method="prompt", attribute="gender", **keys)
    assert section.only_group(("female", "male")) == group
