"""Trains the segmenter of the calibration model's pictures: ``python -m audit.training.instruments.segmenter``.

It is trained on drawings, whose masks are known, half of them passed through the VAE of the model, because generated
pictures come from it. The card has its accuracy on held-out drawings of both kinds.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from audit.calibration.bundle import BUNDLED, Bundle
from audit.calibration.canvas import PARTS
from audit.calibration.networks import to_unit_range
from audit.calibration.part_network import PartNetwork
from audit.calibration.renderer import render
from audit.calibration.world import World, face_noise
from audit.models.device import device_here
from audit.training.autoencoder import decode, encode
from audit.training.captions import training_examples
from audit.training.loop import Schedule, one_thread, seeded, train

LOG = logging.getLogger(__name__)
CARD, CARD_TEXT = "card.json", "card.md"

FIRST_SEED, HELD_OUT_SEED = 2_000_000, 3_000_000
"""First seeds of the drawings that train, and of those that measure."""

DRAWINGS, HELD_OUT = 4_000, 1_000
SCHEDULE = Schedule(steps=700, batch=32, learning_rate=4e-3, ema=0.99)
_BLURRED = 0.5
"""Share of the batches that are blurred, since the image that an early step predicts is blurred."""


@dataclass(frozen=True)
class SegmenterCard:
    """Figures of a trained segmenter, on drawings that did not train it.

    Attributes:
        drawings: Number of held-out drawings.
        accuracy: Share of the pixels whose part is right: ``drawn``, and ``decoded``, passed through the VAE.
        iou: The same two → part → intersection over union, over all pixels.
        loss: Mean cross-entropy in the last tenth of the training.
    """

    drawings: int
    accuracy: dict[str, float]
    iou: dict[str, dict[str, float]]
    loss: float


def draw(world: World, first: int, count: int, chunk: int = 200) -> tuple[Tensor, Tensor]:
    """Draw pictures uint8 (n, 3, 64, 64) with the part of each pixel, uint8 (n, 64, 64)."""
    images, parts = [], []
    with one_thread():
        for start in range(first, first + count, chunk):
            seeds = range(start, min(first + count, start + chunk))
            labels, _ = training_examples(world, seeds)
            drawing = render(labels, face_noise(seeds))
            images.append(drawing.images)
            parts.append(drawing.masks.to(torch.uint8).argmax(1).to(torch.uint8))
    return torch.cat(images), torch.cat(parts)


def train_segmenter(
    images: Tensor, parts: Tensor, schedule: Schedule, checkpoint: Path
) -> tuple[PartNetwork, list[float]]:
    """Train on uint8 ``images`` (n, 3, H, W) and the ``parts`` (n, H, W) of their pixels; see ``loop.train``."""
    with seeded(0):
        network = PartNetwork()

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(images), (schedule.batch,), generator=generator)
        x = _degrade(to_unit_range(images[chosen]), generator)
        logits = network(x.to(device_here()))
        loss: Tensor = functional.cross_entropy(logits, parts[chosen].long().to(device_here()))
        return loss

    return network, train(network, loss_of, schedule, checkpoint)


def measure(network: PartNetwork, images: Tensor, parts: Tensor) -> tuple[float, dict[str, float]]:
    """Return the share of right pixels, and the intersection over union of each part over all pixels."""
    found = torch.cat([network.labels(to_unit_range(part)) for part in torch.split(images, 250)])
    iou = {}
    for number, name in enumerate(network.parts):
        mine, true = found == number, parts == number
        union = int((mine | true).sum())
        iou[name] = round(int((mine & true).sum()) / union, 4) if union else 0.0
    return round(float((found == parts).double().mean()), 4), iou


def make(out: Path, schedule: Schedule = SCHEDULE, drawings: int = DRAWINGS, held_out: int = HELD_OUT) -> SegmenterCard:
    """Train a segmenter and measure it.

    Args:
        out: Directory of weights and card.
        schedule: Duration of the training.
        drawings: Drawings that train.
        held_out: Drawings that measure.
    """
    vae = AutoencoderKL.from_pretrained(Bundle.at(BUNDLED).pipeline, subfolder="vae", torch_dtype=torch.float32)
    world = World.bundled()
    LOG.info("drawing %d pictures", drawings + held_out)
    images, parts = draw(world, FIRST_SEED, drawings)
    images[::2] = decode(vae, encode(vae, images[::2]))
    with tempfile.TemporaryDirectory() as folder:
        network, losses = train_segmenter(images, parts, schedule, Path(folder) / "segmenter.pt")
    network.save(out)
    network = PartNetwork.load(out)  # 16 bits round the weights
    drawn, true = draw(world, HELD_OUT_SEED, held_out)
    kinds = {"drawn": drawn, "decoded": decode(vae, encode(vae, drawn))}
    measured = {kind: measure(network, pictures, true) for kind, pictures in kinds.items()}
    card = SegmenterCard(
        drawings=held_out,
        accuracy={kind: accuracy for kind, (accuracy, _) in measured.items()},
        iou={kind: iou for kind, (_, iou) in measured.items()},
        loss=round(losses[-1], 4),
    )
    (out / CARD).write_text(json.dumps(asdict(card), indent=1) + "\n")
    (out / CARD_TEXT).write_text(card_text(card))
    return card


def card_text(card: SegmenterCard) -> str:
    """Return the card as Markdown."""
    rows = [f"| {part} | {card.iou['drawn'][part]:.3f} | {card.iou['decoded'][part]:.3f} |" for part in PARTS]
    return "\n".join(
        [
            "# Segmenter of the calibration model",
            "",
            "It labels each pixel of a drawing, or of a picture that the calibration model generated, with its part.",
            "Made by `python -m audit.training.instruments.segmenter`. It knows drawings alone, and does not segment",
            "photographs.",
            "",
            f"Measured on {card.drawings:,} held-out drawings, as drawn, and after the model's VAE, from which",
            "generated pictures come. For generated pictures themselves no true masks exist.",
            "",
            "| intersection over union | drawn | through the VAE |",
            "| --- | --- | --- |",
            *rows,
            f"| share of right pixels | {card.accuracy['drawn']:.3f} | {card.accuracy['decoded']:.3f} |",
            "",
        ]
    )


def _degrade(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise, and blur some batches by a random amount."""
    if float(torch.rand((), generator=generator)) < _BLURRED:
        size = int(torch.randint(12, 48, (), generator=generator))
        small = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        x = functional.interpolate(small, size=x.shape[-2:], mode="bilinear")
    strength = 0.15 * torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + strength * torch.randn(x.shape, generator=generator)


def main() -> None:
    """Run the command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Bundle.at(BUNDLED).segmenter, help="directory of the network")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    LOG.info("%s", make(arguments.out))


if __name__ == "__main__":
    main()
