"""Adjusted direct finetuning: the gradient of a loss of sampled images by weights of the model (Shen et al. 2024, 4.2).

With f_i what the network predicts at step i, and A_i = dz₀/df_i along the sampler alone, the exact gradient is
dL/dz₀ Σ_i A_i (Π_j B_j) df_i/dθ, where B_j = I + … are Jacobians of the network at later steps. Their product explodes,
and the A_i differ by orders of magnitude between steps. The adjusted gradient sets B_j to I and all A_i to one value,
here the geometric mean of them, as in the authors' program.

So dL/dz₀ is taken once, and every step adds the gradient of its own prediction. No graph reaches over two steps: memory
does not grow with them, and any part of the steps gives an unbiased estimate of the sum over all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.models.generator import DiffusionGenerator, split_call
from audit.models.intervention import Intervention
from audit.models.trainable.noise_levels import NoiseLevels

# B images, c h w the latents, S steps


@dataclass(frozen=True)
class Followed:
    """A sampled batch.

    Attributes:
        latents: z₀, ``(B, c, h, w)``.
        noisy: What the denoiser read at each step, ``(S, B, c, h, w)``.
        timesteps: ``(S,)``.
    """

    latents: Tensor
    noisy: Tensor
    timesteps: Tensor


def follow(
    generator: DiffusionGenerator, text: str, seeds: Sequence[int], intervention: Intervention | None
) -> Followed:
    """Sample images as an audit does, and keep what the denoiser reads."""
    count, seen = len(seeds), list[tuple[Tensor, Tensor]]()

    def keep(_module: object, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        noisy, timestep, _ = split_call(inputs, named)
        seen.append((noisy[-count:].clone(), timestep.reshape(-1)[0].clone()))

    with generator.denoiser.register_forward_pre_hook(keep, with_kwargs=True):
        latents = generator.latents([text] * count, seeds, intervention)
    # Tensors of inference mode take part in no graph; what is made of them here does.
    noisy, timesteps = (torch.stack(list(parts)) for parts in zip(*seen, strict=True))
    return Followed(latents.clone(), noisy, timesteps / generator.timestep_scales[0])


def joined(parts: Sequence[Followed]) -> Followed:
    """Return batches that took the same steps as one."""
    latents, noisy = torch.cat([one.latents for one in parts]), torch.cat([one.noisy for one in parts], 1)
    return Followed(latents, noisy, parts[0].timesteps)


def factors(levels: NoiseLevels, timesteps: Tensor) -> Tensor:
    """Return A_i = dz₀/df_i of the sampler's steps through timesteps ``(S,)`` to the image, ``(S,)``.

    A step from t to u is x_u = a_u x̂₀ + s_u ε̂: that of DDIM, and of Euler for a flow. With what the network predicts,
    f = c x₀ + d ε, it is α_i x_t + β_i f_i, and A_i = β_i Π_{j>i} α_j. For a network that predicts ε this is σ_u − σ_t
    with σ = s/a.
    """
    a, s = levels.at(timesteps)
    reached_a, reached_s = torch.cat([a[1:], a.new_ones(1)]), torch.cat([s[1:], s.new_zeros(1)])
    one, zero = torch.ones_like(a), torch.zeros_like(a)

    def step(state: Tensor, prediction: Tensor) -> Tensor:
        image, noise = levels.unknowns(state, prediction, a, s)
        return reached_a * image + reached_s * noise

    by_state, by_prediction = step(one, zero), step(zero, one)  # a step is linear in both
    later = torch.cat([by_state[1:], one[:1]]).flip(0).cumprod(0).flip(0)
    return by_prediction * later


def common_factor(found: Tensor) -> float:
    """Return the value that all A_i ``(S,)`` are set to: their geometric mean, with their sign; zeros are left out."""
    used = found[found != 0]
    return float(used.abs().log().mean().exp() * used[-1].sign())
