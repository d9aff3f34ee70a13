"""Feature networks: vectors of images for Fréchet and kernel distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audit.calibration.bundle import NETWORK_FILES, bundle_of
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.config.sections import ModelConfig, QualityConfig
from audit.models.device import device_here
from audit.models.files.state_file import load_weights
from audit.models.files.untrusted_model import UnfitModelError
from audit.storage.provenance import short_fingerprint

FloatArray = NDArray[np.float32]


class FeatureEmbedder(Protocol):
    """Embeds images for Fréchet and kernel distances."""

    @property
    def signature(self) -> str:
        """Network and resizing, as printed with every figure."""
        ...

    def embed(self, images: Tensor) -> FloatArray:
        """Embed uint8 images ``(n, 3, H, W)`` as ``(n, d)``."""
        ...


class DrawingFeatures:
    """The calibration model's feature network: 64-d, rows with norm √64, which fixes the scale of kernel distances."""

    def __init__(self, directory: Path, device: torch.device | str = "cpu") -> None:
        self._network = DrawingNetwork.load(directory).to(device)
        self._device = device
        weights = short_fingerprint(directory, NETWORK_FILES)
        self.signature = f"net:calibration-features-64:{weights}|norm:sqrt-d|resize:none"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FloatArray:
        """Embed drawings or generated pictures of 64×64 pixels."""
        features = self._network.embed(to_unit_range(images.to(self._device))).cpu()
        rows: FloatArray = (functional.normalize(features, dim=1) * self._network.embedding**0.5).numpy()
        return rows


INCEPTION_KIND = "torchvision's Inception v3 (1000 outputs, with its auxiliary classifier; not the one made for FID)"

INCEPTION_HEAD = "fc.weight"


def inception_network() -> Any:  # noqa: ANN401 - torchvision has no types
    """Return the network without weights; torchvision is imported here, because that takes seconds."""
    from torchvision.models import inception_v3

    return inception_v3(weights=None, init_weights=False, aux_logits=True)


class InceptionFeatures:
    """Pooled 2048-d features of torchvision's Inception v3, with weights from the user's file."""

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        self._network = inception_network()
        load_weights(self._network, weights, INCEPTION_KIND, INCEPTION_HEAD)
        self._network.fc = nn.Identity()
        self._network.eval().to(device)
        self._device = device
        named = f"{weights.name}:{short_fingerprint(weights)}"
        self.signature = f"net:torchvision-inception-v3:{named}|resize:bicubic-aa-299"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FloatArray:
        """Embed images of any size."""
        embedded: Tensor = self._network(resized(images.to(self._device), 299) * 2 - 1)
        return embedded.cpu().numpy()


def resized(images: Tensor, size: int) -> Tensor:
    """Return uint8 images as values in [0, 1] of ``size`` × ``size`` pixels, resized with an anti-aliasing filter."""
    x = images.float() / 255
    if x.shape[-2:] == (size, size):
        return x
    return functional.interpolate(x, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def load_features(quality: QualityConfig, model: ModelConfig) -> FeatureEmbedder | None:
    """Load the feature network of a config onto this process's device; None if it names none.

    Raises:
        UnfitModelError: The config sets ``bundled``, and this model has no bundled network.
    """
    if quality.features == "none":
        return None
    if quality.features != "bundled":
        return InceptionFeatures(Path(quality.features), device_here())
    bundle = bundle_of(model)
    if bundle is None:
        raise UnfitModelError(
            f"model {model.source!r} has no bundled feature network; set quality.features to Inception weights or none"
        )
    return DrawingFeatures(bundle.features, device_here())
