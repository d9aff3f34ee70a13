"""A CLIP directory in the layout of transformers gives the embeddings of transformers, through OpenCLIP's network."""

import json
import shutil

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from audit.config.sections import ModelConfig, QualityConfig
from audit.perception.embedders.clip import load_clip
from audit.perception.embedders.clip_directory import clip_problem

TEXTS = ("a face photo of a nurse", "two")
PICTURES = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def saved(request, tmp_path_factory):
    """A tiny model with random norms, saved by transformers, and the model itself."""
    act = {"hidden_act": request.param}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4} | act
    vision = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2} | act
    vision |= {"image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    directory = tmp_path_factory.mktemp("clip") / "hf"
    model.save_pretrained(directory)
    return model, directory


@pytest.fixture
def directory(saved, tmp_path):
    """A copy to change."""
    return shutil.copytree(saved[1], tmp_path / "hf")


def loaded(directory):
    return load_clip(QualityConfig(clip=str(directory)), ModelConfig(source="owner/model"))


def test_embeddings_of_texts_and_pictures_are_those_of_transformers(saved):
    model, directory = saved
    clip = loaded(directory)
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    x = (PICTURES / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    tokens = SimpleTokenizer()(list(TEXTS))
    with torch.inference_mode():
        both = model(input_ids=tokens, pixel_values=x)
    np.testing.assert_allclose(clip.images(PICTURES), both.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.stack([clip.text(text) for text in TEXTS]), both.text_embeds.numpy(), atol=1e-5)
    assert clip.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert clip.signature.startswith("net:open_clip:hf:")
    assert clip.signature.endswith("|resize:shortest-bicubic-32")


def test_the_directory_says_how_pictures_are_normalised(directory):
    plain = loaded(directory).images(PICTURES)
    prepared = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3, "do_center_crop": True}
    (directory / "preprocessor_config.json").write_text(json.dumps(prepared))
    assert np.abs(loaded(directory).images(PICTURES) - plain).max() > 1e-3


def with_json(name, **keys):
    def change(directory):
        path = directory / name
        found = json.loads(path.read_text()) if path.exists() else {}
        for key, value in keys.items():
            found[key] = found.get(key, {}) | value if isinstance(value, dict) else value
        path.write_text(json.dumps(found))

    return change


def without(name):
    def change(directory):
        weights = load_file(directory / "model.safetensors")
        save_file({key: value for key, value in weights.items() if name not in key}, directory / "model.safetensors")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("text_model.encoder.layers.1.self_attn.k_proj"), "no transformer.resblocks.1.attn.in_proj_weight"),
        (without("visual_projection"), "no visual.proj"),
        (with_json("config.json", vision_config={"image_size": 64}), "visual.positional_embedding of shape"),
        (with_json("config.json", text_config={"hidden_act": "relu"}), "expected hidden_act quick_gelu or gelu"),
        (with_json("config.json", text_config={"num_attention_heads": 0}), "expected a config"),
        (with_json("config.json", text_config=[1]), "config.json"),
        (with_json("vocab.json", a=0), "expected OpenAI's vocabulary of 49408 tokens, found 1 other tokens"),
        (with_json("preprocessor_config.json", resample=2), "expected resample 3 (bicubic)"),
        (with_json("preprocessor_config.json", image_mean=0.5), "expected image_mean and image_std of three channels"),
        (
            lambda directory: (directory / "model.safetensors").write_bytes(b"x" * 40),
            "expected weights and nothing else",
        ),
        (
            lambda directory: (directory / "model.safetensors").unlink(),
            "expected model.safetensors next to config.json",
        ),
    ],
)
def test_a_directory_that_is_incomplete_or_different_is_refused_before_and_while_loading(directory, change, message):
    change(directory)
    assert message in clip_problem(directory)
    with pytest.raises(ValueError, match="expected"):
        loaded(directory)
