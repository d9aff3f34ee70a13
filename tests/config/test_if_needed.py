"""``if_needed`` in a config: what cannot look at an image first is refused, and older runs keep their names."""

import pytest
import yaml

from audit.config.errors import ConfigErrors
from audit.config.file import read_config
from audit.config.mitigations.arms import keeping_blocks, kept_attributes
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.planning.plan import prompts_of
from audit.preflight.lens import hookpoints_of
from audit.preflight.prompt_lengths import cut_texts, keeping_texts, model_reader
from audit.results.benchmark.costs import calls_alone

CAPTION = {"name": "m", "method": "prompt", "attribute": "gender"}
MEAN = {"name": "m", "method": "mean_difference", "attribute": "gender"}
PAIR = {"name": "m", "method": "fair_pca", "attribute": "gender"}


def mistakes(tmp_path, arm, **more):
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "mitigations": [arm], **more}, sort_keys=False))
    with pytest.raises(ConfigErrors) as caught:
        read_config(path)
    return [f"{error.where}: {error.message}" for error in caught.value.errors]


@pytest.mark.parametrize(
    ("arm", "more", "where", "message"),
    [
        (CAPTION | {"if_needed": {"keep": ["ages"]}}, {}, "if_needed.keep[0]", "did you mean 'age'"),
        (CAPTION | {"if_needed": {"keep": ["gender"]}}, {}, "if_needed.keep[0]", "that the arm does not steer"),
        (CAPTION | {"if_needed": {"keep": "all"}}, {}, "if_needed.keep", "'others', 'none' or a list of attributes"),
        (CAPTION | {"if_needed": {"words": {"age": {"elder": "x"}}}}, {}, "if_needed.words.age.elder", "'elder'"),
        (CAPTION | {"if_needed": {"words": {"hair": {"long": "x"}}}}, {}, "if_needed.words.hair", "'hair'"),
        (CAPTION | {"if_needed": {"blocks": ["up_blocks.0"]}}, {}, "if_needed.blocks", "the whole network reads"),
        (
            MEAN | {"if_needed": {"keep": "none", "blocks": ["mid_block"]}},
            {},
            "if_needed.blocks",
            "no attribute is kept",
        ),
        (
            MEAN | {"if_needed": {"keep": ["age"], "words": {"gender": {"male": "x"}}}},
            {},
            "if_needed.words.gender",
            "age",
        ),
        (CAPTION | {"strength": 0.5, "if_needed": {}}, {}, "if_needed", "expected strength: 1"),
        (CAPTION | {"strength": "search", "if_needed": {}}, {}, "if_needed", "expected strength: 1"),
        (PAIR | {"if_needed": {}}, {}, "if_needed", "expected blocks beside 'fair_pca'"),
        (CAPTION | {"method": "uce", "if_needed": {}}, {}, "if_needed", "which changes the model"),
        (CAPTION | {"if_needed": {}}, {"judge": {"source": "labels.csv"}}, "if_needed", "labels by hand"),
        (
            {"name": "m", "if_needed": {}, "attribute": "gender"},
            {"prompts": {"occupations": "none"}, "sampling": {"guidance": 1}},
            "if_needed",
            "write keep: none",
        ),
        (
            {"name": "m", "method": "joint", "parts": [MEAN | {"if_needed": {}}, CAPTION | {"attribute": "age"}]},
            {},
            "parts[0].if_needed",
            "expected if_needed at the arm",
        ),
    ],
)
def test_what_cannot_look_first_or_keep_is_refused_at_its_place(tmp_path, arm, more, where, message):
    found = mistakes(tmp_path, arm, **more)
    assert any(f"mitigations[0].{where}: " in one and message in one for one in found), found


