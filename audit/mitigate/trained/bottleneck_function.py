"""The network of Latent Editing: what is added to a map, from the map and the timestep.

Kwon et al. 2023, figure 4: 1×1 convolution, plus the timestep's embedding, group normalisation, SiLU, 1×1 convolution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# B images, C H W the map, D width of the time embedding

_NORM_GROUPS, _NORM_EPSILON = 32, 1e-6
"""Of the normalisation in denoising diffusion U-Nets (Ho et al. 2020)."""


class BottleneckFunction(nn.Module):
    """Δh_t = f(h_t, t).

    Args:
        channels: C of the map.
        embedding: D of the timestep's embedding.
        seed: Seed of the initial weights.
    """

    def __init__(self, channels: int, embedding: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.into = nn.Conv2d(channels, channels, 1)
            self.time = nn.Linear(embedding, channels)
            self.norm = nn.GroupNorm(math.gcd(_NORM_GROUPS, channels), channels, eps=_NORM_EPSILON)
            self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """Return Δh ``(B, C, H, W)`` of maps ``(B, C, H, W)`` and time embeddings ``(B, D)``."""
        hidden = self.into(h) + self.time(functional.silu(time))[:, :, None, None]
        change: Tensor = self.out(functional.silu(self.norm(hidden)))
        return change
