"""Embedders: CLIP tells occupations apart by their captions, features are finite and of one width."""

import numpy as np
import open_clip
import pytest
import torch
from torchvision.models import inception_v3

from audit.calibration.bundle import BUNDLED
from audit.calibration.captions import caption
from audit.calibration.labels import OCCUPATIONS, face_noise
from audit.calibration.renderer import render
from audit.calibration.world import uniform_labels
from audit.config.settings import ModelConfig, QualityConfig
from audit.measure.embedders import InceptionFeatures, load_clip, load_features

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


def test_none_means_that_nothing_is_measured():
    quality = QualityConfig(clip="none", features="none")
    assert load_clip(quality, ModelConfig()) is None
    assert load_features(quality, ModelConfig()) is None


def test_a_model_from_outside_has_no_bundled_networks():
    for load in (load_clip, load_features):
        with pytest.raises(ValueError, match="has no bundled"):
            load(QualityConfig(), ModelConfig(source="somebody/model"))
