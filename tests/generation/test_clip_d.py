"""CLIP-D in the rows of a shard: from the embeddings that exist, in the right direction, null without a CLIP model."""

from functools import partial

import numpy as np
import pyarrow.compute as pc
import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.parts import load_parts
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard
from audit.planning.plan import plan_shards, prompts_of
from audit.storage.rows import clip_d_columns

IMAGES = 16


def counted(calls, name, original, *given):
    calls[name] += 1
    return original(*given)


def made(monkeypatch=None, **sections):
    """Rows of one shard whose captions name the group, and how often CLIP embedded images and texts."""
    steering = {"name": "words", "method": "prompt", "attribute": "gender"}
    config = AuditConfig.model_validate(
        {
            "name": "near",
            "prompts": {"occupations": ["nurse"], "images_per_prompt": IMAGES},
            "sampling": {"batch": IMAGES},
            "mitigations": [steering],
            **sections,
        }
    )
    request = MeasurementRequest.of(config)
    parts, settings = load_parts(request, None), ShardSettings.of(request)
    calls = {"images": 0, "text": 0}
    for name in calls if monkeypatch else ():
        monkeypatch.setattr(parts.clip, name, partial(counted, calls, name, getattr(parts.clip, name)))
    [shard] = plan_shards(prompts_of(config.prompts, ()), IMAGES, IMAGES)
    return parts, settings, do_shard(parts, settings, shard), calls


@pytest.fixture(scope="module")
def shard():
    with pytest.MonkeyPatch.context() as patch:
        yield made(patch)


def test_images_are_embedded_once_for_each_arm_and_no_text_of_a_group_again(shard):
    *_, calls = shard
    assert calls == {"images": 2, "text": 1}, "the one text is the prompt"


def test_the_cosine_is_that_of_the_image_and_the_text_of_the_group(shard):
    parts, settings, found, _ = shard
    embedded = parts.clip.images(found.images["words"])
    text = parts.clip.text("a face photo of a male person")
    rows = found.table.filter(pc.field("arm") == "words")
    np.testing.assert_allclose(rows["clip_d_gender_male"].to_numpy(), embedded @ text, atol=1e-6)
    assert all(found.table[name].null_count == 0 for name in clip_d_columns(settings.attributes))


def test_images_steered_to_a_group_are_nearer_to_its_text(shard):
    rows = shard[2].table.filter(pc.field("arm") == "words")
    assigned = np.array(rows["assigned"].to_pylist())
    male, female = (rows[f"clip_d_gender_{group}"].to_numpy() for group in ("male", "female"))
    assert male[assigned == "male"].mean() > male[assigned == "female"].mean() + 0.05
    assert female[assigned == "female"].mean() > female[assigned == "male"].mean() + 0.05


def test_without_a_clip_model_the_columns_are_null():
    parts, settings, found, _ = made(quality={"clip": "none"}, second_opinions=[], sampling={"batch": 16, "steps": 2})
    assert parts.directions is None
    assert all(found.table[name].null_count == 2 * IMAGES for name in clip_d_columns(settings.attributes))
