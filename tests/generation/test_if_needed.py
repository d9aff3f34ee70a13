"""An arm that looks at each image first: right images stay bit for bit, the others keep what captions name."""

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import save_file

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.if_needed import Shown, keeping
from audit.generation.parts import load_parts
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard
from audit.planning.fits import TENSORS_FILE
from audit.planning.plan import plan_shards, prompts_of
from audit.records.work import BASELINE

IMAGES, STEPS, BATCH = 14, 10, 16
CAPTION = {"method": "prompt", "attribute": "gender"}
MEAN = {"method": "mean_difference", "attribute": "gender", "images_per_group": 1, "strength": 1}
JOINT = {
    "method": "joint",
    "name": "joint",
    "parts": [
        {"method": "prompt", "attribute": "gender", "blocks": ["mid_block"]},
        {"method": "prompt", "attribute": "age", "blocks": ["up_blocks.0"]},
    ],
}
ARMS = [
    CAPTION | {"name": "all"},
    CAPTION | {"name": "needed", "if_needed": {}},
    CAPTION | {"name": "careless", "if_needed": {"keep": "none"}},
    JOINT | {"if_needed": {}},
]


def request_of(*arms):
    config = AuditConfig(
        name="needed",
        prompts={"occupations": ["nurse"], "images_per_prompt": IMAGES},
        sampling={"batch": BATCH, "steps": STEPS},
        mitigations=list(arms),
        second_opinions=[],
        quality={"clip": "none", "features": "none"},
    )
    return MeasurementRequest.of(config)


@pytest.fixture(scope="module")
def made():
    """One shard of nurses, nearly all women, smaller than its batch."""
    request = request_of(*ARMS)
    [shard] = plan_shards(prompts_of(request.prompts, ()), IMAGES, BATCH)
    return do_shard(load_parts(request, None), ShardSettings.of(request), shard)


def shown(made, arm, attribute):
    """Return the group of each image, as the rows have it."""
    rows = made.table.filter(pc.field("arm") == arm).to_pydict()
    groups = [name for name in rows if name.startswith(f"p_{attribute}_")]
    values = np.array([rows[name] for name in groups], dtype=float)
    return [None if np.isnan(column).any() else groups[column.argmax()].split("_")[-1] for column in values.T]


def assigned(made, arm, attribute="gender"):
    return made.table.filter(pc.field("arm") == arm)[f"assigned_{attribute}"].to_pylist()


def changed(made, arm):
    return (made.images[arm] != made.images[BASELINE]).flatten(1).any(1).tolist()


@pytest.mark.parametrize("arm", ["needed", "careless"])
def test_an_image_that_shows_its_group_stays_bit_for_bit_and_any_other_is_changed(made, arm):
    right = [one == to for one, to in zip(shown(made, BASELINE, "gender"), assigned(made, arm), strict=True)]
    assert changed(made, arm) == [not one for one in right]
    assert 3 <= sum(right) <= IMAGES - 3
    assert assigned(made, arm) == assigned(made, "all")
    assert all(changed(made, "all"))


def test_captions_keep_the_other_attributes_of_changed_images(made):
    def flips(arm):
        pairs = [zip(shown(made, BASELINE, name), shown(made, arm, name), strict=True) for name in ("age", "skin_tone")]
        return sum(before != after for own in pairs for before, after in own if before is not None)

    assert flips("needed") < flips("careless") < flips("all")
    right = [one == to for one, to in zip(shown(made, "needed", "gender"), assigned(made, "needed"), strict=True)]
    assert sum(right) >= IMAGES - 1


def test_a_joint_arm_leaves_an_image_alone_that_shows_both_groups(made):
    pairs = [zip(shown(made, BASELINE, name), assigned(made, "joint", name), strict=True) for name in ("gender", "age")]
    right = [all(one == to for one, to in both) for both in zip(*pairs, strict=True)]
    assert changed(made, "joint") == [not one for one in right]


def captions_of(*arms, groups):
    """Return what each arm's keeping captions are for three images with the groups of each attribute."""
    request = request_of(*arms)
    settings, [prompt] = ShardSettings.of(request), prompts_of(request.prompts, ())
    known = {one.name: one.groups for one in settings.attributes}
    codes = {
        name: np.array([known[name].index(group) if group else -1 for group in own]) for name, own in groups.items()
    }
    seen = Shown.of(codes, settings, 4)
    found = {}
    for arm in request.mitigations:
        phrases = seen.phrases(arm, settings)
        found[arm.name] = phrases, keeping(arm, phrases, prompt, settings.template, STEPS)
    return found


