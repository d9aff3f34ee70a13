"""Generators: make the images of a prompt, with one seed per image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from audit.calibration.bundle import world_table
from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels, face_noise
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.device import device_here
from audit.models.families.interface import LoadedModel
from audit.models.files.text_reader import TextReader
from audit.models.hooks import edit_output, edit_text, find_hookpoint
from audit.models.intervention import Edit, Intervention, Observer
from audit.models.loading import load_model
from audit.models.schedule import reverse_schedule
from audit.models.source import model_fingerprint
from audit.records.work import Prompt

# B images, L text tokens, D text width


Observers = Mapping[str, Observer]
"""Hookpoint → what looks at its map, before any edit of it."""

NO_OBSERVERS: Observers = {}


class Generator(Protocol):
    """Makes images; the same prompt, seed and batch composition always give the same image."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights (or of the table) behind the images."""
        ...

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Settings of the sampler, for the record; empty if nothing is sampled."""
        ...

    @property
    def reader(self) -> TextReader | None:
        """Tokenizer of the prompts and its limit; None if there is no limit or no prompt."""
        ...

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
    ) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)``, one for each seed."""
        ...


class RenderedGenerator:
    """The renderer itself: exactly the planted distribution, with no network between."""

    def __init__(self, world: World, fingerprint: str) -> None:
        self._world = world
        self.fingerprint = fingerprint
        self.sampling: Mapping[str, Any] = {}
        self.reader: TextReader | None = None  # the renderer uses only the occupation

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
    ) -> Tensor:
        """Draw the pictures that the planted table gives for these seeds.

        Raises:
            ValueError: An intervention was asked for; drawings have no network to edit.
        """
        if intervention is not None:
            raise ValueError("model 'rendered' has no network to edit; found a mitigation arm; remove the mitigations")
        noise = face_noise(seeds)
        return render(draw_labels(self._world, prompt.occupation, noise), noise).images


