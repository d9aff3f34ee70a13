"""A plan is a pure function of its config: prompts read like English, shards cover every image exactly once."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.config.settings import AuditConfig
from audit.planning.plan import (
    arms_of,
    article,
    group_text,
    plan_shards,
    prompt_text,
    prompts_of,
    steps_of_arms,
    window_of,
)
from audit.records.work import Prompt


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        ("doctor", "a"),
        ("athlete", "an"),
        ("Officer", "an"),
        ("university lecturer", "a"),
        ("umpire", "an"),
        ("usher", "an"),
        ("user researcher", "a"),
        ("unionist", "a"),
        ("uninvited guest", "an"),
        ("urologist", "a"),
        ("urban planner", "an"),
        ("utility worker", "a"),
        ("European judge", "a"),
        ("hourly worker", "an"),
        ("horologist", "a"),
        ("honest broker", "an"),
        ("one-man band", "a"),
        ("MRI technician", "an"),
        ("UX designer", "a"),
        ("X-ray technician", "an"),
        ("ER nurse", "an"),
        ("", "a"),
    ],
)
def test_the_article_follows_the_sound(following, expected):
    assert article(following) == expected


def test_each_article_agrees_with_the_word_after_it():
    assert prompt_text("{a} old {occupation} beside {a} {occupation}", "chef") == "an old chef beside a chef"
    assert prompt_text("photo of the {occupation}", "chef") == "photo of the chef"


def prompts(*occupations, known=()):
    named = {"occupations": list(occupations)} if occupations else {}
    return prompts_of(AuditConfig(name="audit", prompts=named).prompts, known)


def test_prompts_keep_the_order_of_the_config_or_of_the_world():
    assert [prompt.text for prompt in prompts("chef", "artist")] == [
        "a face photo of a chef",
        "a face photo of an artist",
    ]
    assert [prompt.occupation for prompt in prompts(known=("sailor", "chef"))] == ["sailor", "chef"]


def test_no_occupation_is_an_error():
    with pytest.raises(ValueError, match="expected at least one occupation"):
        prompts(known=())


def test_prompt_ids_are_readable_where_they_can_be():
    assert [prompt.id for prompt in prompts("doctor", "Fire Fighter", "fiancé/actor")] == [
        "doctor",
        "fire-fighter",
        "fiance-actor",
    ]


def test_occupations_that_share_a_slug_keep_their_ids_in_any_order():
    forward = {prompt.occupation: prompt.id for prompt in prompts("C coder", "C++ coder", "医者", "教師")}
    backward = {prompt.occupation: prompt.id for prompt in prompts("教師", "医者", "C++ coder", "C coder")}
    assert forward == backward
    assert len(set(forward.values())) == 4


INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # refused in a config: see test_settings
NAMES = st.text(st.characters(exclude_categories=INVISIBLE), min_size=1, max_size=80).filter(
    lambda text: re.fullmatch(r"\S(.*\S)?", text)
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_prompt_ids_are_unique_and_safe_in_file_names(occupations):
    ids = [prompt.id for prompt in prompts(*occupations)]
    assert len(set(ids)) == len(occupations)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?", prompt_id) for prompt_id in ids)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(images=st.integers(1, 200), batch=st.integers(1, 70))
def test_shards_hold_every_image_once_in_full_batches_but_the_last(images, batch):
    people = [Prompt("a", "a", "a"), Prompt("b", "b", "b")]
    shards = plan_shards(people, images, batch)
    for person in people:
        own = [shard for shard in shards if shard.prompt == person]
        assert [index for shard in own for index in shard.indices] == list(range(images))
        assert [shard.number for shard in own] == list(range(len(own)))
        assert all(len(shard.indices) == batch for shard in own[:-1])
    assert len({shard.id for shard in shards}) == len(shards)


def test_more_images_leave_the_full_shards_as_they_are():
    people = [Prompt("a", "a", "a")]
    assert plan_shards(people, 96, 32)[:2] == plan_shards(people, 64, 32)


@pytest.mark.parametrize(("images", "batch"), [(0, 4), (4, 0), (-1, 4)])
def test_an_empty_plan_is_an_error(images, batch):
    with pytest.raises(ValueError, match="expected at least 1 image and a batch of 1"):
        plan_shards([Prompt("a", "a", "a")], images, batch)


def test_the_baseline_is_the_first_arm():
    config = AuditConfig(
        name="audit", mitigations=[{"name": "m", "attribute": "age"}, {"name": "b", "attribute": "age"}]
    )
    assert arms_of(config.mitigations) == ("baseline", "m", "b")


def test_a_window_covers_every_step_that_it_touches():
    assert window_of((0.0, 1.0), 25) == range(25)
    assert window_of((0.0, 0.4), 25) == range(10)
    assert window_of((0.5, 1.0), 25) == range(12, 25)


def test_an_asymmetric_arm_takes_the_steps_of_its_window_twice_and_none_before_it():
    mitigations = [
        {"name": "plain", "attribute": "age"},
        {"name": "whole", "attribute": "age", "strength": 1, "reverse_step": "asymmetric"},
        {"name": "late", "attribute": "age", "strength": 1, "reverse_step": "asymmetric", "window": [0.5, 1.0]},
    ]
    config = AuditConfig(name="audit", mitigations=mitigations, sampling={"steps": 25})
    assert steps_of_arms(config.mitigations, config.sampling.steps, config.attributes) == 25 + 25 + 50 + (13 + 13)


def test_an_arm_whose_blocks_read_the_caption_late_takes_the_steps_before_from_the_baseline():
    mitigation = {"name": "m", "method": "prompt", "attribute": "age", "blocks": ["mid_block"], "window": [0.5, 1.0]}
    config = AuditConfig(name="audit", mitigations=[mitigation], sampling={"steps": 25})
    assert steps_of_arms(config.mitigations, config.sampling.steps, config.attributes) == 25 + 13


def test_a_group_is_named_alone_in_the_template_or_in_the_words_of_the_config():
    def text(group="old", **settings):
        mitigation = {"name": "m", "attribute": "age", **settings}
        [section] = AuditConfig(name="x", mitigations=[mitigation]).mitigations
        return group_text(section, group, "a photo of {a} {occupation}", Prompt("nurse", "a photo of a nurse", "nurse"))

    assert text(method="fair_diffusion") == "a photo of an old person"
    assert text(method="uce") == "a photo of an old"
    assert text(method="uce", group_text="{group}") == "old"
    assert text("young", method="uce", group_text="{a} {group} {occupation}") == "a young nurse"
