"""Trains the calibration model's VAE: 64×64 drawings ↔ 16×8×8 latents."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from audit.calibration.networks import to_unit_range
from audit.models.device import device_here
from audit.training.loop import Schedule, seeded, train

LATENT_CHANNELS = 16
KL_WEIGHT = 1e-6
"""Weight of the KL divergence, summed over a picture's latents; it keeps them bounded. At 1e-4 twelve of the sixteen
channels become constant and faces blur."""


def new_autoencoder(seed: int) -> AutoencoderKL:
    """Build the untrained VAE: four levels, no attention, 1 M parameters."""
    with seeded(seed):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(16, 32, 64, 64),
            layers_per_block=1,
            norm_num_groups=8,
            latent_channels=LATENT_CHANNELS,
            mid_block_add_attention=False,
            sample_size=64,
        ).to(memory_format=torch.channels_last)


def train_autoencoder(vae: AutoencoderKL, images: Tensor, schedule: Schedule, checkpoint: Path) -> list[float]:
    """Train on ``images`` uint8 (n, 3, 64, 64): L1 on pixels and on their differences, and a light KL term."""

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(images), (schedule.batch,), generator=generator)
        x = to_unit_range(images[chosen]).to(device_here(), memory_format=torch.channels_last)
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
        latents = posterior.mean + posterior.std * noise
        loss: Tensor = reconstruction_loss(vae.decode(latents).sample, x) + KL_WEIGHT * posterior.kl().mean()
        return loss

    return train(vae, loss_of, schedule, checkpoint)


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """L1 distance of pixels and of their horizontal and vertical differences; the differences keep edges sharp."""
    across = functional.l1_loss(y.diff(dim=-1), x.diff(dim=-1))
    down = functional.l1_loss(y.diff(dim=-2), x.diff(dim=-2))
    return functional.l1_loss(y, x) + across + down


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: Tensor, batch: int = 250) -> Tensor:
    """Encode uint8 images as unscaled posterior means ``(n, 16, 8, 8)`` in float16."""
    parts = [
        vae.encode(to_unit_range(part).contiguous(memory_format=torch.channels_last)).latent_dist.mean.half()
        for part in torch.split(images, batch)
    ]
    return torch.cat(parts).contiguous()


@torch.inference_mode()
def decode(vae: AutoencoderKL, latents: Tensor, batch: int = 250) -> Tensor:
    """Decode unscaled latents to uint8 images ``(n, 3, 64, 64)``."""
    parts = [
        (vae.decode(part.float()).sample * 127.5 + 128).clamp(0, 255).byte() for part in torch.split(latents, batch)
    ]
    return torch.cat(parts).contiguous()
