"""Deterministic DDIM reverse steps (Song et al. 2021, eq. 12 with η = 0), symmetric and asymmetric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

# x noisy latents or pixels, a = √ᾱ_t (signal), s = √(1−ᾱ_t) (noise level)


@dataclass(frozen=True)
class ReverseSchedule:
    """The steps of one sampling run.

    Attributes:
        timesteps: Training timesteps, from noise to image.
        signal: √ᾱ at each step, followed by its value after the last step.
        sigma: √(1−ᾱ), likewise.
        reached: √ᾱ and √(1−ᾱ) to which each step leads: as in diffusers, those of ⌊T/N⌋ timesteps less. Where N evenly
            spaced steps do not divide T (``linspace``, ``trailing``), that is not quite the next step's level.
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``: what the network predicts.
        clip: Predicted pixels are clipped to [-clip, clip]; None for latents, which have no such range.
    """

    timesteps: tuple[int, ...]
    signal: tuple[float, ...]
    sigma: tuple[float, ...]
    reached: tuple[tuple[float, float], ...]
    prediction_type: str
    clip: float | None = None

    @classmethod
    def of(cls, scheduler: DDIMScheduler, steps: int) -> ReverseSchedule:
        """Read the schedule that ``scheduler`` gives for this number of steps."""
        scheduler.set_timesteps(steps)
        timesteps = [int(t) for t in scheduler.timesteps]
        stride = scheduler.config.num_train_timesteps // steps
        kept, final = scheduler.alphas_cumprod, scheduler.final_alpha_cumprod
        after = [float(kept[t - stride] if t >= stride else final) for t in timesteps]
        alphas = [*(float(kept[t]) for t in timesteps), after[-1]]
        return cls(
            timesteps=tuple(timesteps),
            signal=tuple(a**0.5 for a in alphas),
            sigma=tuple((1 - a) ** 0.5 for a in alphas),
            reached=tuple((a**0.5, (1 - a) ** 0.5) for a in after),
            prediction_type=scheduler.config.prediction_type,
            clip=scheduler.config.clip_sample_range if scheduler.config.clip_sample else None,
        )

    def image(self, x: Tensor, prediction: Tensor, step: int) -> Tensor:
        """The predicted image x̂₀, clipped if the model is of pixels."""
        found = self._image(x, prediction, step)
        return found if self.clip is None else found.clamp(-self.clip, self.clip)

    def _image(self, x: Tensor, prediction: Tensor, step: int) -> Tensor:
        a, s = self.signal[step], self.sigma[step]
        match self.prediction_type:
            case "epsilon":
                return (x - s * prediction) / a
            case "v_prediction":
                return a * x - s * prediction
            case "sample":
                return prediction
        raise ValueError(f"prediction type {self.prediction_type!r}: expected epsilon, v_prediction or sample")

    def noise(self, x: Tensor, prediction: Tensor, step: int) -> Tensor:
        """The predicted noise ε̂."""
        a, s = self.signal[step], self.sigma[step]
        match self.prediction_type:
            case "epsilon":
                return prediction
            case "v_prediction":
                return a * prediction + s * x
            case "sample":
                return (x - a * prediction) / s
        raise ValueError(f"prediction type {self.prediction_type!r}: expected epsilon, v_prediction or sample")

    def advance(self, image: Tensor, noise: Tensor, step: int) -> Tensor:
        """x_{t−1} = √ᾱ_{t−1} x̂₀ + √(1−ᾱ_{t−1}) ε̂: Asyrp passes an edited image and an unedited noise."""
        signal, sigma = self.reached[step]
        return signal * image + sigma * noise
