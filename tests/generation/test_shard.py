"""A shard is the same one in smaller batches, where memory is too small for the whole, and on a GPU."""

from unittest import mock

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from torchvision.models import squeezenet1_1
from transformers import Dinov2Config, Dinov2Model

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.parts import load_parts
from audit.generation.rows import measure, table_of
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard, do_shard_in_parts
from audit.perception.embedders.pairs import cosines, psnr
from audit.planning.plan import plan_shards, prompts_of
from tests.pretended_gpu import pretended_gpu

TOLERANCE = 1e-5
"""What ``do_shard_in_parts`` promises for probabilities and cosines."""


@pytest.fixture(scope="module")
def made():
    """One shard of the bundled model with an edited arm and attribution, made at once and in pieces of 2, 2 and 1."""
    config = AuditConfig(
        name="parts",
        prompts={"occupations": ["nurse"], "images_per_prompt": 5},
        sampling={"batch": 5},
        mitigations=[{"name": "difflens-gender", "attribute": "gender"}],
    )
    [lens] = bundle_of(ModelConfig()).lenses.iterdir()
    request = MeasurementRequest.of(config)
    parts, settings = load_parts(request, lens), ShardSettings.of(request)
    [shard] = plan_shards(prompts_of(config.prompts, ()), 5, 5)
    return do_shard(parts, settings, shard), do_shard_in_parts(parts, settings, shard, 2)


def test_smaller_batches_give_the_same_rows_within_the_stated_tolerance(made):
    whole, pieces = made
    assert pieces.table.schema == whole.table.schema
    for name in whole.table.column_names:
        expected, found = whole.table[name].to_pylist(), pieces.table[name].to_pylist()
        if name.startswith(("p_", "by_", "clip_")):
            np.testing.assert_allclose(np.array(found, float), np.array(expected, float), atol=TOLERANCE)
        elif name == "psnr":  # of pictures that differ by rounding
            np.testing.assert_allclose(np.array(found, float), np.array(expected, float), atol=0.1)
        elif name == "features":
            np.testing.assert_allclose(found, expected, atol=1e-3)
        else:
            assert found == expected


def test_every_image_of_an_arm_is_compared_with_its_baseline_image(tmp_path):
    torch.save(squeezenet1_1(weights=None).state_dict(), tmp_path / "trunk.pth")
    Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path / "d"
    )
    dino = {"network": "dinov2", "weights": str(tmp_path / "d")}
    config = AuditConfig(
        name="pairs",
        prompts={"occupations": ["nurse"], "images_per_prompt": 3},
        sampling={"batch": 3, "steps": 2},
        mitigations=[{"name": "words", "method": "prompt", "attribute": "gender"}],
        second_opinions=[],
        quality={
            "clip": "none",
            "features": dino,
            "dino": dino["weights"],
            "lpips": {"network": "squeeze", "trunk": str(tmp_path / "trunk.pth"), "own_weights": True},
        },
    )
    request = MeasurementRequest.of(config)
    parts = load_parts(request, None)
    assert parts.pairs.dino is parts.features, "weights that two keys name are loaded once"
    assert {"dino", "lpips"} < parts.signatures.keys()
    [shard] = plan_shards(prompts_of(config.prompts, ()), 3, 3)
    settings = ShardSettings.of(request)
    made = do_shard(parts, settings, shard)
    baseline, words = (made.table.filter(pc.field("arm") == arm).to_pydict() for arm in ("baseline", "words"))
    assert all(baseline[name] == [None] * 3 for name in ("psnr", "lpips", "dino_i"))
    both = made.images["words"], made.images["baseline"]
    same = table_of(
        parts,
        settings,
        shard,
        dict.fromkeys(("baseline", "words"), measure(parts, shard, "words", both[1])),
        {key: {} for key in ("baseline", "words")},
    )
    assert same.filter(pc.field("arm") == "words")["psnr"].to_pylist() == [None] * 3, "equal images decide no mean"
    np.testing.assert_allclose(words["psnr"], psnr(*both), rtol=1e-6)
    np.testing.assert_allclose(words["lpips"], parts.pairs.lpips.between(*both), rtol=1e-5)
    np.testing.assert_allclose(words["dino_i"], cosines(*map(parts.features.embed, both)), rtol=1e-4)
    assert max(words["psnr"]) < 100, "the word changed every image"


def test_attributions_of_the_pieces_add_up_to_that_of_the_shard(made):
    whole, pieces = made
    assert pieces.parts.keys() == whole.parts.keys() == {"attribution"}
    assert pieces.parts["attribution"]["images"] == 5
    for name, expected in whole.parts["attribution"].items():
        np.testing.assert_allclose(pieces.parts["attribution"][name], expected, atol=1e-4 * np.abs(expected).max())


def test_pictures_keep_their_order_and_differ_by_rounding_alone(made):
    whole, pieces = made
    for arm, images in whole.images.items():
        assert (pieces.images[arm].int() - images.int()).abs().max() <= 1


