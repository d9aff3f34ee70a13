"""One arm steers gender and age of the bundled model together, and any share of one attribute, as the judge sees it."""

from collections import Counter

import pyarrow.compute as pc
import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.parts import load_parts
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard
from audit.planning.plan import plan_shards, prompts_of
from audit.storage.rows import row_schema

IMAGES, STEPS = 10, 8
AGES = ("young", "old")


def gender(female, name):
    target = {"female": female, "male": round(1 - female, 1)}
    return {"name": name, "method": "prompt", "attribute": "gender", "target": target}


JOINT = {
    "name": "both",
    "method": "joint",
    "target": {"female & young": 0.1, "female & old": 0.6, "male & young": 0.3, "male & old": 0},
    "parts": [
        {"method": "prompt", "attribute": "gender"},
        {"method": "prompt", "attribute": "age", "blocks": ["up_blocks.0"]},
    ],
}
NEUTRAL = JOINT | {"name": "neutral", "parts": [part | {"strength": 0} for part in JOINT["parts"]]}


@pytest.fixture(scope="module")
def made():
    """One shard of nurses, nearly all women: the baseline, one attribute at several shares, and two attributes."""
    config = AuditConfig(
        name="joint",
        attributes={"gender": ("female", "male"), "age": AGES, "skin_tone": ("light", "medium", "tan", "dark")},
        prompts={"occupations": ["nurse"], "images_per_prompt": IMAGES},
        sampling={"batch": IMAGES, "steps": STEPS},
        mitigations=[gender(0.3, "reversed"), gender(1.0, "all"), gender(0.0, "none"), JOINT, NEUTRAL],
        second_opinions=[],
        quality={"clip": "none", "features": "none"},
    )
    request = MeasurementRequest.of(config)
    [shard] = plan_shards(prompts_of(config.prompts, ()), IMAGES, IMAGES)
    return do_shard(load_parts(request, None), ShardSettings.of(request), shard), ShardSettings.of(request)


def of(made, arm):
    return made[0].table.filter(pc.field("arm") == arm).to_pydict()


def women(rows):
    return sum(p is not None and p > 0.5 for p in rows["p_gender_female"])


@pytest.mark.parametrize(("arm", "female"), [("reversed", 3), ("all", 10), ("none", 0)])
def test_a_share_of_0_of_1_and_of_3_in_10_is_assigned_exactly_and_shown(made, arm, female):
    rows = of(made, arm)
    assert rows["assigned"].count("female") == female
    assert rows["assigned_gender"] == rows["assigned"]
    assert abs(women(rows) - female) <= 1
    assert women(of(made, "baseline")) >= 8


def test_a_joint_arm_assigns_a_group_of_each_attribute_and_shows_both(made):
    rows = of(made, "both")
    cells = list(zip(rows["assigned_gender"], rows["assigned_age"], strict=True))
    assert Counter(cells) == {("female", "young"): 1, ("female", "old"): 6, ("male", "young"): 3}
    assert rows["assigned"] == [" & ".join(cell) for cell in cells]
    assert rows["assigned_skin_tone"] == [None] * IMAGES
    shown = [
        ("female" if female > 0.5 else "male", "young" if young > 0.5 else "old")
        for female, young in zip(rows["p_gender_female"], rows["p_age_young"], strict=True)
        if female is not None and young is not None
    ]
    right = sum((Counter(shown) & Counter(cells)).values())
    assert right >= 0.7 * len(shown) > 0


def test_a_neutral_joint_arm_is_the_baseline_bit_for_bit(made):
    images = made[0].images
    assert (images["neutral"] == images["baseline"]).all()
    assert not (images["both"] == images["baseline"]).all()
    assert of(made, "neutral")["assigned_age"].count("old") == 6


def test_the_rows_have_the_columns_of_the_schema(made):
    found, settings = made
    assert found.table.schema.equals(row_schema(settings.attributes, settings.opinions))
    assert of(made, "baseline")["assigned"] == of(made, "baseline")["assigned_gender"] == [None] * IMAGES
