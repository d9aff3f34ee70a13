"""Texts of groups and cosines to them: one source of texts, awkward names, and CLIP models of both layouts."""

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from audit.config.sections import ModelConfig, QualityConfig
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.perception.embedders.clip import load_clip
from audit.perception.group_texts import GroupDirections, group_texts

AWKWARD = {"tone": ("very_dark", "½ <b>| light", "a"), "mood": ("glücklich 😀", "sad + sad")}
PICTURES = torch.randint(0, 256, (5, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def texts_of(**sections):
    request = MeasurementRequest.of(AuditConfig.model_validate({"name": "audit", **sections}))
    return group_texts(request.attributes, request.judges)


def test_the_texts_are_the_default_captions_of_a_zero_shot_judge():
    found = texts_of()
    assert list(found["gender"]) == ["female", "male"]
    assert found["gender"]["male"] == ("a face photo of a male person",)
    assert found["skin_tone"]["tan"] == ("a face photo of a tan skinned person",)


def test_own_captions_of_any_judge_replace_them_and_groups_that_are_not_audited_have_none():
    captions = {"age": {"old": ["an old face", "a senior"], "child": "a child"}}
    opinion = {"name": "other", "source": "zero-shot", "zero_shot": {"captions": captions}}
    found = texts_of(second_opinions=[opinion])
    assert found["age"]["old"] == ("an old face", "a senior")
    assert found["age"]["young"] == ("a face photo of a young person",)
    assert "child" not in found["age"]
    assert found["gender"]["male"] == ("a face photo of a male person",)


@pytest.fixture(scope="module", params=["transformers", "open_clip"])
def clip(request, tmp_path_factory):
    """A small CLIP model with random weights."""
    directory = tmp_path_factory.mktemp("clip") / request.param
    torch.manual_seed(0)
    if request.param == "transformers":
        text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        vision = text | {"image_size": 32, "patch_size": 8}
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(directory)
    else:
        directory.mkdir()
        vision = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16}
        text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
        save_file(open_clip.CLIP(**config).state_dict(), directory / "open_clip_model.safetensors")
        prepared = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
        saved = {"model_cfg": config, "preprocess_cfg": prepared}
        (directory / "open_clip_config.json").write_text(json.dumps(saved))
    return load_clip(QualityConfig(clip=str(directory)), ModelConfig(source="owner/model"))


def test_a_cosine_is_that_of_the_two_normalised_embeddings(clip):
    directions = GroupDirections.of(clip, group_texts(AWKWARD, ()))
    embedded = clip.images(PICTURES)
    cosines = directions.cosines(embedded)
    assert list(cosines) == [f"clip_d_{name}_{group}" for name, groups in AWKWARD.items() for group in groups]
    text = clip.text("a face photo of a very dark person")
    expected = embedded @ text / np.linalg.norm(embedded, axis=1) / np.linalg.norm(text)
    np.testing.assert_allclose(cosines["clip_d_tone_very_dark"], expected, atol=1e-6)
    assert all(np.isfinite(values).all() and (np.abs(values) <= 1 + 1e-6).all() for values in cosines.values())


def test_the_embeddings_of_several_texts_are_averaged_to_a_unit_vector(clip):
    found = clip.mean_text(["a man", "a boy"])
    both = clip.text("a man") + clip.text("a boy")
    np.testing.assert_allclose(found, both / np.linalg.norm(both), atol=1e-6)


def test_a_text_that_the_model_would_cut_has_no_cosine_and_refuses_nothing(clip):
    long = "of mixed and " * 60
    directions = GroupDirections.of(clip, group_texts({"origin": (long, "short")}, ()))
    cosines = directions.cosines(clip.images(PICTURES))
    assert cosines[f"clip_d_origin_{long}"] is None
    assert cosines["clip_d_origin_short"].shape == (5,)
