"""A joint arm in a config: its parts are named, what cannot act together is refused at its place, and it reads back."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from audit.config.errors import ConfigErrors
from audit.config.file import read_config
from audit.config.mitigations.arms import located, sections_of, steered_shares
from audit.config.schema import config_schema
from audit.config.settings import AuditConfig
from audit.dissect.settings import needs_lens
from audit.planning.plan import arms_of, steps_of_arms
from audit.preflight.lens import hookpoints_of
from audit.preflight.readiness import check_ready

SHIPPED = Path(__file__).parents[2] / "configs" / "gender_and_age.yaml"
GENDER = {"method": "mean_difference", "attribute": "gender"}
AGE = {"method": "mean_difference", "attribute": "age", "hookpoints": ["up_blocks.0"]}


def joint(*parts, **more):
    return {"name": "both", "method": "joint", "parts": list(parts or (GENDER, AGE)), **more}


def mistakes(tmp_path, *arms):
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "mitigations": list(arms)}, sort_keys=False))
    with pytest.raises(ConfigErrors) as caught:
        read_config(path)
    return [f"{error.where}: {error.message}" for error in caught.value.errors]


def test_parts_are_named_after_the_arm_and_the_attribute_and_read_back_as_they_are():
    config = AuditConfig(name="a", mitigations=[joint(GENDER, AGE), {"name": "alone", "attribute": "age"}])
    assert [section.name for section in sections_of(config.mitigations)] == ["both.gender", "both.age", "alone"]
    assert arms_of(config.mitigations) == ("baseline", "both", "alone")
    assert AuditConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_an_attribute_of_several_words_gives_a_part_a_name_for_files():
    attributes = {"hair + eye colour": ("red", "black"), "gender": ("female", "male")}
    parts = (GENDER, GENDER | {"attribute": "hair + eye colour"})
    config = AuditConfig(name="a", attributes=attributes, mitigations=[joint(*parts)])
    assert [section.name for section in sections_of(config.mitigations)] == ["both.gender", "both.hair---eye-colour"]


def test_the_shipped_joint_config_is_valid_and_edits_each_attribute_at_its_own_place():
    config = read_config(SHIPPED, checks=[check_ready])
    edited = {section.attribute: section.edited_modules for section in sections_of(config.mitigations)}
    attention = "up_blocks.0.attentions.{}.transformer_blocks.0.attn2"
    assert edited == {"gender": ("mid_block",), "age": (attention.format(0), attention.format(1))}
    assert config.prompts.images_per_prompt % 6 == 0


def test_places_and_the_need_for_a_lens_look_into_the_parts():
    config = AuditConfig(name="a", mitigations=[joint(GENDER, {"attribute": "age"})])
    assert [place for place, _ in located(config.mitigations)] == [
        ("mitigations", 0, "parts", 0), ("mitigations", 0, "parts", 1),
    ]  # fmt: skip
    assert hookpoints_of(None, config.mitigations) == {("mitigations", 0, "parts", 0, "hookpoints", 0): "mid_block"}
    assert needs_lens(config.lens, config.prompts, config.mitigations)


def test_an_arm_counts_its_calls_once_and_shares_the_steps_before_its_first_part():
    parts = (GENDER | {"window": [0.4, 1]}, AGE | {"window": [0.6, 1]})
    config = AuditConfig(name="a", mitigations=[joint(*parts)])
    assert steps_of_arms(config.mitigations, 10, config.attributes) == 10 + 6
    asymmetric = [joint(*(part | {"reverse_step": "asymmetric"} for part in parts))]
    config = AuditConfig(name="a", mitigations=asymmetric)
    assert steps_of_arms(config.mitigations, 10, config.attributes) == 10 + 6 + 6
    guided = joint({"method": "fair_diffusion", "attribute": "age"}, GENDER | {"window": [0.4, 1]})
    config = AuditConfig(name="a", mitigations=[guided])
    assert steps_of_arms(config.mitigations, 10, config.attributes) == 10 + 10 + 2 * 10


PROMPT = {"method": "prompt", "attribute": "gender"}
BY_BLOCK = {"method": "prompt", "attribute": "age", "blocks": ["up_blocks.0"]}


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        (joint(GENDER), "mitigations[0].parts: expected 2 parts or more, found 1"),
        (joint(GENDER, GENDER), "mitigations[0].parts[1].attribute: expected one part for each attribute, found 'gend"),
        (joint(GENDER, AGE | {"attribute": "agge"}), "mitigations[0].parts[1].attribute: expected an audited attribut"),
        (joint(GENDER, AGE | {"strenth": 1}), "mitigations[0].parts[1].strenth: expected one of name, attribute"),
        (joint(GENDER, {"method": "joint"}), "mitigations[0].parts[1].method: expected 'difflens', 'prompt',"),
        (joint(GENDER, AGE | {"target": {"young": 1}}), "mitigations[0].parts[1].target: expected a share for each gr"),
        (
            joint(PROMPT, {"method": "fair_pca", "attribute": "age"}),
            "mitigations[0].parts[1].method: expected the text",
        ),
        (joint(PROMPT | {"blocks": ["up_blocks.0"]}, BY_BLOCK), "mitigations[0].parts[1].method: expected the text of"),
        (
            joint(*({"method": "fair_diffusion", "attribute": name} for name in ("gender", "age"))),
            "mitigations[0].parts[1].method: expected guidance by further texts in one part only",
        ),
        (
            joint(*({"method": "uce", "attribute": name} for name in ("gender", "age"))),
            "mitigations[0].parts[1].method: expected weights in one part only",
        ),
        (
            joint(GENDER, AGE | {"reverse_step": "asymmetric"}),
            "mitigations[0].parts[1].reverse_step: expected symmetric, as in the other parts",
        ),
        (joint(target=3), "mitigations[0].target: expected 'independent' or a share for each combination of groups"),
        (joint(target={"female & young": 1}), "mitigations[0].target: expected a share for each combination"),
        (joint(target={"female&young": 1}), "mitigations[0].target.female&young: expected a combination"),
    ],
)
def test_a_mistake_is_reported_once_at_its_place(tmp_path, arm, expected):
    assert expected in mistakes(tmp_path, arm)[-1]


CELLS = [f"{gender} & {age}" for gender in ("female", "male") for age in ("young", "adult", "old")]


@pytest.mark.parametrize(
    ("shares", "parts", "expected"),
    [
        ([0.5, 0.4, 0, 0, 0, 0], (GENDER, AGE), "target: expected shares that add up to 1 (within 0.005), found 0.9"),
        ([1.5, 0, 0, 0, 0, 0], (GENDER, AGE), "target.female & young: expected "),
        (
            [1, 0, 0, 0, 0, 0],
            (GENDER | {"target": {"female": 1, "male": 0}}, AGE),
            "parts[0].target: expected no target of a part beside shares of the combinations",
        ),
        (
            [1, 0, 0, 0, 0, 0],
            ({"method": "uce", "attribute": "gender"}, AGE),
            "parts[0].method: expected methods that steer single images",
        ),
    ],
)
def test_shares_of_the_combinations_are_a_distribution_and_the_only_target(tmp_path, shares, parts, expected):
    [mistake] = mistakes(tmp_path, joint(*parts, target=dict(zip(CELLS, shares, strict=True))))
    assert mistake.startswith(f"mitigations[0].{expected}")


def test_a_part_may_not_have_the_name_of_an_arm(tmp_path):
    [mistake] = mistakes(tmp_path, {"name": "both.age", "attribute": "age"}, joint())
    assert mistake.startswith("mitigations[1].parts[1]")
    assert "expected a unique name, found 'both.age' again" in mistake


def test_the_schema_lets_parts_lack_a_name_and_wants_two_of_them():
    validator = jsonschema.Draft202012Validator(config_schema())
    assert validator.is_valid({"name": "a", "mitigations": [joint()]})
    assert not validator.is_valid({"name": "a", "mitigations": [joint(GENDER)]})
    assert not validator.is_valid({"name": "a", "mitigations": [{**GENDER}]})


def test_parts_at_different_blocks_may_both_name_a_group_in_a_text():
    blocks = joint(PROMPT | {"blocks": ["mid_block"]}, BY_BLOCK)
    assert AuditConfig(name="a", mitigations=[blocks])
    assert AuditConfig(name="a", mitigations=[joint(PROMPT, BY_BLOCK)])


def test_an_arm_steers_images_to_the_groups_of_each_of_its_attributes():
    """The sums over a joint target, the product of the parts without one, and equal shares of a plain arm."""
    groups = {"gender": ("female", "male"), "age": ("young", "old")}
    cells = {"female & young": 0.4, "female & old": 0.1, "male & young": 0.2, "male & old": 0.3}
    audit = AuditConfig(
        name="a",
        attributes=groups,
        judge={"source": "zero-shot"},
        mitigations=[
            joint(target=cells),
            joint({**GENDER, "target": {"female": 0.9, "male": 0.1}}, AGE, name="product"),
            {"name": "none", "method": "prompt", "attribute": "gender", "target": {"female": 0, "male": 1}},
            {"name": "even", "method": "prompt", "attribute": "age"},
        ],
    )
    own, product, none, even = (steered_shares(arm, audit.attributes) for arm in audit.mitigations)
    assert own["gender"] == pytest.approx({"female": 0.5, "male": 0.5})
    assert own["age"] == pytest.approx({"young": 0.6, "old": 0.4})
    assert product["gender"] == pytest.approx({"female": 0.9, "male": 0.1})
    assert none == {"gender": {"female": 0, "male": 1}}
    assert even == {"age": {"young": 0.5, "old": 0.5}}
