"""Trains the complete calibration model: ``python -m audit.training.make OUT``.

The stages run in the order of their dependencies, and each is resumable: drawings → tokenizer → VAE → judge, feature
network, CLIP → U-Net → pipeline directory. ``audit.training.card`` then measures the result.

``--start DIRECTORY --table TABLE`` plants other shares in a trained model: only the last stage of its U-Net and text
encoder is trained, on drawings of the table. The VAE of that model and the networks that measure it are copied.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ConfigMixin, DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.calibration.bundle import Bundle
from audit.calibration.labels import DETAILS, OCCUPATIONS
from audit.calibration.renderer import render
from audit.calibration.world import Labels, World, face_noise
from audit.training.autoencoder import decode, encode, new_autoencoder, train_autoencoder
from audit.training.captions import training_examples
from audit.training.emphasis import on_descriptions, on_planted_shares, sorted_by_content
from audit.training.instruments.clip import save_clip, train_clip
from audit.training.loop import Schedule, one_thread
from audit.training.readers import JUDGE_ANSWERS, accuracy, confusion, train_network
from audit.training.tokenizer import train_tokenizer
from audit.training.unet import Denoiser, Examples, new_denoiser, train_denoiser

LOG = logging.getLogger(__name__)
HELD_OUT = 4_000
"""Drawings held out from all training, for the judge's confusion matrix."""

NOISY = 0.9
"""Share of the last stage's timesteps in the noisier half of the schedule, which determines the perceived groups."""


@dataclass(frozen=True)
class Recipe:
    """Sizes and durations of all stages."""

    drawings: int
    autoencoder: Schedule
    judge: Schedule
    features: Schedule
    clip: Schedule
    denoiser: Schedule
    descriptions: Schedule
    shares: Schedule


FULL = Recipe(
    drawings=44_000,
    autoencoder=Schedule(steps=6_000, batch=16, learning_rate=3e-3, ema=0.99),
    judge=Schedule(steps=800, batch=128, learning_rate=3e-3, ema=0.99),
    features=Schedule(steps=400, batch=128, learning_rate=3e-3, ema=0.99),
    clip=Schedule(steps=500, batch=128, learning_rate=2e-3, ema=0.99),
    denoiser=Schedule(steps=9_000, batch=64, learning_rate=1e-3, warmup=200, ema=0.999),
    descriptions=Schedule(steps=1_500, batch=64, learning_rate=5e-4, ema=0.998),
    shares=Schedule(steps=3_500, batch=64, learning_rate=4e-4, ema=0.999),
)
QUICK = Recipe(
    drawings=16_000,
    autoencoder=Schedule(steps=1_500, batch=16, learning_rate=3e-3, ema=0.98),
    judge=Schedule(steps=600, batch=128, learning_rate=3e-3, ema=0.98),
    features=Schedule(steps=300, batch=128, learning_rate=3e-3, ema=0.98),
    clip=Schedule(steps=300, batch=128, learning_rate=2e-3, ema=0.98),
    denoiser=Schedule(steps=2_500, batch=64, learning_rate=1e-3, warmup=200, ema=0.998),
    descriptions=Schedule(steps=400, batch=64, learning_rate=5e-4, ema=0.99),
    shares=Schedule(steps=600, batch=64, learning_rate=4e-4, ema=0.99),
)


@dataclass(frozen=True)
class Drawings:
    """Captioned drawings: uint8 images (n, 3, 64, 64), labels as int64 (n,) by question, captions."""

    images: Tensor
    labels: dict[str, Tensor]
    captions: list[str]

    def after(self, start: int) -> Drawings:
        """Return the drawings from position ``start``."""
        return Drawings(self.images[start:], {q: y[start:] for q, y in self.labels.items()}, self.captions[start:])


def draw(world: World, n: int, first: int = 0, chunk: int = 200) -> Drawings:
    """Draw ``n`` captioned training pictures of ``world`` from the seed ``first``, the same in every call."""
    images, labels, captions = [], [], []
    with one_thread():
        for start in range(first, first + n, chunk):
            seeds = range(start, min(first + n, start + chunk))
            drawn, texts = training_examples(world, seeds)
            images.append(render(drawn, face_noise(seeds)).images)
            labels.append(drawn)
            captions += texts
    return Drawings(torch.cat(images), _as_tensors(Labels.concatenate(labels)), captions)


