"""Trains the wide calibration model: ``python -m audit.training.wide OUT``.

A transformer (PixArt, Chen et al. 2024) whose token stream is four times as wide as the bottleneck of the calibration
model's U-Net. It has the same world, latents and noise schedule, and learns from that model's predictions first, then
from drawings in the planted shares. The VAE, and the networks that measure it, are those of that model.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
)
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from audit.calibration.bundle import BUNDLED, Bundle
from audit.calibration.labels import DETAILS
from audit.calibration.world import World
from audit.training.autoencoder import LATENT_CHANNELS, decode
from audit.training.captions import vocabulary
from audit.training.loop import Schedule, seeded
from audit.training.make import FULL as CALIBRATION
from audit.training.make import HELD_OUT, Drawings, cached_latents, draw, planted_examples, save_pipeline, train_judge
from audit.training.make import QUICK as QUICK_CALIBRATION
from audit.training.readers import JUDGE_ANSWERS
from audit.training.unet import Denoiser, Examples, train_denoiser

LOG = logging.getLogger(__name__)

BLOCKS, HEADS, HEAD_WIDTH = 3, 8, 64
"""Transformer blocks; attention heads and their width, whose product is the width of the token stream."""

TEXT_WIDTH = 64
LATENT_SIZE = 8

JUDGED = 16_000
"""Drawings that the judge is trained on."""

CONTEXT_LENGTH = 20


@dataclass(frozen=True)
class Recipe:
    """Number of drawings, and durations: of the judge, of learning from the teacher, and of the planted shares."""

    drawings: int
    judge: Schedule
    teacher: Schedule
    shares: Schedule


FULL = Recipe(
    drawings=40_000,
    judge=CALIBRATION.judge,
    teacher=Schedule(steps=3_000, batch=64, learning_rate=6e-4, warmup=200, ema=0.998),
    shares=Schedule(steps=400, batch=64, learning_rate=2e-4, ema=0.998),
)
QUICK = Recipe(
    drawings=8_000,
    judge=QUICK_CALIBRATION.judge,
    teacher=Schedule(steps=600, batch=64, learning_rate=6e-4, warmup=100, ema=0.99),
    shares=Schedule(steps=200, batch=64, learning_rate=2e-4, warmup=20, ema=0.99),
)


@dataclass
class WideDenoiser:
    """The transformer, with its text encoder, tokenizer and noise schedule."""

    transformer: PixArtTransformer2DModel
    text_encoder: T5EncoderModel
    tokenizer: T5Tokenizer
    scheduler: DDIMScheduler

    def parts(self) -> nn.ModuleDict:
        """Return the networks by name."""
        return nn.ModuleDict({"transformer": self.transformer, "text_encoder": self.text_encoder})

    def tokens(self, captions: list[str]) -> Tensor:
        """Return the token ids ``(n, L)``, padded as the pipeline does."""
        encoded = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=CONTEXT_LENGTH, return_tensors="pt"
        )
        ids: Tensor = encoded.input_ids
        return ids

    def velocity(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Predict v (B, 16, 8, 8) of noisy latents, timesteps (B,) and token ids (B, L), of which padding is hidden."""
        mask = (tokens != self.tokenizer.pad_token_id).long()
        text = self.text_encoder(tokens, attention_mask=mask).last_hidden_state
        predicted: Tensor = self.transformer(
            noisy, encoder_hidden_states=text, timestep=t, encoder_attention_mask=mask.to(text.dtype)
        ).sample
        return predicted


