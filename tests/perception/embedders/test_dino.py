"""DINOv2's features are those of transformers and timm, from either layout, and other files are refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model

from audit.config.sections import FeaturesConfig, ModelConfig, QualityConfig
from audit.perception.embedders.dino import DinoFeatures, dino_problem, resized_positions
from audit.perception.embedders.features import load_features
from audit.perception.embedders.resizing import normalised, resized

IMAGES = torch.randint(0, 256, (2, 3, 70, 90), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def directory(path, image_size=224, gated=False):
    """A tiny model in the layout of transformers; its norms and scales are random too."""
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=image_size, use_swiglu_ffn=gated
    )
    network, draws = Dinov2Model(config).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    network.save_pretrained(path)
    return network


@pytest.mark.parametrize("gated", [False, True])
def test_features_are_those_of_transformers(tmp_path, gated):
    network = directory(tmp_path / "dino", gated=gated)
    with torch.inference_mode():
        expected = network(normalised(resized(IMAGES, 224))).pooler_output.numpy()
    assert dino_problem(tmp_path / "dino") is None
    found = DinoFeatures(tmp_path / "dino").embed(IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_timms_file_and_transformers_directory_of_the_same_weights_agree(tmp_path):
    directory(tmp_path / "dino")
    small = VisionTransformer(
        img_size=518, patch_size=14, num_classes=0, global_pool="token", embed_dim=64, depth=2, num_heads=1,
        init_values=1e-5,
    )  # fmt: skip
    save_file(small.state_dict(), tmp_path / "model.safetensors")
    torch.save(small.state_dict() | {"mask_token": torch.zeros(1, 64)}, tmp_path / "dinov2_vits14_pretrain.pth")
    found = [DinoFeatures(tmp_path / name) for name in ("model.safetensors", "dinov2_vits14_pretrain.pth")]
    assert all(dino_problem(tmp_path / name) is None for name in ("model.safetensors", "dinov2_vits14_pretrain.pth"))
    np.testing.assert_array_equal(found[0].embed(IMAGES), found[1].embed(IMAGES))
    assert found[0].signature.startswith("net:dinov2-width-64-depth-2:model.safetensors:")
    assert found[0].signature.endswith("|resize:pil-bicubic-224")


def test_positions_are_interpolated_as_in_the_authors_code():
    positions = torch.randn(1, 1 + 37 * 37, 8, generator=torch.Generator().manual_seed(0))
    found = resized_positions(positions)
    assert found.shape == (1, 1 + 16 * 16, 8)
    assert torch.equal(found[:, 0], positions[:, 0])
    grid = positions[:, 1:].reshape(1, 37, 37, 8).permute(0, 3, 1, 2)
    plain = functional.interpolate(grid, size=(16, 16), mode="bicubic").permute(0, 2, 3, 1).reshape(1, -1, 8)
    assert not torch.allclose(found[:, 1:], plain, atol=1e-3), "without the offset of 0.1 the features differ"
    assert torch.equal(resized_positions(found), found)


def test_features_of_a_config_come_from_the_named_network(tmp_path):
    directory(tmp_path / "dino", image_size=518)
    config = FeaturesConfig(network="dinov2", weights=str(tmp_path / "dino"))
    network = load_features(QualityConfig(features=config), ModelConfig(source="owner/model"))
    assert network.embed(IMAGES).shape == (2, 32)


def without(name):
    def change(path):
        tensors = load_file(path / "model.safetensors")
        save_file({key: value for key, value in tensors.items() if name not in key}, path / "model.safetensors")

    return change


def with_config(**keys):
    def change(path):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | keys))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer.1.norm2.weight"), "no blocks.1.norm2.weight"),
        (without("position_embeddings"), "no pos_embed"),
        (without("attention.key.weight"), "no blocks.0.attn.qkv.weight"),
        (with_config(model_type="vit"), "expected model_type dinov2, found vit"),
        (with_config(patch_size=16), "expected patch_size 14, found 16"),
        (with_config(num_attention_heads=5), "width 32, which attention heads cannot share"),
        (lambda path: (path / "model.safetensors").write_bytes(b"x" * 50), "expected weights and nothing else"),
        (lambda path: (path / "model.safetensors").unlink(), "expected model.safetensors, found none"),
        (lambda path: (path / "config.json").unlink(), "config"),
        (lambda path: (path / "modeling.py").touch(), "found code"),
    ],
)
def test_what_is_no_dinov2_is_refused_before_and_while_loading(tmp_path, change, message):
    directory(tmp_path / "dino")
    change(tmp_path / "dino")
    assert message in dino_problem(tmp_path / "dino")
    with pytest.raises(ValueError, match=r"expected|config"):
        DinoFeatures(tmp_path / "dino")
