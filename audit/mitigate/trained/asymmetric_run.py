"""Follows a batch of images through the sampler's steps with gradients, with an edit of one map and without it.

A step goes from the predicted image and noise to the next noise level: that of DDIM, and of Euler for a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audit.models.trainable.model import MapEdit, TrainableModel

# B images, C H W the map, D width of the time embedding

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

    @torch.no_grad()
    def both(self, noisy: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predictions of the empty prompt and of the prompts, in one call and without gradients.

        Args:
            noisy: Latents of every image k times, B by B.
            timesteps: ``(B,)``.
        """
        times, texts = len(noisy) // len(timesteps), list(self.texts)
        timesteps, texts = timesteps.repeat(times), texts * times
        if not self._is_guided:
            conditional = self.model.predict(noisy, timesteps, texts)
            return conditional, conditional
        twice = self.model.predict(torch.cat([noisy, noisy]), timesteps.repeat(2), texts * 2, empty=len(texts))
        return twice[: len(texts)], twice[len(texts) :]

    def joined(self, unconditional: Tensor, conditional: Tensor) -> Tensor:
        """Return the guided prediction."""
        return unconditional + self.guidance * (conditional - unconditional) if self._is_guided else conditional

    @property
    def _is_guided(self) -> bool:
        """Whether the empty prompt is read; a model with distilled guidance reads the scale in its place."""
        return self.guidance > 1 and self.model.is_guided(self.texts[0])


class AsymmetricRun:
    """The run of a batch: x_{t−1} = a_{t−1} P_t(h') + s_{t−1} D_t(h), a = √ᾱ, s = √(1−ᾱ) (Kwon et al. 2023, eq. 6).

    Args:
        guided: Predicts.
        hookpoint: Whose map is edited, in the conditional half.
        edit: Edits it.
        noise: x_T, B latents.
    """

    def __init__(self, guided: Guided, hookpoint: str, edit: TimedEdit, noise: Tensor) -> None:
        self._guided, self._hookpoint, self._edit = guided, hookpoint, edit
        self._edited, self._unedited = noise, noise

    def skip_to(self, first: int) -> None:
        """Take the steps before ``first`` without the edit."""
        levels = self._guided.model.levels
        for step in range(first):
            times = self._timesteps(step)
            prediction = self._guided.joined(*self._guided.both(self._unedited, times))
            image, noise = (of(self._unedited, prediction, times) for of in (levels.image, levels.noise))
            self._unedited = self._reached(step, image, noise)
        self._edited = self._unedited

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """Take a denoising step, and return the predicted images of the edited and of the unedited run.

        Only the first has gradients, to what the edit trains; the next step starts without any.
        """
        model, times = self._guided.model, self._timesteps(step)
        levels, count = model.levels, len(times)
        unconditional, conditional = self._guided.both(torch.cat([self._edited, self._unedited]), times)
        with torch.no_grad():
            time = model.time_embedding(times)
        edits: dict[str, MapEdit] = {self._hookpoint: partial(self._with_time, time)}
        changed = model.predict(self._edited, times, self._guided.texts, edits)
        image = levels.image(self._edited, self._guided.joined(unconditional[:count], changed), times)
        kept = self._guided.joined(unconditional[:count], conditional[:count])
        noise = levels.noise(self._edited, kept, times)
        without = self._guided.joined(unconditional[count:], conditional[count:])
        before, own = (of(self._unedited, without, times) for of in (levels.image, levels.noise))
        self._edited = self._reached(step, image.detach(), noise)
        self._unedited = self._reached(step, before, own)
        return image, before

    def _reached(self, step: int, image: Tensor, noise: Tensor) -> Tensor:
        """Return x_{t−1} of a predicted image and a predicted noise."""
        signal, sigma = self._guided.model.level_after(step)
        return signal * image + sigma * noise

    def _with_time(self, time: Tensor, h: Tensor) -> Tensor:
        return self._edit(h, time)

    def _timesteps(self, step: int) -> Tensor:
        return self._guided.model.timesteps[step].expand(len(self._edited))