def _as_tensors(labels: Labels) -> dict[str, Tensor]:
    # The feature network must also classify details, so that FID is sensitive to more than the attributes.
    questions = (*(q for q in JUDGE_ANSWERS if q != "face"), *DETAILS)
    return {question: torch.as_tensor(getattr(labels, question)).long() for question in questions}


def make(out: Path, table: Path | None, recipe: Recipe) -> None:
    """Train all parts into ``out``; checkpoints are in ``out/checkpoints`` until the end."""
    checkpoints = out / "checkpoints"
    out.mkdir(parents=True, exist_ok=True)
    world = World.load(table) if table else World.bundled()
    shutil.copyfile(table or World.bundled_path(), out / "world.yaml")
    LOG.info("drawing %d pictures of %s", recipe.drawings, world.name)
    held_out, training = _split(draw(world, recipe.drawings))
    tokenizer = train_tokenizer(training.captions, checkpoints / "tokenizer")

    vae = new_autoencoder(seed=0)
    losses = {"autoencoder": train_autoencoder(vae, training.images, recipe.autoencoder, checkpoints / "vae.pt")}
    latents = cached_latents(vae, training.images, checkpoints / "latents.safetensors")
    seen = training.images.clone()
    seen[::2] = decode(vae, latents[::2])  # generated pictures come from the VAE, drawings do not: train on both
    losses |= _train_readers(replace(training, images=seen), held_out, recipe, out)
    clip, losses["clip"] = train_clip(tokenizer, seen, training.captions, recipe.clip, checkpoints / "clip.pt")
    save_clip(clip, tokenizer, out / "clip")

    mean_square = float(latents[:4000].float().var())
    vae.register_to_config(scaling_factor=mean_square**-0.5)
    denoiser = new_denoiser(tokenizer, seed=1)
    scaled = latents * vae.config.scaling_factor
    losses |= _train_denoiser(denoiser, scaled, training, world, recipe, checkpoints)
    _save(vae, denoiser, losses, out)


def plant(out: Path, table: Path, start: Path, recipe: Recipe) -> None:
    """Train the last stage of a trained model again, on the drawings of another table.

    Args:
        out: Directory to train into; checkpoints are in ``out/checkpoints``, in a folder for each table and start.
        table: Planted shares.
        start: Directory of the trained model.
        recipe: Number of drawings for a table of all occupations, and duration of the last stage.
    """
    checkpoints = out / "checkpoints" / _digest(table, start, recipe)
    out.mkdir(parents=True, exist_ok=True)
    world = World.load(table)
    shutil.copyfile(table, out / "world.yaml")
    for part in ("judge", "features", "clip"):
        shutil.copytree(start / part, out / part, dirs_exist_ok=True)
    pipeline = StableDiffusionPipeline.from_pretrained(Bundle.at(start).pipeline, torch_dtype=torch.float32)
    count = recipe.drawings * len(world.occupations) // len(OCCUPATIONS)
    LOG.info("drawing %d pictures of %s", count, world.name)
    drawings = draw(world, count)
    latents = cached_latents(pipeline.vae, drawings.images, checkpoints / "latents.safetensors")
    denoiser = Denoiser(pipeline.unet, pipeline.text_encoder, pipeline.tokenizer, pipeline.scheduler)
    examples = planted_examples(latents * pipeline.vae.config.scaling_factor, drawings, world)
    losses = {"shares": train_denoiser(denoiser, examples, recipe.shares, checkpoints / "unet_shares.pt")}
    _save(pipeline.vae, denoiser, losses, out)


def _digest(table: Path, start: Path, recipe: Recipe) -> str:
    """Name what a training is resumed from: another table must not continue with the pictures of the first."""
    weights = next((Bundle.at(start).pipeline / "unet").glob("*.safetensors")).read_bytes()
    named = [table.read_bytes(), hashlib.sha256(weights).digest(), repr(recipe).encode()]
    return hashlib.sha256(b"\0".join(named)).hexdigest()[:12]


