"""Paired measurements: how far an image is from the baseline image with the same prompt and noise.

PSNR compares pixels, LPIPS activations of a network for recognition, DINO-I the features of DINOv2.

Legend: n pairs of images, uint8, shape (n, 3, H, W).
"""

from __future__ import annotations

import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.config.sections import LpipsConfig, QualityConfig
from audit.models.device import device_here
from audit.models.files.state_file import Shapes, read_shapes, read_state, shapes_of, unlike
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.embedders.dino import DinoFeatures
from audit.perception.embedders.features import FeatureEmbedder
from audit.storage.provenance import sha256_of
from audit.storage.rows import MOST_PSNR

FloatArray = NDArray[np.float32]

_TRUNKS = {
    "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
    "vgg": ("vgg16-397923af.pth", "397923af"),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
}
"""Network → torchvision's file and the first digits of its sha256, which are part of the name."""


LEAST_SIDE = 32
"""Pixels; smaller images vanish in the pooling of AlexNet."""


def psnr(images: Tensor, baseline: Tensor) -> FloatArray:
    """Return the peak signal-to-noise ratio of each pair in dB, 10 log₁₀(255² / MSE), at most ``MOST_PSNR``, (n,).

    Equal images have none (NaN): any number in its place would decide the mean if an edit leaves some images alone.
    """
    pairs = zip(images.cpu(), baseline.cpu(), strict=True)  # one by one: float64 of a batch needs gigabytes
    errors = torch.stack([(mine.double() - other.double()).square().mean() for mine, other in pairs])
    ratios = (10 * torch.log10(255**2 / errors)).clamp_max(MOST_PSNR)
    found: FloatArray = torch.where(errors == 0, torch.nan, ratios).float().numpy()
    return found


class LpipsDistance:
    """LPIPS 0.1 (Zhang et al. 2018, arXiv:1801.03924): the package's linear layers on the user's trunk.

    Images are compared at their own size, one pair at a time, so that memory does not depend on the batch.

    Raises:
        UnfitModelError: The trunk is not the published one, or not the network's.
    """

    def __init__(self, config: LpipsConfig, device: torch.device | str = "cpu") -> None:
        path, network = Path(config.trunk), _network(config.network)
        digest, state = sha256_of(path), read_state(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        obstacle = _digest_problem(config, digest) or _shape_problem(config, network.net, shapes)
        if obstacle is not None:
            raise UnfitModelError(obstacle)
        network.net.load_state_dict(_renamed(network.net, state))
        self._network, self._device = network.eval().to(device), device
        kind = "published" if digest.startswith(_TRUNKS[config.network][1]) else "own-weights"
        self.signature = f"net:lpips-0.1-{config.network}:{kind}:{path.name}:{digest[:12]}|resize:none"

    @torch.inference_mode()
    def between(self, images: Tensor, baseline: Tensor) -> FloatArray:
        """Return the distance of each pair, (n,); 0 for equal images.

        Raises:
            UnfitModelError: The images are too small for the network.
        """
        if min(images.shape[-2:]) < LEAST_SIDE:
            least, found = f"{LEAST_SIDE} × {LEAST_SIDE}", " × ".join(map(str, images.shape[-2:]))
            raise UnfitModelError(
                f"quality.lpips: expected images of at least {least} pixels, found {found}; remove it"
            )
        pairs = zip(images, baseline, strict=True)
        distances = [float(self._network(*(self._scaled(image) for image in pair))) for pair in pairs]
        return np.array(distances, dtype=np.float32)

    def _scaled(self, image: Tensor) -> Tensor:
        return image[None].to(self._device).float() / 127.5 - 1


@dataclass(frozen=True)
class PairInstruments:
    """Networks that compare an image with its baseline image; None for those that the config does not name."""

    dino: DinoFeatures | None = None
    lpips: LpipsDistance | None = None

    @property
    def signatures(self) -> dict[str, str]:
        """Signatures of the networks by name, without those that are not used."""
        used = {"dino": self.dino, "lpips": self.lpips}
        return {name: network.signature for name, network in used.items() if network is not None}


def load_pair_instruments(quality: QualityConfig, features: FeatureEmbedder | None) -> PairInstruments:
    """Load the networks of a config that compare paired images onto this process's device.

    Args:
        quality: Names the networks.
        features: The feature network, which is used again if it has the same weights.

    Raises:
        UnfitModelError: A file holds something else.
    """
    dino = None if quality.dino is None else DinoFeatures(Path(quality.dino), device_here())
    if dino is not None and isinstance(features, DinoFeatures) and features.signature == dino.signature:
        dino = features
    return PairInstruments(
        dino=dino,
        lpips=None if quality.lpips is None else LpipsDistance(quality.lpips, device_here()),
    )


def trunk_problem(config: LpipsConfig) -> str | None:
    """Return why a file cannot be used as the trunk of LPIPS, from its header and digest; None if it can."""
    path = Path(config.trunk)
    try:
        with torch.device("meta"):
            trunk = _network(config.network, heads=False).net
        return _digest_problem(config, sha256_of(path)) or _shape_problem(config, trunk, read_shapes(path))
    except UnfitModelError as error:
        return str(error)


def _digest_problem(config: LpipsConfig, found: str) -> str | None:
    name, digits = _TRUNKS[config.network]
    if config.own_weights or found.startswith(digits):
        return None
    return (
        f"{config.trunk}: expected torchvision's weights ({name}, sha256 {digits}…), found sha256 {found[:8]}…; give "
        "the published file, or set own_weights: true"
    )


def _shape_problem(config: LpipsConfig, trunk: nn.Module, found: Shapes) -> str | None:
    expected = {f"features.{name.split('.', 1)[1]}": shape for name, shape in shapes_of(trunk).items()}
    obstacle = unlike(expected, {name: shape for name, shape in found.items() if name in expected})
    if obstacle is None:
        return None
    name = _TRUNKS[config.network][0]
    return f"{config.trunk}: expected the weights of {name}, found {obstacle}; give another file"


def _network(kind: str, *, heads: bool = True) -> Any:  # noqa: ANN401 - lpips has no types
    """Return the network with the package's linear layers and a random trunk."""
    from lpips import LPIPS

    with redirect_stdout(StringIO()), warnings.catch_warnings():  # it prints, and uses torchvision's old arguments
        warnings.simplefilter("ignore")
        return LPIPS(net=kind, pretrained=heads, pnet_rand=True, verbose=False)


def _renamed(trunk: nn.Module, named: Any) -> dict[str, Any]:  # noqa: ANN401 - tensors or shapes by name
    """Return torchvision's ``features.N.…`` under the names of lpips's slices; the classifier is left out."""
    slices = {key.split(".", 1)[1]: key for key in trunk.state_dict()}
    features = {name.removeprefix("features."): value for name, value in named.items() if name.startswith("features.")}
    return {slices.get(name, name): value for name, value in features.items()}


def cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the cosine of each pair of rows, (n,)."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: FloatArray = ((first * second).sum(axis=1) / norms).astype(np.float32)
    return cosines
