"""Embedders: CLIP distinguishes occupations by their captions, and features are finite and of one width."""

import re
import shutil

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torchvision.models import inception_v3

from audit.calibration.bundle import BUNDLED
from audit.calibration.labels import OCCUPATIONS, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.sections import ModelConfig, QualityConfig
from audit.perception.embedders.clip import ClipEmbedder, ClipWeights, load_clip
from audit.perception.embedders.features import InceptionFeatures, load_features
from audit.perception.preparation import prepared
from audit.storage.provenance import short_fingerprint
from audit.training.captions import caption
from audit.training.loop import seeded
from tests.pretended_gpu import pretended_gpu

OCCUPATION_COUNT = 16


@pytest.fixture(scope="module")
def drawings():
    noise = face_noise(range(300))
    labels = uniform_labels(noise, OCCUPATIONS[:OCCUPATION_COUNT])
    return render(labels, noise).images, labels.occupation


@pytest.fixture(scope="module")
def clip():
    return load_clip(QualityConfig(), ModelConfig())


def test_clip_matches_pictures_with_the_captions_of_their_occupations(clip, drawings):
    images, occupation = drawings
    texts = np.stack([clip.text(caption(name)) for name in OCCUPATIONS[:OCCUPATION_COUNT]])
    assert ((clip.images(images) @ texts.T).argmax(1) == occupation).mean() >= 0.9


def test_embeddings_are_unit_vectors(clip, drawings):
    assert np.allclose(np.linalg.norm(clip.images(drawings[0][:8]), axis=1), 1, atol=1e-5)
    assert np.isclose(np.linalg.norm(clip.text("a face photo of a nurse")), 1, atol=1e-5)


def test_stock_open_clip_loads_the_bundled_model_and_agrees(clip, drawings):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{BUNDLED / 'clip'}")
    from PIL import Image

    picture = Image.fromarray(drawings[0][0].permute(1, 2, 0).numpy())
    with torch.inference_mode():
        stock = model.eval().encode_image(preprocess(picture)[None], normalize=True).numpy()
    assert np.allclose(clip.images(drawings[0][:1]), stock, atol=1e-4)


def test_bundled_features_are_finite_and_differ_between_pictures(drawings):
    features = load_features(QualityConfig(), ModelConfig()).embed(drawings[0][:16])
    assert features.shape == (16, 64)
    assert np.isfinite(features).all()
    assert features.std(0).min() > 0


def test_inception_features_have_2048_dimensions(tmp_path, drawings):
    network = inception_v3(weights=None, init_weights=False, aux_logits=True)
    torch.save(network.state_dict(), tmp_path / "inception.pt")
    assert InceptionFeatures(tmp_path / "inception.pt").embed(drawings[0][:2]).shape == (2, 2048)


def test_networks_with_the_same_name_and_different_weights_have_different_signatures(tmp_path):
    network = inception_v3(weights=None, init_weights=False, aux_logits=True)
    shutil.copytree(BUNDLED / "clip", tmp_path / "clip")
    signatures = []
    for shift in (0.0, 1.0):
        state = {name: value + shift for name, value in network.state_dict().items()}
        torch.save(state, tmp_path / "inception.pt")
        weights = load_file(tmp_path / "clip" / "open_clip_model.safetensors")
        save_file({n: v + shift for n, v in weights.items()}, tmp_path / "clip" / "open_clip_model.safetensors")
        clip = ClipEmbedder(ClipWeights.in_directory(tmp_path / "clip"))
        signatures += [InceptionFeatures(tmp_path / "inception.pt").signature, clip.signature]
    assert len(set(signatures)) == 4
    assert re.match(r"net:torchvision-inception-v3:inception\.pt:[0-9a-f]{12}\|resize", signatures[0])
    assert re.match(r"net:open_clip:clip:[0-9a-f]{12}\|resize", signatures[1])


