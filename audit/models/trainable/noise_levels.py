"""Formulas of one noise level: noisy latents, what a network is trained to predict, and back.

x_t = a_t x₀ + s_t ε, with the signal a_t and the noise s_t of a timestep. Diffusion has a = √ᾱ and s = √(1−ᾱ) (Ho et
al. 2020), flow matching has a = 1 − σ and s = σ (Lipman et al. 2023, example II; Esser et al. 2024, eq. 13). A network
predicts f = c x₀ + d ε, (c, d) being (0, 1) for the noise, (1, 0) for the image, (−s, a) for the velocity v of Salimans
& Ho 2022, and (−1, 1) for that of a flow. Both unknowns follow from x_t and f: with D = a d − s c,
x₀ = (d x_t − s f) / D and ε = (a f − c x_t) / D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# B images, T timesteps of training

_PREDICTED: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "epsilon": lambda a, _s: (torch.zeros_like(a), torch.ones_like(a)),
    "sample": lambda a, _s: (torch.ones_like(a), torch.zeros_like(a)),
    "v_prediction": lambda a, s: (-s, a),
    "flow_prediction": lambda a, _s: (-torch.ones_like(a), torch.ones_like(a)),
}
"""What is predicted → c and d, given a and s."""


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels that a network was trained with.

    Attributes:
        count: T.
        predicted: ``epsilon``, ``v_prediction``, ``sample`` or ``flow_prediction``.
        alphas: ᾱ, ``(T,)``; None for flow matching, where σ is the timestep over T.
        limit: Greatest number in a predicted image, as some schedulers clip it; None for no limit.
    """

    count: int
    predicted: str
    alphas: Tensor | None = None
    limit: float | None = None

    @classmethod
    def of(cls, scheduler: Any) -> NoiseLevels:  # noqa: ANN401 - a scheduler of diffusers
        """Return the levels of a scheduler.

        Raises:
            ValueError: It has no noise levels that are known, or another prediction.
        """
        config, count = scheduler.config, int(scheduler.config.num_train_timesteps)
        predicted = config.get("prediction_type")
        if type(scheduler).__name__.startswith("FlowMatch") or predicted == "flow_prediction":
            return cls(count, "flow_prediction")
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None or predicted not in _PREDICTED:
            raise ValueError(
                f"expected a model that is trained on noise levels and predicts {', '.join(_PREDICTED)}, found "
                f"{type(scheduler).__name__} with prediction_type {predicted!r}; choose a method that is not trained"
            )
        return cls(count, predicted, alphas, config.clip_sample_range if config.get("clip_sample") else None)

    def at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and s of timesteps ``(B,)``, each ``(B,)`` in double precision."""
        if self.alphas is None:
            sigma = timesteps.double() / self.count
            return 1 - sigma, sigma
        alpha = self.alphas.to(timesteps.device)[timesteps.long()].double()
        return alpha.sqrt(), (1 - alpha).sqrt()

    def unknowns(self, noisy: Tensor, prediction: Tensor, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return x₀ and ε, given x_t and f at a noise level (a, s); all shapes fit each other."""
        a, s = signal, sigma
        c, d = _PREDICTED[self.predicted](a, s)
        determinant = a * d - s * c
        return (d * noisy - s * prediction) / determinant, (a * prediction - c * noisy) / determinant

    def noisy(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return x_t of x₀ and ε, both ``(B, …)``, at timesteps ``(B,)``."""
        a, s = self._of_rows(timesteps, image)
        return a * image + s * noise

    def target(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network should predict from :meth:`noisy`, f."""
        c, d = _PREDICTED[self.predicted](*self._of_rows(timesteps, image))
        return c * image + d * noise

    def image(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """Return the predicted x₀."""
        image, _ = self.unknowns(noisy, prediction, *self._of_rows(timesteps, noisy))
        return image if self.limit is None else image.clamp(-self.limit, self.limit)

    def noise(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """Return the predicted ε."""
        return self.unknowns(noisy, prediction, *self._of_rows(timesteps, noisy))[1]

    def _of_rows(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and s, each ``(B, 1, …)`` with as many axes as ``like``."""
        ones = (1,) * (like.ndim - 1)
        a, s = (of.to(like.dtype).view(-1, *ones) for of in self.at(timesteps.to(like.device)))
        return a, s
