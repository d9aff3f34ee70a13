"""Follows a batch of images through DDIM steps with gradients, with an edit of one map and without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audit.models.trainable import MapEdit, TrainableModel

# B images, c h w the latents, D width of the time embedding

TimedEdit = Callable[[Tensor, Tensor], Tensor]
"""``(h, time) -> h'``: the map (B, C, H, W) edited, given time embeddings (B, D)."""


@dataclass(frozen=True)
class Guided:
    """Predictions under classifier-free guidance (Ho & Salimans 2022, eq. 6).

    Attributes:
        model: The model.
        guidance: Scale; 1 and below read the prompts alone.
        texts: A prompt for each image.
    """

    model: TrainableModel
    guidance: float
    texts: Sequence[str]

    def predict(self, noisy: Tensor, timesteps: Tensor, edits: Mapping[str, MapEdit] | None = None) -> Tensor:
        """Return the prediction ``(B, c, h, w)``; edits act on the conditional half, with gradients."""
        conditional = self.model.predict(noisy, timesteps, self.texts, edits)
        if self.guidance <= 1:
            return conditional
        with torch.no_grad():
            unconditional = self.model.predict(noisy, timesteps, self.texts, conditional=False)
        return unconditional + self.guidance * (conditional - unconditional)


class AsymmetricRun:
    """The run of a batch: x_{t−1} = √ᾱ_{t−1} P_t(h') + √(1−ᾱ_{t−1}) D_t(h) (Kwon et al. 2023, eq. 6).

    Args:
        guided: Predicts.
        hookpoint: Whose map is edited.
        edit: Edits it.
        noise: x_T, ``(B, c, h, w)``.
    """

    def __init__(self, guided: Guided, hookpoint: str, edit: TimedEdit, noise: Tensor) -> None:
        self._guided, self._hookpoint, self._edit = guided, hookpoint, edit
        self._edited, self._unedited = noise, noise

    def skip_to(self, first: int) -> None:
        """Take the steps before ``first`` without the edit."""
        for step in range(first):
            with torch.no_grad():
                self._unedited, _ = self._moved(self._unedited, step, None)
        self._edited = self._unedited

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """Take a denoising step, and return the predicted images of the edited and of the unedited run.

        Only the first has gradients, to what the edit trains; the next step starts without any.
        """
        times = self._timesteps(step)
        time = self._guided.model.time_embedding(times)
        edits: dict[str, MapEdit] = {self._hookpoint: partial(self._with_time, time.detach())}
        self._edited, predicted = self._moved(self._edited, step, edits)
        with torch.no_grad():
            self._unedited, before = self._moved(self._unedited, step, None)
        return predicted, before

    def _with_time(self, time: Tensor, h: Tensor) -> Tensor:
        return self._edit(h, time)

    def _moved(self, noisy: Tensor, step: int, edits: Mapping[str, MapEdit] | None) -> tuple[Tensor, Tensor]:
        """Return x_{t−1} without gradients, and the predicted image."""
        levels, times = self._guided.model.levels, self._timesteps(step)
        with torch.no_grad():
            unedited = self._guided.predict(noisy, times)
        prediction = unedited if edits is None else self._guided.predict(noisy, times, edits)
        image = levels.image(noisy, prediction, times)
        reached = self._guided.model.alpha_after(step)
        direction = levels.noise(noisy, unedited, times)
        return (reached.sqrt() * image.detach() + (1 - reached).sqrt() * direction), image

    def _timesteps(self, step: int) -> Tensor:
        return self._guided.model.timesteps[step].expand(len(self._edited))