def new_tokenizer() -> T5Tokenizer:
    """Return a unigram tokenizer in which every word of a caption is one token, and any other word its letters."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"▁{word}", -3.0) for word in vocabulary()]
    letters = [(sign, -9.0) for sign in "▁abcdefghijklmnopqrstuvwxyz0123456789.,-'"]
    return T5Tokenizer(vocab=special + words + letters, extra_ids=0, model_max_length=CONTEXT_LENGTH)


def new_denoiser(scheduler: DDIMScheduler, seed: int) -> WideDenoiser:
    """Build the untrained transformer (15 M parameters; a stream of 16 tokens × 512) and text encoder (0.1 M)."""
    tokenizer = new_tokenizer()
    width = HEADS * HEAD_WIDTH
    with seeded(seed):
        transformer = PixArtTransformer2DModel(
            sample_size=LATENT_SIZE,
            patch_size=2,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            num_layers=BLOCKS,
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_WIDTH,
            cross_attention_dim=width,
            caption_channels=TEXT_WIDTH,
            use_additional_conditions=False,
        )
        text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=TEXT_WIDTH,
                d_kv=TEXT_WIDTH // 4,
                d_ff=4 * TEXT_WIDTH,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
            )
        )
    return WideDenoiser(transformer, text_encoder, tokenizer, scheduler)


def make(out: Path, recipe: Recipe, start: Path = BUNDLED) -> None:
    """Train into ``out``: ``world.yaml`` and the stock diffusers directory ``pipeline``; resumable.

    Args:
        out: Directory to train into; checkpoints are in ``out/checkpoints``.
        recipe: Durations.
        start: The trained calibration model to learn from.
    """
    checkpoints = out / "checkpoints"
    out.mkdir(parents=True, exist_ok=True)
    table = Bundle.at(start).table
    shutil.copyfile(table, out / "world.yaml")
    world = World.load(table)
    teacher = StableDiffusionPipeline.from_pretrained(Bundle.at(start).pipeline, torch_dtype=torch.float32)
    LOG.info("drawing %d pictures of %s", recipe.drawings, world.name)
    drawings = draw(world, recipe.drawings)
    latents = cached_latents(teacher.vae, drawings.images, checkpoints / "latents.safetensors")
    denoiser = new_denoiser(teacher.scheduler, seed=2)
    scaled = latents * teacher.vae.config.scaling_factor
    taught = Denoiser(teacher.unet, teacher.text_encoder, teacher.tokenizer, teacher.scheduler)
    losses = {"judge": _train_judge(world, teacher.vae, drawings, latents, recipe, out)}
    losses |= _train(denoiser, taught, planted_examples(scaled, drawings, world), recipe, checkpoints)
    _save(teacher.vae, denoiser, out)
    (out / "losses.json").write_text(json.dumps(losses, indent=2) + "\n")


def _train_judge(
    world: World, vae: AutoencoderKL, drawings: Drawings, latents: Tensor, recipe: Recipe, out: Path
) -> list[float]:
    """Train a judge that also sees the details, on drawings of which half passed the VAE, as generated pictures do."""
    count = min(JUDGED, recipe.drawings)
    images = drawings.images[:count].clone()
    images[::2] = decode(vae, latents[:count:2])
    labels = {question: answers[:count] for question, answers in drawings.labels.items()}
    seen = Drawings(images, labels, drawings.captions[:count])
    held_out = draw(world, HELD_OUT, first=recipe.drawings)
    return train_judge({**JUDGE_ANSWERS, **DETAILS}, seen, held_out, recipe.judge, out)


def _train(
    denoiser: WideDenoiser, teacher: Denoiser, planted: Examples, recipe: Recipe, checkpoints: Path
) -> dict[str, list[float]]:
    """Learn from the teacher, whose shares are not quite the planted ones, and then from drawings in these.

    The teacher needs no stage for rare descriptions, as the calibration model did: its predictions for them are right.
    """
    as_they_come = replace(planted, weights=torch.ones(len(planted.captions)), noisy=Examples.noisy)
    return {
        "teacher": train_denoiser(denoiser, as_they_come, recipe.teacher, checkpoints / "teacher.pt", teacher),
        "shares": train_denoiser(denoiser, planted, recipe.shares, checkpoints / "shares.pt"),
    }


def _save(vae: AutoencoderKL, denoiser: WideDenoiser, out: Path) -> None:
    pipeline = PixArtAlphaPipeline(
        denoiser.tokenizer, denoiser.text_encoder, vae, denoiser.transformer, denoiser.scheduler
    )
    save_pipeline(pipeline, out)


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory to train into")
    parser.add_argument(
        "--start", type=Path, default=BUNDLED, help="calibration model to learn from; default: the bundled one"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps, fewer drawings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    make(arguments.out, QUICK if arguments.quick else FULL, arguments.start)


if __name__ == "__main__":
    main()
