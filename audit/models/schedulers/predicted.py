"""The image that one step of a sampler predicts, x̂₀, from what the denoiser predicts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from audit.models.files.untrusted_model import UnfitModelError

_OF_SIGMAS = ("Euler", "Heun", "LMS")
"""Samplers that keep x / √ᾱ and call the denoiser at their sigmas."""


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
        UnfitModelError: The scheduler keeps its latents in a way that is not known here, or predicts something else.
    """
    prediction = prediction[:, : noisy.shape[1]]  # PixArt also predicts variances, behind the noise
    name = type(scheduler).__name__
    if name.startswith("FlowMatch"):
        found: Tensor = noisy - _sigma(scheduler, timestep, noisy) * prediction
        return found
    if name.startswith(_OF_SIGMAS):
        sigma = _sigma(scheduler, timestep, noisy)
        signal = (1 + sigma**2) ** -0.5
        return _from_noise_level(scheduler, prediction, signal * noisy, signal, sigma * signal)
    # Other samplers of sigmas, such as KDPM2, take steps between their sigmas.
    if not hasattr(scheduler, "alphas_cumprod") or float(scheduler.init_noise_sigma) > 1:
        raise UnfitModelError(
            f"expected a scheduler whose predicted images are known, found {name}; set sampling.scheduler: "
            "DDIMScheduler"
        )
    level = scheduler.alphas_cumprod[int(timestep)].to(noisy)
    return _from_noise_level(scheduler, prediction, noisy, level**0.5, (1 - level) ** 0.5)


def _sigma(scheduler: Any, timestep: Any, noisy: Tensor) -> Tensor:  # noqa: ANN401 - of diffusers
    found: Tensor = scheduler.sigmas[scheduler.index_for_timestep(timestep)].to(noisy)
    return found


def _from_noise_level(
    scheduler: Any,  # noqa: ANN401 - of diffusers
    prediction: Tensor,
    noisy: Tensor,
    signal: Tensor,
    noise: Tensor,
) -> Tensor:
    """Return x̂₀ of x = signal · x₀ + noise · ε.

    Raises:
        UnfitModelError: The prediction is neither noise nor velocity nor the image.
    """
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return signal * noisy - noise * prediction
    if kind == "sample":
        return prediction
    if kind != "epsilon":
        raise UnfitModelError(
            f"expected a model that predicts epsilon, v_prediction or sample, found {kind!r}; predicted images of it "
            "cannot be read"
        )
    return (noisy - noise * prediction) / signal
