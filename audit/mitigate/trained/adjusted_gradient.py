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
    return Followed(latents.clone(), noisy, timesteps)


def joined(parts: Sequence[Followed]) -> Followed:
    """Return batches that took the same steps as one."""
    latents, noisy = torch.cat([one.latents for one in parts]), torch.cat([one.noisy for one in parts], 1)
    return Followed(latents, noisy, parts[0].timesteps)


def factors(levels: NoiseLevels, timesteps: Sequence[int]) -> Tensor:
    """Return A_i = dz₀/df_i of DDIM steps through these timesteps to ᾱ = 1, ``(S,)``.

    x_s = √ᾱ_s x̂₀ + √(1−ᾱ_s) ε̂ is a_i x_t + b_i f_i, and A_i = b_i Π_{j>i} a_j. For a network that predicts ε this is
    σ_s − σ_t with σ = √(1−ᾱ)/√ᾱ.
    """
    alphas = [*(levels.alphas[time].double() for time in timesteps), torch.tensor(1.0).double()]
    found, product = [torch.tensor(0.0).double()] * len(timesteps), torch.tensor(1.0).double()
    for step in reversed(range(len(timesteps))):
        by_state, by_prediction = _of_step(levels.predicted, alphas[step], alphas[step + 1])
        found[step] = by_prediction * product
        product = product * by_state
    return torch.stack(found)


def _of_step(predicted: str, now: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b of a step from ᾱ_t to ᾱ_s."""
    signal, sigma, next_signal, next_sigma = now.sqrt(), (1 - now).sqrt(), after.sqrt(), (1 - after).sqrt()
    if predicted == "epsilon":
        return next_signal / signal, next_sigma - next_signal * sigma / signal
    if predicted == "sample":
        return next_sigma / sigma, next_signal - next_sigma * signal / sigma
    return next_signal * signal + next_sigma * sigma, next_sigma * signal - next_signal * sigma


def common_factor(found: Tensor) -> float:
    """Return the value that all A_i ``(S,)`` are set to: their geometric mean, with their sign; zeros are left out."""
    used = found[found != 0]
    return float(used.abs().log().mean().exp() * used[-1].sign())