class DiffusionGenerator:
    """Samples a loaded model by deterministic DDIM, with one CPU generator per image."""

    def __init__(self, model: LoadedModel, sampling: SamplingConfig, hookpoint: str, fingerprint: str) -> None:
        self._model = model
        self._guidance = sampling.guidance
        self._schedule = reverse_schedule(model.scheduler, sampling.steps)
        self._module = cache(partial(find_hookpoint, model.denoiser))
        self._module(hookpoint)
        self._hookpoint = hookpoint
        self.reader: TextReader | None = model.reader
        self.fingerprint = fingerprint
        self.sampling: Mapping[str, Any] = {
            "sampler": "DDIM, deterministic (η = 0)",
            "steps": sampling.steps,
            **({} if model.reader is None else {"guidance": sampling.guidance}),
            "timestep_spacing": model.scheduler.config.timestep_spacing,
            "prediction_type": model.scheduler.config.prediction_type,
            **model.published,
        }

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return len(self._schedule.timesteps)

    @property
    def denoiser(self) -> nn.Module:
        """The network whose modules are the hookpoints."""
        return self._model.denoiser

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
    ) -> Tensor:
        """Sample one image of ``prompt`` for each seed."""
        return self.sample([prompt.text] * len(seeds), seeds, intervention, observers)

    @torch.inference_mode()
    def sample(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
    ) -> Tensor:
        """Sample one image for each pair of text and seed."""
        changed = self._changed(texts, intervention)
        return self._model.decode(self._denoise(self._condition(texts), self._noise(seeds), changed, observers))

    @torch.inference_mode()
    def first_maps(self, text: str, seeds: Sequence[int]) -> Tensor:
        """Return the hookpoint's maps ``(B, C, H, W)`` of the conditional half in the first step: one U-Net call."""
        seen: list[Tensor] = []
        observers: Observers = {self._hookpoint: lambda _step, h: seen.append(h)}
        self._predict(self._condition([text] * len(seeds)), self._noise(seeds), 0, None, observers)
        return seen[0]

    @torch.inference_mode()
    def regenerate(self, text: str, images: Tensor, strength: float, seeds: Sequence[int]) -> Tensor:
        """Noise uint8 ``images`` back by ``strength`` of the schedule and denoise again (SDEdit, Meng et al. 2022)."""
        schedule, first = self._schedule, round(self.steps * (1 - strength))
        x = schedule.signal[first] * self._model.encode(images) + schedule.sigma[first] * self._noise(seeds)
        return self._model.decode(self._denoise(self._condition([text] * len(seeds)), x, None, NO_OBSERVERS, first))

    def _condition(self, texts: Sequence[str]) -> Tensor | None:
        return self._model.condition(texts, self._guidance)

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        shape, weights = self._model.noise_shape, next(self.denoiser.parameters())
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return noise.to(weights.device, weights.dtype)

    def _changed(self, texts: Sequence[str], intervention: Intervention | None) -> _Changed | None:
        """Embed the texts of an intervention."""
        if intervention is None:
            return None
        blocks = {path: self._conditional(rows) for path, rows in intervention.block_texts.items()}
        return _Changed(intervention, self._condition(intervention.texts or texts), blocks)

    def _conditional(self, texts: Sequence[str]) -> Tensor:
        """Embed texts without the unconditional half."""
        rows = self._condition(texts)
        if rows is None:
            raise ValueError("expected a model that reads text, found one that reads none; remove the texts by block")
        return rows[-len(texts) :]

    def _denoise(
        self, text: Tensor | None, x: Tensor, changed: _Changed | None, observers: Observers, first: int = 0
    ) -> Tensor:
        schedule = self._schedule
        for step in range(first, self.steps):
            acting = changed if changed is not None and step in changed.intervention.window else None
            if acting is not None and acting.intervention.reverse_step == "asymmetric":
                kept = self._predict(text, x, step, None, observers)
                prediction = self._predict(text, x, step, acting, NO_OBSERVERS)
                noise = schedule.noise(x, kept, step)
            else:
                prediction = self._predict(text, x, step, acting, observers)
                noise = schedule.noise(x, prediction, step)
            x = schedule.advance(schedule.image(x, prediction, step), noise, step)
        return x

    def _predict(
        self, text: Tensor | None, x: Tensor, step: int, changed: _Changed | None, observers: Observers
    ) -> Tensor:
        """Guided prediction; only the conditional half is observed and edited."""
        read = text if changed is None else changed.text
        with self._borrowed(step, len(x), changed, observers):
            prediction = self._model.predict(x, self._schedule.timesteps[step], read, self._guidance)
        noise = None if changed is None else changed.intervention.noise
        return prediction if noise is None else noise(step, prediction)

    @contextmanager
    def _borrowed(self, step: int, batch: int, changed: _Changed | None, observers: Observers) -> Iterator[None]:
        """Hold every hook and every borrowed weight of one call of the network."""
        edits: Mapping[str, Edit] = {} if changed is None else changed.intervention.edits
        with ExitStack() as held:
            for path in dict.fromkeys((*observers, *edits)):
                look = _look_and_edit(step, batch, observers.get(path), edits.get(path))
                held.enter_context(edit_output(self._module(path), look))
            if changed is not None:
                for path, rows in changed.blocks.items():
                    held.enter_context(edit_text(self._module(path), partial(_with_conditional, rows)))
                if changed.intervention.weights is not None:
                    held.enter_context(changed.intervention.weights(self.denoiser))
            yield


@dataclass(frozen=True)
class _Changed:
    """An intervention and its texts, embedded.

    Attributes:
        intervention: What else it does.
        text: What the network reads: ``(2B, L, D)``, ``(B, L, D)`` without guidance, None if it reads no text.
        blocks: Block → what this block reads in the conditional half, ``(B, L, D)``.
    """

    intervention: Intervention
    text: Tensor | None
    blocks: Mapping[str, Tensor]


def _look_and_edit(step: int, batch: int, observer: Observer | None, edit: Edit | None) -> Callable[[Tensor], Tensor]:
    """Return what looks at the conditional half of a map and then edits it."""

    def look_and_edit(h: Tensor) -> Tensor:
        conditional = h[-batch:]
        if observer is not None:
            observer(step, conditional)
        return h if edit is None else torch.cat([h[:-batch], edit(step, conditional)])

    return look_and_edit


def _with_conditional(rows: Tensor, text: Tensor) -> Tensor:
    """Replace the conditional half of text embeddings."""
    return torch.cat([text[: -len(rows)], rows])


def load_generator(model: ModelConfig, sampling: SamplingConfig, hookpoint: str = "mid_block") -> Generator:
    """Load the generator that a config names, on a GPU if there is one."""
    if model.source == "rendered":
        return RenderedGenerator(World.load(world_table(model)), model_fingerprint(model))
    return DiffusionGenerator(load_model(model, device_here()), sampling, hookpoint, model_fingerprint(model))
