"""Latent Direction: one vector per group, trained so that the prompt without the group draws the group's images.

For images that were sampled with the group named, their prompt without the group, and c of the group added to the map
at every step, the network must predict the noise that was added to the images (Li et al. 2024):
min_c E ‖ε − ε_θ(x_t, t, prompt; h + c)‖².
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from audit.config.mitigations.trained import LatentDirectionConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Examples, Fit, Intervene, Trained, TrainedFit
from audit.mitigate.tools import FitTools
from audit.mitigate.training import Checkpoint, Schedule, gradients_of, optimise, tenths
from audit.models.intervention import Intervention
from audit.models.trainable.model import MapEdit, TrainableModel
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming, window_of
from audit.records.work import Prompt, derive_seed

# B images, C H W the map, c h w the latents, T timesteps of training

METHOD = "latent_direction"


class LatentDirection:
    """Adds a group's trained vector to the map."""

    def __init__(self) -> None:
        self.fit: Fit | TrainedFit | None = LatentDirectionFit()

    def ready(self, mitigation: LatentDirectionConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the vectors.

        Raises:
            ValueError: If no fit is given, or its file cannot be read.
        """
        vectors = fitted_tensors(mitigation.name, fitted)
        if mitigation.centred:
            vectors = _centred(vectors, mitigation.hookpoints)

        def intervene(batch: Batch) -> Intervention:
            edits = {
                path: _Shift(_of_rows(vectors, path, batch.assigned), mitigation.strength)
                for path in mitigation.hookpoints
            }
            window = window_of(mitigation.window, batch.steps)
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits=edits)

        return intervene


class LatentDirectionFit:
    """Samples images that name a group, and trains the vectors of all groups on them."""

    def examples(self, tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the latents ``(n, c, h, w)`` of the images of each group."""
        mitigation, batch = _section(request), request.sampling.batch
        seeds = [derive_seed(METHOD, prompt.id, i) for i in range(mitigation.images_per_group)]
        found = {}
        for group in request.groups:
            text = text_naming(mitigation, group, request.template, prompt)
            parts = [seeds[start : start + batch] for start in range(0, len(seeds), batch)]
            found[group] = torch.cat([tools.generator.latents([text] * len(own), own).cpu() for own in parts])
        return found

    def train(self, tools: FitTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
        """Return the vector ``(C, H, W)`` of each group and hookpoint."""
        mitigation, model = _section(request), tools.model
        drawn = DrawnExamples.of(examples, request)
        noisy, text = drawn.latents[request.groups[0]][:1].to(model.device), drawn.texts[0]
        vectors = {
            key_of(path, group): torch.zeros(model.map_shape(path, noisy, text), device=model.device)
            for path in mitigation.hookpoints
            for group in request.groups
        }
        for vector in vectors.values():
            vector.requires_grad_(True)

        def step_of(step: int) -> tuple[float, tuple[Tensor, ...]]:
            loss = reconstruction_loss(model, drawn.batch(step, mitigation.batch), vectors, mitigation.hookpoints)
            return gradients_of(loss, vectors)

        schedule = Schedule(mitigation.name, mitigation.steps, mitigation.learning_rate)
        with model.frozen():
            losses = optimise(vectors, step_of, schedule, checkpoint)
        return Trained({name: vector.detach().cpu() for name, vector in vectors.items()}, tenths(losses))


@dataclass(frozen=True)
class ExampleBatch:
    """Images for one step of the training.

    Attributes:
        latents: ``(B, c, h, w)``.
        groups: The group that each image was sampled with.
        texts: The prompt of each image without its group.
        generator: Draws timesteps and noise.
    """

    latents: Tensor
    groups: tuple[str, ...]
    texts: tuple[str, ...]
    generator: torch.Generator


@dataclass(frozen=True)
class DrawnExamples:
    """All images of a training.

    Attributes:
        latents: Group → ``(N, c, h, w)``, prompt by prompt, equally many of each.
        texts: Prompt without a group of each of the N images.
    """

    latents: dict[str, Tensor]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, examples: Examples, request: FitRequest) -> DrawnExamples:
        """Join the examples of all prompts."""
        latents = {group: torch.cat([own[group] for _, own in examples]).float() for group in request.groups}
        texts = [prompt.text for prompt, own in examples for _ in own[request.groups[0]]]
        return cls(latents, tuple(texts))

    def batch(self, step: int, size: int) -> ExampleBatch:
        """Draw the images of a step; the groups take turns over the rows."""
        generator = torch.Generator().manual_seed(derive_seed(METHOD, "step", step))
        names = list(self.latents)
        groups = tuple(names[(step * size + row) % len(names)] for row in range(size))
        places = torch.randint(len(self.texts), (size,), generator=generator).tolist()
        latents = torch.stack([self.latents[group][place] for group, place in zip(groups, places, strict=True)])
        return ExampleBatch(latents, groups, tuple(self.texts[place] for place in places), generator)


def reconstruction_loss(
    model: TrainableModel, batch: ExampleBatch, vectors: dict[str, Tensor], hookpoints: tuple[str, ...]
) -> Tensor:
    """Return the mean squared error of the prediction with each image's vector added, at random noise levels.

    Timesteps are uniform. A network that predicts v or x₀ is compared with v or x₀.
    """
    size, draw = len(batch.latents), batch.generator
    timesteps = torch.randint(model.trained_timesteps, (size,), generator=draw).to(model.device)
    noise = torch.randn(batch.latents.shape, generator=draw).to(model.device)
    latents = batch.latents.to(model.device)
    noisy = model.levels.noisy(latents, noise, timesteps)
    edits: dict[str, MapEdit] = {path: partial(_added, _of_rows(vectors, path, batch.groups)) for path in hookpoints}
    predicted = model.predict(noisy, timesteps, batch.texts, edits)
    return mse_loss(predicted.float(), model.levels.target(latents, noise, timesteps).float())


def key_of(hookpoint: str, group: str) -> str:
    """Name a group's vector at a hookpoint."""
    return f"{hookpoint}/{group}"


def _centred(vectors: dict[str, Tensor], hookpoints: tuple[str, ...]) -> dict[str, Tensor]:
    """Take the mean over the groups off each vector of a hookpoint."""
    found: dict[str, Tensor] = {}
    for path in hookpoints:
        own = {name: vector for name, vector in vectors.items() if name.rpartition("/")[0] == path}
        mean = torch.stack(list(own.values())).mean(0)
        found |= {name: vector - mean for name, vector in own.items()}
    return found


def _section(request: FitRequest) -> LatentDirectionConfig:
    if not isinstance(request.mitigation, LatentDirectionConfig):
        raise TypeError(f"expected a section of {METHOD}, found {request.mitigation!r}")
    return request.mitigation


def _of_rows(vectors: dict[str, Tensor], hookpoint: str, groups: tuple[str, ...]) -> Tensor:
    """Return the vector of each image, ``(B, C, H, W)``."""
    return torch.stack([vectors[key_of(hookpoint, group)] for group in groups])


def _added(vectors: Tensor, h: Tensor) -> Tensor:
    return h + vectors.to(h.dtype)


@dataclass(frozen=True)
class _Shift:
    """Adds each image's vector (B, C, H, W), times the strength, at every step."""

    vectors: Tensor
    strength: float

    def __call__(self, step: int, h: Tensor) -> Tensor:
        return h if self.strength == 0 else h + (self.strength * self.vectors).to(h.dtype)