def test_embedders_give_the_same_vectors_on_a_gpu(tmp_path, clip, drawings):
    torch.save(inception_v3(weights=None, init_weights=False, aux_logits=True).state_dict(), tmp_path / "inception.pt")
    images = drawings[0][:2]
    qualities = [QualityConfig(), QualityConfig(features=str(tmp_path / "inception.pt"))]
    expected = [load_features(quality, ModelConfig()).embed(images) for quality in qualities]
    with pretended_gpu():
        found = [load_features(quality, ModelConfig()).embed(images) for quality in qualities]
        there = load_clip(QualityConfig(), ModelConfig())
        assert {parameter.device.type for parameter in there._model.parameters()} == {"cuda"}
        pictures, text = there.images(images), there.text("a face photo of a nurse")
    for network, features in zip(found, expected, strict=True):
        np.testing.assert_allclose(network, features, rtol=1e-5)
    np.testing.assert_allclose(pictures, clip.images(images), atol=1e-6)
    np.testing.assert_allclose(text, clip.text("a face photo of a nurse"), atol=1e-6)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32:", "hf-hub:clip", "local-dir:clip", "clip/model"])
def test_a_clip_model_without_weights_is_refused(name):
    with pytest.raises(ValueError, match=r"quality\.clip: expected a directory, hf-hub:OWNER/NAME, or a model with"):
        load_clip(QualityConfig(clip=name), ModelConfig())


def test_a_tag_that_open_clip_does_not_know_is_refused():
    with pytest.raises(ValueError, match="expected weights that open_clip knows, found 'ViT-B-32:mine'"):
        load_clip(QualityConfig(clip="ViT-B-32:mine"), ModelConfig())


def test_a_clip_directory_without_weights_is_refused(tmp_path):
    shutil.copytree(BUNDLED / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    with pytest.raises(RuntimeError, match="could not be loaded"):
        ClipEmbedder(ClipWeights.in_directory(tmp_path / "clip"))


def test_a_clip_model_from_the_hub_is_loaded_with_its_weights(tmp_path, monkeypatch, clip, drawings):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cached = tmp_path / "models--owner--clip"
    shutil.copytree(BUNDLED / "clip", cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    weights = ClipWeights.named("hf-hub:owner/clip")
    assert short_fingerprint(weights.path) == short_fingerprint(BUNDLED / "clip" / "open_clip_model.safetensors")
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _name: open_clip_tokenizer())
    found = ClipEmbedder(weights)
    assert found.signature.startswith(f"net:open_clip:clip:{short_fingerprint(weights.path)}|")
    np.testing.assert_array_equal(found.images(drawings[0][:2]), clip.images(drawings[0][:2]))


def open_clip_tokenizer(found=open_clip.get_tokenizer):
    """The tokenizer of the bundled model, whose config names it by a relative path."""
    return found(f"local-dir:{BUNDLED / 'clip'}")


def test_a_tag_selects_its_weights_and_their_activation_function(tmp_path, monkeypatch):
    with seeded(0):
        network = open_clip.create_model("ViT-B-32-quickgelu")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    known = {**open_clip.get_pretrained_cfg("ViT-B-32", "openai"), "file": str(tmp_path / "weights.pt")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32"], "openai", known)
    found = load_clip(QualityConfig(clip="ViT-B-32:openai"), ModelConfig())
    assert found.signature.startswith("net:open_clip:ViT-B-32:openai:")
    pictures = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    x = prepared(pictures, found._transform)
    with torch.inference_mode():
        expected = network.eval().encode_image(x, normalize=True).numpy()
    np.testing.assert_allclose(found.images(pictures), expected, atol=1e-6)


def test_with_none_no_network_is_loaded():
    quality = QualityConfig(clip="none", features="none")
    assert load_clip(quality, ModelConfig()) is None
    assert load_features(quality, ModelConfig()) is None


def test_other_models_have_no_bundled_networks():
    for load in (load_clip, load_features):
        with pytest.raises(ValueError, match="has no bundled"):
            load(QualityConfig(), ModelConfig(source="somebody/model"))
