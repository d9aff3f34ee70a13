"""Formulas of diffusion at one noise level: noisy latents, what a network is trained to predict, and back.

x_t = √ᾱ_t x₀ + √(1−ᾱ_t) ε. A network predicts ε (Ho et al. 2020), v = √ᾱ_t ε − √(1−ᾱ_t) x₀ (Salimans & Ho 2022), or x₀.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# B images, c h w the latents, T timesteps of training

PREDICTED = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels that a network was trained with.

    Attributes:
        alphas: ᾱ, ``(T,)``.
        predicted: ``epsilon``, ``v_prediction`` or ``sample``.
        limit: Greatest number in a predicted image, as some schedulers clip it; None for no limit.
    """

    alphas: Tensor
    predicted: str
    limit: float | None = None

    @classmethod
    def of(cls, scheduler: Any) -> NoiseLevels:  # noqa: ANN401 - a scheduler of diffusers
        """Return the levels of a scheduler.

        Raises:
            ValueError: It has no noise levels, as those of flow matching, or another prediction.
        """
        alphas, predicted = getattr(scheduler, "alphas_cumprod", None), scheduler.config.get("prediction_type")
        if alphas is None or predicted not in PREDICTED:
            raise ValueError(
                f"expected a model that is trained on noise levels (betas) and predicts {', '.join(PREDICTED)}, found "
                f"{type(scheduler).__name__} with prediction_type {predicted!r}; choose a method that is not trained"
            )
        return cls(
            alphas, predicted, scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else None
        )

    def noisy(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return x_t ``(B, c, h, w)`` of x₀ and ε at timesteps ``(B,)``."""
        signal, sigma = self._at(timesteps, image)
        return signal * image + sigma * noise

    def target(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network should predict from :meth:`noisy`."""
        signal, sigma = self._at(timesteps, image)
        return {"epsilon": noise, "v_prediction": signal * noise - sigma * image, "sample": image}[self.predicted]

    def image(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """Return the predicted x₀."""
        signal, sigma = self._at(timesteps, noisy)
        if self.predicted == "epsilon":
            image = (noisy - sigma * prediction) / signal
        else:
            image = prediction if self.predicted == "sample" else signal * noisy - sigma * prediction
        return image if self.limit is None else image.clamp(-self.limit, self.limit)

    def noise(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """Return the predicted ε."""
        signal, sigma = self._at(timesteps, noisy)
        if self.predicted == "v_prediction":
            return signal * prediction + sigma * noisy
        return prediction if self.predicted == "epsilon" else (noisy - signal * prediction) / sigma

    def _at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return √ᾱ and √(1−ᾱ), ``(B, 1, 1, 1)``."""
        alpha = self.alphas.to(like.device)[timesteps.to(like.device).long()].to(like.dtype).view(-1, 1, 1, 1)
        return alpha.sqrt(), torch.sqrt(1 - alpha)
