"""Finished latents, noised to the level of a step, from which a sampler continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from audit.models.files.untrusted_model import UnfitModelError


@dataclass(frozen=True)
class Start:
    """Where a sampler starts, other than from noise.

    Attributes:
        step: S, the first step that is really taken, at least 1: at step 0 hardly anything of a picture is left.
        latents: x₀, as the pipeline denoises them: (B, c, h, w), or tokens (B, T, d).
        noise: ε, of the same shape.
    """

    step: int
    latents: Tensor
    noise: Tensor

    def noised(self, scheduler: Any, noisy: Tensor) -> Tensor:  # noqa: ANN401 - of diffusers
        """Return x_S, as the scheduler keeps it, after it has taken the step before S.

        This is what diffusers' pipelines from image to image do: √ᾱ x₀ + √(1−ᾱ) ε, or x₀ + σ ε for a sampler of
        sigmas, or (1−σ) x₀ + σ ε for a flow.

        Args:
            scheduler: The sampler; its next step is S.
            noisy: What it would continue with.

        Raises:
            UnfitModelError: The shapes differ: the pipeline samples another size than that of the pictures.
        """
        if noisy.shape != self.latents.shape:
            raise UnfitModelError(
                f"expected latents {tuple(noisy.shape)}, found {tuple(self.latents.shape)} of pictures: the pipeline "
                "resizes its images; set sampling.height and sampling.width to a size that it samples"
            )
        latents, noise = self.latents.to(noisy), self.noise.to(noisy)
        if self.step >= len(scheduler.timesteps):
            return noisy
        times = scheduler.timesteps[self.step].expand(len(noisy)).to(noisy.device)
        if hasattr(scheduler, "scale_noise"):
            flow: Tensor = scheduler.scale_noise(latents, times, noise)
            return flow
        found: Tensor = scheduler.add_noise(latents, noise, times)
        return found