def _save(vae: AutoencoderKL, denoiser: Denoiser, losses: Mapping[str, Sequence[float]], out: Path) -> None:
    pipeline = StableDiffusionPipeline(
        vae,
        denoiser.text_encoder,
        denoiser.tokenizer,
        denoiser.unet,
        denoiser.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_pipeline(pipeline, out)
    (out / "losses.json").write_text(json.dumps(losses, indent=2) + "\n")


def save_pipeline(pipeline: DiffusionPipeline, out: Path) -> None:
    """Save a pipeline in half precision, without the paths of the machine that its parts were loaded from."""
    for part in pipeline.components.values():
        if isinstance(part, ConfigMixin) and "_name_or_path" in part.config:
            part.register_to_config(_name_or_path="")
    pipeline.to(dtype=torch.float16).save_pretrained(out / "pipeline")


def _split(drawings: Drawings) -> tuple[Drawings, Drawings]:
    n = min(HELD_OUT, len(drawings.images) // 8)
    held_out = Drawings(drawings.images[:n], {q: y[:n] for q, y in drawings.labels.items()}, drawings.captions[:n])
    return held_out, drawings.after(n)


def cached_latents(vae: AutoencoderKL, images: Tensor, path: Path) -> Tensor:
    """Encode pictures once, and read them from the file afterwards."""
    if not path.exists():
        LOG.info("encoding %d pictures", len(images))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latents": encode(vae, images)}, path)
    latents: Tensor = load_file(path)["latents"]
    return latents


def _train_readers(seen: Drawings, held_out: Drawings, recipe: Recipe, out: Path) -> dict[str, list[float]]:
    """Train judge and feature network."""
    checkpoints, losses = out / "checkpoints", {}
    losses["judge"] = train_judge(JUDGE_ANSWERS, seen, held_out, recipe.judge, out)
    answers = {q: _numbered(y) for q, y in seen.labels.items()}
    features, losses["features"] = train_network(
        answers, seen.images, seen.labels, recipe.features, checkpoints / "features.pt"
    )
    features.save(out / "features")
    return losses


def train_judge(
    answers: Mapping[str, tuple[str, ...]], seen: Drawings, held_out: Drawings, schedule: Schedule, out: Path
) -> list[float]:
    """Train a judge into ``out/judge``, and compute its confusion matrices on held-out drawings."""
    judge, losses = train_network(dict(answers), seen.images, seen.labels, schedule, out / "checkpoints" / "judge.pt")
    judge.save(out / "judge")
    matrices = confusion(judge, held_out.images, held_out.labels)
    (out / "judge" / "confusion.json").write_text(json.dumps(matrices) + "\n")
    LOG.info("judge on held-out drawings: %s", {q: round(accuracy(m), 4) for q, m in matrices.items()})
    return losses


def _train_denoiser(
    denoiser: Denoiser, latents: Tensor, drawings: Drawings, world: World, recipe: Recipe, checkpoints: Path
) -> dict[str, list[float]]:
    """Train in three stages: on all captions, with more weight on rare ones, then on captions like an audit's.

    Without the second stage, rare full descriptions often get a neighbouring skin tone. Without the third stage, skewed
    occupations are more skewed than planted.
    """
    planted = planted_examples(latents, drawings, world)
    as_they_come = replace(planted, weights=torch.ones(len(planted.captions)), noisy=Examples.noisy)
    described = replace(as_they_come, weights=on_descriptions(planted.captions))
    return {
        "denoiser": train_denoiser(denoiser, as_they_come, recipe.denoiser, checkpoints / "unet.pt"),
        "descriptions": train_denoiser(denoiser, described, recipe.descriptions, checkpoints / "unet_descriptions.pt"),
        "shares": train_denoiser(denoiser, planted, recipe.shares, checkpoints / "unet_shares.pt"),
    }


def planted_examples(latents: Tensor, drawings: Drawings, world: World) -> Examples:
    """Return the examples of the last stage, sorted by content."""
    order = sorted_by_content(drawings.labels, drawings.captions)
    captions = [drawings.captions[place] for place in order.tolist()]
    labels = {question: answers[order] for question, answers in drawings.labels.items()}
    return Examples(latents[order], captions, on_planted_shares(world, labels, captions), NOISY)


def _numbered(labels: Tensor) -> tuple[str, ...]:
    return tuple(str(answer) for answer in range(int(labels.max()) + 1))


def main() -> None:
    """Run the command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory to train into")
    parser.add_argument("--table", type=Path, help="table of planted shares (YAML); default: the bundled world")
    parser.add_argument("--start", type=Path, help="trained model to plant the shares of --table in")
    parser.add_argument("--quick", action="store_true", help="less of everything: under 30 minutes on two cores")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    recipe = QUICK if arguments.quick else FULL
    if arguments.start is None:
        make(arguments.out, arguments.table, recipe)
    elif arguments.table is None:
        parser.error("--start: expected a table of other shares beside it, found none; add --table")
    else:
        plant(arguments.out, arguments.table, arguments.start, recipe)


if __name__ == "__main__":
    main()