THREE = {
    "gender": ["female", "male", "female"],
    "age": ["old", "young", None],
    "skin_tone": ["dark", None, None],
}


def test_the_whole_network_or_the_named_blocks_read_what_must_stay_and_padding_repeats_the_last_image():
    found = captions_of(
        MEAN | {"name": "whole", "if_needed": {}},
        MEAN | {"name": "block", "window": [0.5, 1], "if_needed": {"keep": ["age"], "blocks": ["up_blocks.0"]}},
        MEAN | {"name": "worded", "if_needed": {"words": {"age": {"old": "elderly"}}}},
        groups=THREE,
    )
    [whole] = found["whole"][1]
    plain = "a face photo of a nurse"
    young = "a face photo of a young nurse"
    assert whole.texts == ("a face photo of an old dark skinned nurse", young, plain, plain)
    [block] = found["block"][1]
    assert block.block_texts == {"up_blocks.0": ("a face photo of an old nurse", young, plain, plain)}
    assert (block.texts, block.window) == (None, range(5, STEPS))
    [worded] = found["worded"][1]
    assert worded.texts[0] == "a face photo of an elderly dark skinned nurse"


def test_captions_of_the_method_prompt_need_no_other_caption():
    found = captions_of(
        CAPTION | {"name": "all", "if_needed": {}},
        CAPTION | {"name": "some", "blocks": ["mid_block"], "if_needed": {"blocks": ["mid_block", "up_blocks.0"]}},
        CAPTION | {"name": "same", "blocks": ["mid_block"], "if_needed": {"blocks": ["mid_block"]}},
        CAPTION | {"name": "none", "if_needed": {"keep": "none"}},
        groups=THREE,
    )
    assert found["all"][1] == found["same"][1] == ()
    assert dict(found["all"][0][0]) == {"age": "old", "skin_tone": "dark skinned"}
    [some] = found["some"][1]
    assert list(some.block_texts) == ["up_blocks.0"], "the mid block reads the caption of the method"
    assert found["none"] == ((), ())


def test_a_caption_does_not_depend_on_the_other_images_of_the_batch():
    arm = MEAN | {"name": "m", "if_needed": {}}
    nobody = {name: [None] for name in THREE}
    alone = captions_of(arm, groups=nobody)["m"][1]
    beside = captions_of(arm, groups={name: [None, *groups[:1]] for name, groups in THREE.items()})["m"][1]
    assert alone[0].texts[0] == beside[0].texts[0] == "a face photo of a nurse"


@pytest.mark.parametrize("window", [(0.0, 1.0), (0.5, 1.0)])
def test_an_edit_of_a_map_that_is_discarded_leaves_no_activations(tmp_path, window):
    plain = MEAN | {"name": "plain", "window": window}
    request = request_of(plain, plain | {"name": "needed", "if_needed": {"keep": "none"}})
    parts = load_parts(request, None, fits={name: _fit(tmp_path) for name in ("plain", "needed")})
    [shard] = plan_shards(prompts_of(request.prompts, ()), IMAGES, BATCH)
    found = do_shard(parts, ShardSettings.of(request), shard)
    rows = {arm: found.table.filter(pc.field("arm") == arm)["activations"].to_pylist() for arm in found.images}
    stays = [not one for one in changed(found, "needed")]
    assert 0 < sum(stays) < IMAGES
    for row, same in enumerate(stays):
        edited, found_here = (np.array(rows[arm][row][0][1], dtype=float) for arm in ("plain", "needed"))
        before = np.array(rows[BASELINE][row][0][1], dtype=float)
        expected = np.where(np.isnan(edited), np.nan, before) if same else edited
        np.testing.assert_array_equal(found_here, expected)


def _fit(folder):
    """Write a mean difference whose directions are noise of a fixed seed."""
    noise = torch.Generator().manual_seed(3)
    one = torch.randn(STEPS, 128, 4, 4, generator=noise)
    save_file({"mid_block/female": one, "mid_block/male": -one}, folder / TENSORS_FILE)
    return folder
