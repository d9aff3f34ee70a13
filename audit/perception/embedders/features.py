"""Feature networks: vectors of images for Fréchet and kernel distances."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.calibration.bundle import NETWORK_FILES, bundle_of
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.config.sections import FeaturesConfig, ModelConfig, QualityConfig
from audit.models.device import device_here
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.embedders.dino import DinoFeatures
from audit.perception.embedders.inception import FidInceptionFeatures, InceptionFeatures
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


def load_features(quality: QualityConfig, model: ModelConfig) -> FeatureEmbedder | None:
    """Load the feature network of a config onto this process's device; None if it names none.

    Raises:
        UnfitModelError: The config sets ``bundled`` and this model has no bundled network, or a file holds something
            else than the network's weights.
    """
    if quality.features == "none":
        return None
    if not isinstance(quality.features, str):
        return _from_file(quality.features)
    if quality.features != "bundled":
        return InceptionFeatures(Path(quality.features), device_here())
    bundle = bundle_of(model)
    if bundle is None:
        raise UnfitModelError(
            f"model {model.source!r} has no bundled feature network; set quality.features to none, or to a network "
            "with its weights"
        )
    return DrawingFeatures(bundle.features, device_here())


def _from_file(config: FeaturesConfig) -> FeatureEmbedder:
    if config.network == "fid_inception":
        return FidInceptionFeatures(config, device_here())
    kind = DinoFeatures if config.network == "dinov2" else InceptionFeatures
    return kind(Path(config.weights), device_here())
