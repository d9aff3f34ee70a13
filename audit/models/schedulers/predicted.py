"""The image that one step of a sampler predicts, x̂₀, from what the denoiser predicts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from audit.models.files.untrusted_model import UnfitModelError


def predicted_latents(scheduler: Any, prediction: Tensor, timestep: Any, noisy: Tensor) -> Tensor:  # noqa: ANN401 - of diffusers
    """Return x̂₀, the latents (B, c, h, w) of the image that is predicted from noisy latents.

    With ᾱ of the timestep, x̂₀ = (x − √(1−ᾱ) ε) / √ᾱ for predicted noise and √ᾱ x − √(1−ᾱ) v for predicted velocity
    (Salimans & Ho 2022, appendix D). A sampler of sigmas keeps x / √ᾱ, and one of a flow has x̂₀ = x − σ v.

    Args:
        scheduler: Of diffusers, before it takes the step.
        prediction: After guidance, (B, c, h, w).
        timestep: Of the step.
        noisy: x, as the scheduler keeps it, (B, c, h, w).

    Raises:
        UnfitModelError: The scheduler has no noise levels that are known here.
    """
    prediction = prediction[:, : noisy.shape[1]]  # PixArt also predicts variances, behind the noise
    if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "index_for_timestep"):
        sigma = scheduler.sigmas[scheduler.index_for_timestep(timestep)].to(noisy)
        if not hasattr(scheduler, "alphas_cumprod"):
            found: Tensor = noisy - sigma * prediction
            return found
        if type(scheduler).__name__.startswith(("Euler", "Heun", "LMS")):
            signal = (1 + sigma**2) ** -0.5
            return _from_noise_level(scheduler, prediction, signal * noisy, signal, sigma * signal)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UnfitModelError(
            f"expected a scheduler with noise levels, found {type(scheduler).__name__}; set sampling.scheduler: "
            "DDIMScheduler"
        )
    level = scheduler.alphas_cumprod[int(timestep)].to(noisy)
    return _from_noise_level(scheduler, prediction, noisy, level**0.5, (1 - level) ** 0.5)


def _from_noise_level(
    scheduler: Any,  # noqa: ANN401 - of diffusers
    prediction: Tensor,
    noisy: Tensor,
    signal: Tensor,
    noise: Tensor,
) -> Tensor:
    """Return x̂₀ of x = signal · x₀ + noise · ε."""
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return signal * noisy - noise * prediction
    return prediction if kind == "sample" else (noisy - noise * prediction) / signal