def test_a_shard_s_rows_say_which_images_lie_outside_the_groups():
    """The same pictures, judged with and without the group ``adult``: no adult becomes young or old."""
    tables = {}
    for ages in (["young", "adult", "old"], ["young", "old"]):
        config = AuditConfig(
            name="ages",
            model={"source": "rendered"},
            prompts={"occupations": ["nurse"], "images_per_prompt": 24},
            sampling={"batch": 24},
            attributes={"gender": ["female", "male"], "age": ages},
            judge={"min_confidence": 0.0},
        )
        [shard] = plan_shards(prompts_of(config.prompts, ()), 24, 24)
        tables[len(ages)] = do_shard(
            load_parts(MeasurementRequest.of(config), None), ShardSettings.of(MeasurementRequest.of(config)), shard
        ).table
    every, two = (tables[count].to_pylist() for count in (3, 2))
    adult = [max(("young", "adult", "old"), key=lambda age: row[f"p_age_{age}"]) == "adult" for row in every]
    assert 5 < sum(adult) < 24
    assert [row["outside_age"] for row in two] == adult
    assert [row["p_age_old"] is None for row in two] == adult
    assert all(abs(row["p_age_young"] + row["p_age_old"] - 1) < 1e-6 for row in two if not row["outside_age"])
    for name in ("p_gender_female", "status", "outside_gender"):
        assert [row[name] for row in two] == [row[name] for row in every]


EVERY_KIND = [
    {"name": "searched", "attribute": "gender"},
    {"name": "asyrp", "attribute": "age", "strength": 1.0, "reverse_step": "asymmetric", "window": [0, 0.4]},
    {"name": "scaled", "attribute": "skin_tone", "strength": 1.0, "edit": "scale"},
]


def rows_judged_by(judge, **sections):
    config = AuditConfig(
        name="judged",
        model={"source": "rendered"},
        prompts={"occupations": ["nurse"], "images_per_prompt": 6},
        sampling={"batch": 6},
        attributes={"gender": ["female", "male"]},
        judge=judge,
        **sections,
    )
    [shard] = plan_shards(prompts_of(config.prompts, ()), 6, 6)
    request = MeasurementRequest.of(config)
    parts, settings = load_parts(request, None), ShardSettings.of(request)
    whole, pieces = do_shard(parts, settings, shard), do_shard_in_parts(parts, settings, shard, 4)
    assert pieces.table["status"].to_pylist() == whole.table["status"].to_pylist()
    return whole.table.to_pydict()


def test_zero_shot_clip_decides_a_shard_as_it_does_as_a_second_opinion():
    rows = rows_judged_by({"source": "zero-shot", "min_confidence": 0.0})
    other = rows_judged_by({"source": "bundled"}, second_opinions=[{"name": "clip"}])
    assert set(rows["status"]) == {"classified"}
    np.testing.assert_allclose(rows["p_gender_female"], other["by_clip_gender_female"], atol=TOLERANCE)
    assert rows["p_prompt_shown"] == [None] * 6


def test_labels_by_hand_decide_a_shard_and_unlabelled_images_have_no_group(tmp_path):
    lines = ["prompt_id,index,attribute,group", "nurse,0,gender,male", "nurse,4,gender,female", "nurse,5,gender,other"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    rows = rows_judged_by({"source": str(tmp_path / "labels.csv")})
    known = {0: "classified", 4: "classified", 5: "classified"}
    assert rows["status"] == [known.get(index, "unlabelled") for index in range(6)]
    assert rows["p_gender_female"] == [0.0, None, None, None, 1.0, None]
    assert rows["outside_gender"] == [False, None, None, None, False, True]


def shard_of_every_kind():
    """Two images with attribution, every kind of edit, and every instrument, wherever torch finds a device."""
    config = AuditConfig(
        name="devices",
        prompts={"occupations": ["nurse"], "images_per_prompt": 2},
        sampling={"batch": 2},
        mitigations=EVERY_KIND,
        second_opinions=[{"name": "clip"}],
    )
    [lens] = bundle_of(ModelConfig()).lenses.iterdir()
    [shard] = plan_shards(prompts_of(config.prompts, ()), 2, 2)
    return do_shard(
        load_parts(MeasurementRequest.of(config), lens), ShardSettings.of(MeasurementRequest.of(config)), shard
    )


@pytest.fixture(scope="module")
def on_cpu():
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        return shard_of_every_kind()


def test_nothing_of_a_shard_stays_behind_on_the_cpu_when_the_model_goes_to_a_gpu(on_cpu):
    with pretended_gpu():
        found = shard_of_every_kind()
    for name in on_cpu.table.column_names:
        expected, there = on_cpu.table[name].to_pylist(), found.table[name].to_pylist()
        if name.startswith(("by_", "clip_")):  # torch takes another kernel for the attention of CLIP
            np.testing.assert_allclose(np.array(there, float), np.array(expected, float), atol=1e-6)
        else:
            assert there == expected
    assert all(torch.equal(found.images[arm], images) for arm, images in on_cpu.images.items())
    assert all(
        np.array_equal(found.parts["attribution"][name], sums) for name, sums in on_cpu.parts["attribution"].items()
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_nearly_what_the_cpu_draws(on_cpu):
    found = shard_of_every_kind()
    assert found.table["status"].to_pylist() == on_cpu.table["status"].to_pylist()
    for arm, images in on_cpu.images.items():
        assert (found.images[arm].int() - images.int()).abs().float().mean() < 2


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        do_shard_in_parts(None, None, None, 0)