def test_the_section_is_stored_only_if_the_config_has_it():
    plain = AuditConfig(name="a", mitigations=[CAPTION | {"name": "p"}, MEAN])
    needed = AuditConfig(name="a", mitigations=[CAPTION | {"name": "p", "if_needed": {}}, MEAN])
    stored = [arm.model_dump(mode="json") for arm in (*plain.mitigations, *needed.mitigations)]
    assert ["if_needed" in one for one in stored] == [False, False, True, False]
    assert AuditConfig(name="a", mitigations=stored[2:]).mitigations == needed.mitigations
    parts = [{"method": "mean_difference", "attribute": name} for name in ("gender", "age")]
    [joint] = AuditConfig(name="a", mitigations=[{"name": "j", "method": "joint", "parts": parts}]).mitigations
    assert "if_needed" not in joint.model_dump(mode="json")
    assert all("if_needed" not in part for part in joint.model_dump(mode="json")["parts"])


def test_attributes_that_the_arm_does_not_steer_are_kept_unless_the_config_says_otherwise():
    def kept(arm):
        [read] = AuditConfig(name="a", mitigations=[arm]).mitigations
        return kept_attributes(read, ("gender", "age", "skin_tone")), keeping_blocks(read)

    parts = [MEAN, CAPTION | {"attribute": "age", "blocks": ["up_blocks.0"]}]
    unnamed = [{key: value for key, value in part.items() if key != "name"} for part in parts]
    joint = {"name": "m", "method": "joint", "parts": unnamed}
    assert kept(MEAN) == ((), None)
    assert kept(MEAN | {"if_needed": {}}) == (("age", "skin_tone"), ())
    assert kept(MEAN | {"if_needed": {"keep": ["age"], "blocks": ["mid_block"]}}) == (("age",), ("mid_block",))
    assert kept(joint | {"if_needed": {}}) == (("skin_tone",), None)
    assert kept(joint | {"if_needed": {"blocks": ["up_blocks.0"]}}) == (("skin_tone",), None)
    assert kept(joint | {"if_needed": {"blocks": ["up_blocks.0", "mid_block"]}}) == (("skin_tone",), ("mid_block",))


def test_blocks_of_captions_are_tried_like_other_places():
    config = AuditConfig(name="a", mitigations=[MEAN | {"if_needed": {"blocks": ["up_blocks.7"]}}])
    found = hookpoints_of(None, config.mitigations)
    assert found["mitigations", 0, "if_needed", "blocks", 0] == "text:up_blocks.7"


def test_the_longest_caption_that_an_image_can_need_is_checked_before_work_starts():
    arm = CAPTION | {"if_needed": {"words": {"age": {"old": "very very very very very very very very old"}}}}
    config = AuditConfig(name="a", prompts={"occupations": ["doctor"]}, mitigations=[arm])
    request = MeasurementRequest.of(config)
    prompts = prompts_of(config.prompts, ())
    [problem] = cut_texts(request, {}, prompts)
    assert problem.location == ("mitigations", 0, "if_needed")
    assert "would be cut" in problem.message
    texts = list(keeping_texts(request, config.mitigations[0], prompts, model_reader(config.model)))
    assert {"female", "male"} <= {word for text in texts for word in text.split()}


def test_an_image_that_has_to_be_changed_costs_both_images():
    plain, late = CAPTION | {"blocks": ["mid_block"]}, {"window": [0.4, 1]}
    edit = MEAN | late  # its caption is read by the whole network at all steps, if there is something to keep
    nothing = {"if_needed": {"keep": "none"}}
    arms = [plain, plain | {"if_needed": {}}, plain | late, plain | late | {"if_needed": {}}, edit | nothing]
    read = [AuditConfig(name="a", mitigations=[arm]).mitigations[0] for arm in (*arms, edit | {"if_needed": {}})]
    attributes = {"gender": ("female", "male"), "age": ("young", "old")}
    assert [calls_alone(arm, 10, attributes) for arm in read] == [10, 20, 10, 16, 16, 20]


def test_an_arm_that_leaves_images_alone_is_no_counterfactual_prompt():
    one = CAPTION | {"target": {"female": 1, "male": 0}}
    read = [AuditConfig(name="a", mitigations=[arm]).mitigations[0] for arm in (one, one | {"if_needed": {}})]
    assert [arm.only_group(("female", "male")) for arm in read] == ["female", None]
