"""Trains the calibration model's U-Net and text encoder, jointly, on latents of captioned drawings."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from audit.models.device import device_here
from audit.training.autoencoder import LATENT_CHANNELS
from audit.training.loop import Schedule, seeded, train

TEXT_WIDTH = 64
CAPTION_DROPOUT = 0.1
"""Share of captions replaced by the empty one, which trains the unconditional half of guidance."""


class Learner(Protocol):
    """A denoiser with its text encoder: the parts that are trained together."""

    scheduler: DDIMScheduler

    def parts(self) -> nn.ModuleDict:
        """Return the networks by name."""

    def tokens(self, captions: list[str]) -> Tensor:
        """Return the token ids ``(n, L)``."""

    def velocity(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Predict v (B, 16, 8, 8) of noisy latents, timesteps (B,) and token ids (B, L)."""


@dataclass
class Denoiser:
    """The calibration model's U-Net, with its text encoder, tokenizer and noise schedule."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    def parts(self) -> nn.ModuleDict:
        """Return the networks by name."""
        return nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})

    def tokens(self, captions: list[str]) -> Tensor:
        """Return the token ids ``(n, L)``."""
        return token_ids(self.tokenizer, captions)

    def velocity(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Predict v (B, 16, 8, 8) of noisy latents, timesteps (B,) and token ids (B, L)."""
        text = self.text_encoder(tokens).last_hidden_state
        predicted: Tensor = self.unet(noisy, t, text).sample
        return predicted


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule with zero terminal SNR and v-prediction (Lin et al. 2024).

    Without zero terminal SNR, training never includes pure noise. Global colours, and therefore skin tones, are then
    too medium, and the generated shares differ from the planted ones.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,  # no effect with trailing steps; stock pipelines warn about any other value
        clip_sample=False,
    )


def new_denoiser(tokenizer: CLIPTokenizer, seed: int) -> Denoiser:
    """Build the untrained U-Net (4 M parameters) and text encoder (0.1 M)."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(64, 128),
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        return Denoiser(unet, CLIPTextModel(config), tokenizer, new_scheduler())


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Tokenise to ``(n, model_max_length)``, as StableDiffusionPipeline does."""
    encoded = tokenizer(
        captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    ids: Tensor = encoded.input_ids
    return ids


@dataclass(frozen=True)
class Examples:
    """Training data of a denoiser.

    Attributes:
        latents: Scaled latents ``(n, 16, 8, 8)``.
        captions: n captions.
        weights: ``(n,)``: sampling weights of the examples.
        noisy: Share of the timesteps in the noisier half of the schedule; 0.5 weights all timesteps equally.
    """

    latents: Tensor
    captions: list[str]
    weights: Tensor
    noisy: float = 0.5


def train_denoiser(
    denoiser: Learner, examples: Examples, schedule: Schedule, checkpoint: Path, teacher: Learner | None = None
) -> list[float]:
    """Train to predict v = √ᾱ ε − √(1−ᾱ) x₀ (Salimans & Ho 2022), by mean squared error.

    Args:
        denoiser: What is trained.
        examples: Its data.
        schedule: Its duration.
        checkpoint: File of the training state.
        teacher: A trained model with the same latents and noise schedule. If given, its prediction is learned in place
            of v (Hinton et al. 2015): it is the mean of v over all pictures that a noisy one may come from, so that
            fewer steps are needed.
    """
    ids, empty = denoiser.tokens(examples.captions), denoiser.tokens([""])
    device = device_here()
    alphas = denoiser.scheduler.alphas_cumprod.to(device)
    taught = None if teacher is None else _Taught(teacher, examples.captions)

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        chosen, t = draw_batch(examples.weights, examples.noisy, len(alphas), schedule.batch, step)
        t = t.to(device)
        x0 = examples.latents[chosen].float().to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        signal, sigma = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        dropped = torch.rand(schedule.batch, 1, generator=generator) < CAPTION_DROPOUT
        tokens = torch.where(dropped, empty, ids[chosen]).to(device)
        noisy = signal * x0 + sigma * noise
        # For heads this small, the flash kernel is slower than plain matrix products on a CPU.
        with sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext():
            v = denoiser.velocity(noisy, t, tokens)
            target = signal * noise - sigma * x0 if taught is None else taught.velocity(noisy, t, chosen, dropped)
        return nn.functional.mse_loss(v, target)

    return train(denoiser.parts(), loss_of, schedule, checkpoint)


class _Taught:
    """A teacher's predictions for the captions of the examples."""

    def __init__(self, teacher: Learner, captions: list[str]) -> None:
        self._teacher = teacher
        self._ids, self._empty = teacher.tokens(captions), teacher.tokens([""])
        teacher.parts().to(device_here()).eval()

    @torch.no_grad()
    def velocity(self, noisy: Tensor, t: Tensor, chosen: Tensor, dropped: Tensor) -> Tensor:
        tokens = torch.where(dropped, self._empty, self._ids[chosen]).to(noisy.device)
        return self._teacher.velocity(noisy, t, tokens)


def draw_batch(weights: Tensor, noisy: float, timesteps: int, batch: int, step: int) -> tuple[Tensor, Tensor]:
    """Draw examples and timesteps, both ``(batch,)``, as points of one Sobol sequence (Sobol 1967).

    If neighbouring examples are similar, every part of the training sees their kinds in proportion to the weights at
    every noise level. With independent draws, a share of ½ would deviate by 2 points among the 800 examples of one
    occupation and level.

    Args:
        weights: ``(n,)``, in the order of the examples.
        noisy: Share of the timesteps in the noisier half.
        timesteps: Number of timesteps in the schedule.
        batch: Number of points.
        step: Number of batches drawn before.
    """
    sequence = torch.quasirandom.SobolEngine(2, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    sequence.fast_forward(step * batch)  # type: ignore[no-untyped-call]
    place, level = sequence.draw(batch, dtype=torch.float64).unbind(1)
    edges = weights.double().cumsum(0)
    chosen = torch.searchsorted(edges, place * edges[-1], right=True).clamp(max=len(edges) - 1)
    clean = 1 - noisy
    level = torch.where(level < clean, level / (2 * clean), 0.5 + (level - clean) / (2 * noisy))
    return chosen, (level * timesteps).long().clamp(max=timesteps - 1)
