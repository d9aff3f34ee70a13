"""Inception networks: the one of published FIDs, and torchvision's classifier, with weights from the user's file.

Both have 2048-dimensional pooled features, but other weights and other pooling: their distances cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.config.sections import FeaturesConfig
from audit.models.files.state_file import load_weights, weights_problem
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.embedders.resizing import resized, tf1_bilinear
from audit.storage.provenance import sha256_of, short_fingerprint

TORCHVISION_KIND = "torchvision's Inception v3 (1000 outputs, with its auxiliary classifier; not the one made for FID)"
FID_KIND = "the FID Inception network (1008 outputs, layout of pytorch-fid; not torchvision's)"
HEAD = "fc.weight"

FID_FILE = "pt_inception-2015-12-05-6726825d.pth"
FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Name and digest of the published weights: TensorFlow's of 2015-12-05, converted for PyTorch."""

SIDE = 299

RESIZINGS: Mapping[str, Callable[[Tensor, int], Tensor]] = {"tf1_bilinear": tf1_bilinear, "pil_bicubic": resized}
"""Name in the config → values in [0, 1] of the network's size."""


def torchvision_inception() -> Any:  # noqa: ANN401 - torchvision has no types
    """Return torchvision's network without weights; torchvision is imported here, because that takes seconds."""
    from torchvision.models import inception_v3

    return inception_v3(weights=None, init_weights=False, aux_logits=True)


def fid_inception() -> Any:  # noqa: ANN401 - torchvision has no types
    """Return the FID Inception network without weights: torchvision's, with the blocks that pytorch-fid replaces.

    The replaced blocks pool as TensorFlow does: padding does not count in an average, and the last block takes a
    maximum.
    """
    from pytorch_fid import inception as blocks
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008)
    for name, channels in (("Mixed_5b", 192), ("Mixed_5c", 256), ("Mixed_5d", 288)):
        setattr(network, name, blocks.FIDInceptionA(channels, pool_features=32 if channels == 192 else 64))
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        setattr(network, name, blocks.FIDInceptionC(768, channels_7x7=width))
    network.Mixed_7b = blocks.FIDInceptionE_1(1280)
    network.Mixed_7c = blocks.FIDInceptionE_2(2048)
    return network


def fid_weights_problem(config: FeaturesConfig) -> str | None:
    """Return why a file cannot be used as the weights of the FID Inception network; None if it can.

    The digest is compared first: a file with other weights under the published name has the right shapes.
    """
    path = Path(config.weights)
    return _digest_problem(config, sha256_of(path)) or weights_problem(path, fid_inception, FID_KIND, HEAD)


def _digest_problem(config: FeaturesConfig, found: str) -> str | None:
    if config.own_weights or found == FID_SHA256:
        return None
    return (
        f"{config.weights}: expected the published weights ({FID_FILE}, sha256 {FID_SHA256[:8]}…), found a file with "
        f"sha256 {found[:8]}…; give the published file, or set own_weights: true, and the distance is not called FID"
    )


class InceptionFeatures:
    """Pooled 2048-d features of torchvision's Inception v3, which no published FID uses."""

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        self._network = _headless(torchvision_inception(), weights, TORCHVISION_KIND).to(device)
        self._device = device
        named = f"{weights.name}:{short_fingerprint(weights)}"
        self.signature = f"net:torchvision-inception-v3:{named}|resize:bicubic-aa-{SIDE}"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> NDArray[Any]:
        """Embed uint8 images ``(n, 3, H, W)`` of any size as ``(n, 2048)``."""
        embedded: Tensor = self._network(resized(images.to(self._device), SIDE) * 2 - 1)
        return embedded.cpu().numpy()


class FidInceptionFeatures:
    """Pooled 2048-d features of the Inception network that published FIDs and KIDs use (Heusel et al. 2017).

    Raises:
        UnfitModelError: The file holds other weights than the published ones, and the config does not accept that.
    """

    def __init__(self, config: FeaturesConfig, device: torch.device | str = "cpu") -> None:
        path, resize = Path(config.weights), config.resize or "tf1_bilinear"
        digest = sha256_of(path)
        obstacle = _digest_problem(config, digest)
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        self._network = _headless(fid_inception(), path, FID_KIND).to(device)
        self._device, self._resize = device, RESIZINGS[resize]
        kind = "published" if digest == FID_SHA256 else "own-weights"
        self.signature = f"net:fid-inception:{kind}:{path.name}:{digest[:12]}|resize:{resize.replace('_', '-')}-{SIDE}"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> NDArray[Any]:
        """Embed uint8 images ``(n, 3, H, W)`` of any size as ``(n, 2048)``; inputs are (x − 128) / 128."""
        x = self._resize(images.to(self._device), SIDE)
        embedded: Tensor = self._network((x * 255 - 128) / 128)
        return embedded.cpu().numpy()


def _headless(network: Any, weights: Path, kind: str) -> Any:  # noqa: ANN401 - torchvision has no types
    load_weights(network, weights, kind, HEAD)
    network.fc = nn.Identity()
    return network.eval()
