"""Embeddings of images and texts: CLIP for similarity, a feature network for Fréchet and kernel distances."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audit.calibration.bundle import bundle_of
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.config.settings import ModelConfig, QualityConfig
from audit.measure.state_file import read_state
from audit.untrusted_model import check_clip

FloatArray = NDArray[np.float32]


class ClipEmbedder:
    """An OpenCLIP model; images go in as uint8 tensors, never through files.

    ``logit_scale`` is what the model multiplies cosines with before a softmax, its inverse temperature.

    Args:
        name: ``local-dir:DIRECTORY``, ``hf-hub:ID`` or a model name that open_clip knows.
    """

    def __init__(self, name: str) -> None:
        import open_clip  # takes seconds to import, and an audit without CLIP does not need it

        self._model, _, _ = open_clip.create_model_and_transforms(name)
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(name)
        self._size = self._model.visual.image_size[0]
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self._mean = torch.tensor(self._model.visual.image_mean).view(1, 3, 1, 1)
        self._std = torch.tensor(self._model.visual.image_std).view(1, 3, 1, 1)
        self.signature = f"net:open_clip:{name.rsplit('/', 1)[-1]}|resize:bicubic-aa-{self._size}"

    @torch.inference_mode()
    def images(self, images: Tensor) -> FloatArray:
        """Embed uint8 images ``(n, 3, H, W)`` as unit rows ``(n, d)``."""
        x = _resized(images, self._size)
        embedded: Tensor = self._model.encode_image((x - self._mean) / self._std, normalize=True)
        return embedded.numpy()

    @torch.inference_mode()
    def text(self, text: str) -> FloatArray:
        """Embed a text as a unit vector ``(d,)``."""
        embedded: Tensor = self._model.encode_text(self._tokenizer([text]), normalize=True)
        return embedded[0].numpy()


class FeatureEmbedder(Protocol):
    """Embeds images for Fréchet and kernel distances."""

    @property
    def signature(self) -> str:
        """Network and resizing, as printed beside every figure."""
        ...

    def embed(self, images: Tensor) -> FloatArray:
        """Embed uint8 images ``(n, 3, H, W)`` as ``(n, d)``."""
        ...


class DrawingFeatures:
    """The calibration model's own feature network: 64-d, rows of norm √64, so that the kernel distance has a scale."""

    def __init__(self, directory: Path) -> None:
        self._network = DrawingNetwork.load(directory)
        self.signature = "net:calibration-features-64|norm:sqrt-d|resize:none"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FloatArray:
        """Embed drawings or generated pictures of 64×64 pixels."""
        features = self._network.embed(to_unit_range(images))
        rows: FloatArray = (functional.normalize(features, dim=1) * self._network.embedding**0.5).numpy()
        return rows


class InceptionFeatures:
    """Pooled 2048-d features of torchvision's Inception v3, from a weights file of the user's."""

    def __init__(self, weights: Path) -> None:
        from torchvision.models import inception_v3  # takes seconds to import, and bundled features do not need it

        self._network = inception_v3(weights=None, init_weights=False, aux_logits=True)
        self._network.load_state_dict(read_state(weights))
        self._network.fc = nn.Identity()
        self._network.eval()
        self.signature = f"net:torchvision-inception-v3:{weights.name}|resize:bicubic-aa-299"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FloatArray:
        """Embed images of any size."""
        embedded: Tensor = self._network(_resized(images, 299) * 2 - 1)
        return embedded.numpy()


def _resized(images: Tensor, size: int) -> Tensor:
    x = images.float() / 255
    if x.shape[-2:] == (size, size):
        return x
    return functional.interpolate(x, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def load_clip(quality: QualityConfig, model: ModelConfig) -> ClipEmbedder | None:
    """Load the CLIP model that a config names; None where it names none.

    Raises:
        ValueError: ``bundled`` was asked for and nothing is bundled with this model.
        UntrustedModelError: The directory holds code or pickled weights.
    """
    if quality.clip == "none":
        return None
    if quality.clip != "bundled":
        if not Path(quality.clip).is_dir():
            return ClipEmbedder(quality.clip)
        check_clip(Path(quality.clip))
        return ClipEmbedder(f"local-dir:{quality.clip}")
    bundle = bundle_of(model)
    if bundle is None:
        raise ValueError(
            f"model {model.source!r} has no bundled CLIP; set quality.clip to an open_clip name or to none"
        )
    return ClipEmbedder(f"local-dir:{bundle.clip}")


def load_features(quality: QualityConfig, model: ModelConfig) -> FeatureEmbedder | None:
    """Load the feature network that a config names; None where it names none.

    Raises:
        ValueError: ``bundled`` was asked for and nothing is bundled with this model.
    """
    if quality.features == "none":
        return None
    if quality.features != "bundled":
        return InceptionFeatures(Path(quality.features))
    bundle = bundle_of(model)
    if bundle is None:
        raise ValueError(
            f"model {model.source!r} has no bundled feature network; set quality.features to Inception weights or none"
        )
    return DrawingFeatures(bundle.features)
