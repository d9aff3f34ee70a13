"""Small convolutional networks for drawings: the calibration judge and the feature network."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from audit.calibration.bundle import NETWORK_CONFIG, NETWORK_WEIGHTS
from audit.calibration.canvas import SIZE

# B batch, H W pixels, D embedding


def to_unit_range(images: Tensor) -> Tensor:
    """Map ``uint8 (B, 3, H, W)`` in [0, 255] to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1.0


class DrawingNetwork(nn.Module):
    """Four stride-2 convolutions, an embedding, and one linear head per question.

    ``save`` writes the questions and their answers to a config next to the weights; ``load`` reads them.

    Args:
        answers: Question → possible answers, for example ``{"gender": ("female", "male")}``.
        width: Channels after the first convolution; later ones double it, up to four times the width.
        embedding: Size D of the embedding.
    """

    def __init__(self, answers: dict[str, tuple[str, ...]], width: int = 24, embedding: int = 64) -> None:
        super().__init__()
        self.answers = answers
        self.width = width
        self.embedding = embedding
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        self.trunk = nn.Sequential(
            *(_halve(before, after) for before, after in pairwise(channels)),
            nn.Flatten(),
            nn.Linear(channels[-1] * 16, embedding),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(embedding, len(names)) for name, names in answers.items()})

    def embed(self, images: Tensor) -> Tensor:
        """Embed float images ``(B, 3, H, W)`` in [-1, 1] as ``(B, D)``; other sizes than 64 x 64 are resized."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        embedded: Tensor = self.trunk(images)
        return embedded

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits ``(B, answers)`` of every question."""
        hidden = functional.silu(self.embed(images))
        return {name: head(hidden) for name, head in self.heads.items()}

    def save(self, directory: Path) -> None:
        """Write ``model.safetensors`` (fp16) and ``config.json``."""
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, directory / NETWORK_WEIGHTS)
        config = {"answers": self.answers, "width": self.width, "embedding": self.embedding}
        (directory / NETWORK_CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> DrawingNetwork:
        """Read a saved network, in float32 and eval mode."""
        config = json.loads((directory / NETWORK_CONFIG).read_text())
        answers = {name: tuple(names) for name, names in config["answers"].items()}
        network = cls(answers, config["width"], config["embedding"])
        weights = load_file(directory / NETWORK_WEIGHTS)
        network.load_state_dict({name: value.float() for name, value in weights.items()})
        return network.eval()


def _halve(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU())
