"""The card of the unconditional calibration model: shares of its pictures, and how well the judge reads small drawings.

``python -m audit.training.unconditional_card DIRECTORY`` measures again and rewrites ``card.json``, ``card.md`` and
``samples.png``.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from audit.calibration.bundle import BUNDLED, Bundle
from audit.calibration.labels import ATTRIBUTES, face_noise
from audit.calibration.networks import DrawingNetwork
from audit.calibration.renderer import render
from audit.calibration.world import World, planted_labels
from audit.config.fields import UNCONDITIONAL
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.planning.plan import NO_PROMPT
from audit.records.work import derive_seed
from audit.training.card import answers_of, run_card
from audit.training.unconditional import PIXELS

LOG = logging.getLogger(__name__)
BATCH = 64
DRAWINGS = 2_000
HELD_OUT = 1_000_000
"""First seed of drawings that no training has seen."""


@dataclass(frozen=True)
class UnconditionalCard:
    """Figures of a trained unconditional model.

    Attributes:
        pictures: How many were sampled.
        shares: Attribute → group → share among them, as the judge sees it.
        planted: Attribute → group → planted share: the mean over the world's occupations.
        faces: Share of the pictures in which the judge sees a face.
        judge_accuracy: Attribute → accuracy on held-out drawings at this model's size.
        loss: Mean loss in the last tenth of the training.
    """

    pictures: int
    shares: dict[str, dict[str, float]]
    planted: dict[str, dict[str, float]]
    faces: float
    judge_accuracy: dict[str, float]
    loss: float


def write(directory: Path, pictures: int) -> None:
    """Measure the model in ``directory`` and write its card beside it."""
    world, judge = World.load(directory / "world.yaml"), DrawingNetwork.load(Bundle.at(BUNDLED).judge)
    LOG.info("card: %d pictures", pictures)
    images = _sampled(directory, pictures)
    seen = answers_of(judge, images)
    card = UnconditionalCard(
        pictures=pictures,
        shares={a: _named(a, np.bincount(seen[a], minlength=len(ATTRIBUTES[a])) / pictures) for a in ATTRIBUTES},
        planted={a: _planted(world, a) for a in ATTRIBUTES},
        faces=float((seen["face"] == 1).mean()),
        judge_accuracy=_judge_accuracy(judge, world),
        loss=json.loads((directory / "losses.json").read_text())["unet"][-1],
    )
    (directory / "card.json").write_text(json.dumps(asdict(card), indent=2) + "\n")
    (directory / "card.md").write_text(_markdown(card))
    _grid(images[:64]).save(directory / "samples.png")


def _sampled(directory: Path, pictures: int) -> Tensor:
    model = ModelConfig(source=UNCONDITIONAL, world=str(directory))
    generator = load_generator(model, SamplingConfig(guidance=1.0))
    seeds = [derive_seed("unconditional card", i) for i in range(pictures)]
    return torch.cat([generator.generate(NO_PROMPT, seeds[i : i + BATCH]) for i in range(0, pictures, BATCH)])


def _judge_accuracy(judge: DrawingNetwork, world: World) -> dict[str, float]:
    noise = face_noise(range(HELD_OUT, HELD_OUT + DRAWINGS))
    labels = planted_labels(world, noise)
    small = functional.interpolate(render(labels, noise).images.float(), size=PIXELS, mode="area").round().byte()
    seen = answers_of(judge, small)
    return {attribute: float((seen[attribute] == getattr(labels, attribute)).mean()) for attribute in ATTRIBUTES}


def _planted(world: World, attribute: str) -> dict[str, float]:
    shares = [list(world.share(occupation, attribute).values()) for occupation in world.occupations]
    return _named(attribute, np.mean(shares, axis=0))


def _named(attribute: str, shares: NDArray[np.float64]) -> dict[str, float]:
    return {group: round(float(share), 4) for group, share in zip(ATTRIBUTES[attribute], shares, strict=True)}


def _grid(images: Tensor, columns: int = 16) -> Image.Image:
    rows = [torch.cat(list(images[start : start + columns]), 2) for start in range(0, len(images), columns)]
    picture = Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).numpy())
    return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.BICUBIC)


def _markdown(card: UnconditionalCard) -> str:
    rows = [
        f"| {attribute} | {group} | {planted:.3f} | {card.shares[attribute][group]:.3f} |"
        for attribute, groups in card.planted.items()
        for group, planted in groups.items()
    ]
    accuracy = ", ".join(f"{attribute} {value:.3f}" for attribute, value in card.judge_accuracy.items())
    lines = [
        "# Unconditional calibration model",
        "",
        f"A DDPM of {PIXELS} x {PIXELS} pixels that reads no prompt, trained on drawn faces with planted shares.",
        "Its numbers say nothing about any published model. Skin tone is a scale of lightness, not a race.",
        "Trained by `python -m audit.training.unconditional`.",
        "Measured by `python -m audit.training.unconditional_card`.",
        "",
        "| attribute | group | planted share | share of its pictures |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"Pictures: n = {card.pictures}, 25 steps of DDIM; the judge sees a face in {card.faces:.3f} of them.",
        f"Judge accuracy on {DRAWINGS} held-out drawings at this size: {accuracy}.",
        f"Last loss: {card.loss:.4f}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_card(__doc__, lambda directory, quick: write(directory, 256 if quick else 1_024))
