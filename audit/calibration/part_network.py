"""A small convolutional network that labels every pixel of a drawing, or of a generated picture, with its part."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from audit.calibration.bundle import NETWORK_CONFIG, NETWORK_WEIGHTS
from audit.calibration.canvas import PARTS, SIZE

# B batch, C channels, P parts, H W pixels


class PartNetwork(nn.Module):
    """A U-Net of three levels (Ronneberger et al. 2015) on pictures of half the size; its output is enlarged again.

    Args:
        parts: Names of the parts.
        width: Channels at half size; they double at each level.
    """

    def __init__(self, parts: tuple[str, ...] = PARTS, width: int = 16) -> None:
        super().__init__()
        self.parts = parts
        self.width = width
        self.fine = _block(3, width, stride=2)
        self.middle = _block(width, 2 * width, stride=2)
        self.coarse = nn.Sequential(
            _block(2 * width, 4 * width, stride=2), _block(4 * width, 4 * width), _block(4 * width, 4 * width)
        )
        self.up = _block(6 * width, 2 * width)
        self.last = _block(3 * width, width)
        self.head = nn.Conv2d(width, len(parts), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, P, H, W)`` of float images ``(B, 3, H, W)`` in [-1, 1]."""
        fine = self.fine(images)
        middle = self.middle(fine)
        upper = self.up(torch.cat([middle, _doubled(self.coarse(middle), middle)], 1))
        logits: Tensor = self.head(self.last(torch.cat([fine, _doubled(upper, fine)], 1)))
        return functional.interpolate(logits, size=images.shape[-2:], mode="bilinear")

    @torch.inference_mode()
    def labels(self, images: Tensor) -> Tensor:
        """Return the part of each pixel, uint8 ``(B, H, W)``, of float images in [-1, 1]; other sizes are resized."""
        sides = images.shape[-2:]
        if sides != (SIZE, SIZE):
            images = functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        logits: Tensor = self(images)
        if sides != (SIZE, SIZE):
            logits = functional.interpolate(logits, size=sides, mode="bilinear")
        return logits.argmax(1).to(torch.uint8)

    def save(self, directory: Path) -> None:
        """Write ``model.safetensors`` (fp16) and ``config.json``."""
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, directory / NETWORK_WEIGHTS)
        config = {"parts": self.parts, "width": self.width}
        (directory / NETWORK_CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> PartNetwork:
        """Read a saved network, in float32 and eval mode."""
        config = json.loads((directory / NETWORK_CONFIG).read_text())
        network = cls(tuple(config["parts"]), config["width"])
        weights = load_file(directory / NETWORK_WEIGHTS)
        network.load_state_dict({name: value.float() for name, value in weights.items()})
        return network.eval()


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.GroupNorm(8, after), nn.SiLU())


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="nearest")
