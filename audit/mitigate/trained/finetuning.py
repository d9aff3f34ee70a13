"""Finetuning: low-rank changes of attention, trained on what the judge sees in sampled images (Shen et al. 2024).

The loss is in :mod:`finetuning_loss`, its gradient in :mod:`adjusted_gradient`, the change in :mod:`low_rank`. With
guidance a change of the text encoder acts on the prompt and leaves the empty prompt as it is; a change of the denoiser
acts on both halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audit.config.mitigations.weights import FinetuningConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Examples, Fit, Intervene, RoundsFit, Trained, TrainedFit
from audit.mitigate.tools import FitTools
from audit.mitigate.trained.adjusted_gradient import Followed, common_factor, factors, follow, joined
from audit.mitigate.trained.finetuning_loss import CODES, METHOD, FinetuningLoss, distance_from, section_of
from audit.mitigate.trained.low_rank import DENOISERS, ENCODERS, BorrowedLowRank, added, networks_of, new_factors
from audit.mitigate.training import Checkpoint, Schedule, optimise, tenths
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Intervention
from audit.perception.judges.perceived import NO_GROUP
from audit.planning.fits import FitRequest
from audit.records.work import Prompt, derive_seed

# N images of a step, n noises of a prompt, E width of an embedding, c h w the latents

SAVE_EVERY = 10
"""Optimiser steps between checkpoints; a step samples a batch of images, which takes seconds to minutes."""


class Finetuning:
    """Adds the trained low-rank change to the weights while an image is made."""

    def __init__(self) -> None:
        self.fit: Fit | RoundsFit | TrainedFit | None = FinetuningFit()

    def ready(self, mitigation: FinetuningConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the change.

        Raises:
            ValueError: There is no fit, or its file cannot be read.
        """
        borrowed = BorrowedLowRank(fitted_tensors(mitigation.name, fitted), mitigation.strength)
        change = None if mitigation.strength == 0 else borrowed

        def intervene(batch: Batch) -> Intervention:
            return with_change(change, len(batch.assigned), batch.steps)

        return intervene


def with_change(borrowed: BorrowedLowRank | None, images: int, steps: int) -> Intervention:
    """Return the intervention that borrows the weights which a change has; None changes nothing."""
    nobody = (None,) * images
    if borrowed is None:
        return Intervention(nobody, range(steps))
    return Intervention(
        nobody,
        range(steps),
        weights=borrowed.denoiser if borrowed.has(*DENOISERS) else None,
        encoders=borrowed.encoders if borrowed.has(*ENCODERS) else None,
    )


class FinetuningFit:
    """Makes the images without the change, and trains the change."""

    def examples(self, tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return what the images of each noise show without the change.

        Returns:
            Code of the group ``(n,)``, and embeddings ``(n, E)`` of CLIP and DINOv2 where the loss uses them.
        """
        section, generator = section_of(request), _generator(tools, request)
        loss, found = FinetuningLoss(tools, request), dict[str, list[Tensor]]()
        for seeds in _batches(prompt, section.noises, request.sampling.batch):
            for name, rows in loss.seen(prompt, generator.generate(prompt, seeds)).items():
                found.setdefault(name, []).append(rows)
        return {name: torch.cat(rows) for name, rows in found.items()}

    def train(self, tools: FitTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
        """Return the factors of every attention layer of the parts.

        Raises:
            ValueError: The judge has no gradients, or the model cannot be trained.
        """
        section = section_of(request)
        training = Training.of(tools, request, examples)
        schedule = Schedule(section.name, section.steps, section.learning_rate, SAVE_EVERY)
        with tools.model.frozen():
            losses = optimise(training.factors, training.step, schedule, checkpoint)
        trained = {name: factor.detach() for name, factor in training.factors.items()}
        report = tenths(losses) | training.moved(BorrowedLowRank(trained))
        return Trained({name: factor.cpu() for name, factor in trained.items()}, report)


@dataclass(frozen=True)
class Training:
    """One training; what a step does depends on its number and on the factors alone.

    Attributes:
        tools: The model and the networks that measure.
        request: The method and what it is fitted with.
        examples: Of each prompt.
        factors: What is trained.
    """

    tools: FitTools
    request: FitRequest
    examples: Examples
    factors: dict[str, Tensor]

    @classmethod
    def of(cls, tools: FitTools, request: FitRequest, examples: Examples) -> Training:
        """Begin with a change of 0.

        Raises:
            ValueError: The model has none of the parts.
        """
        section, pipeline = section_of(request), tools.generator.pipeline
        networks = networks_of(pipeline, section.networks)
        if not networks:
            found = type(pipeline).__name__
            raise ValueError(f"expected a model with {', '.join(section.networks)}, found {found}; name other networks")
        new = new_factors(networks, section.rank, derive_seed(METHOD))
        return cls(tools, request, examples, {name: factor.requires_grad_(True) for name, factor in new.items()})

    @cached_property
    def generator(self) -> DiffusionGenerator:
        """The model with the denoising steps of the training."""
        return _generator(self.tools, self.request)

    @cached_property
    def loss(self) -> FinetuningLoss:
        """The loss of sampled images."""
        return FinetuningLoss(self.tools, self.request)

    def step(self, number: int) -> tuple[float, tuple[Tensor, ...]]:
        """Return the loss of an optimiser step, and its adjusted gradient by every factor."""
        section, levels = section_of(self.request), self.tools.model.levels
        prompt, seen = self.examples[number % len(self.examples)]
        draw = np.random.default_rng(derive_seed(METHOD, "step", number))
        places = draw.permutation(section.noises)[: section.images_per_step]
        seeds = [_seeds(prompt, section.noises)[place] for place in places]
        borrowed = BorrowedLowRank({name: factor.detach().clone() for name, factor in self.factors.items()})
        followed = self._followed(prompt, seeds, borrowed)
        without = {name: rows[torch.from_numpy(places)] for name, rows in seen.items()}
        loss, gradient = self.loss.of_images(prompt, followed.latents, without, derive_seed(METHOD, "targets", number))
        steps = len(followed.timesteps)
        chosen = np.sort(draw.permutation(steps)[: section.gradient_steps or steps])
        scale = common_factor(factors(levels, followed.timesteps)) * steps / len(chosen)
        return loss, self.of_predictions(prompt, followed, scale * gradient, chosen.tolist())

    def _followed(self, prompt: Prompt, seeds: Sequence[int], borrowed: BorrowedLowRank) -> Followed:
        """Sample images with the change, in batches of the size of the audit's."""
        return joined(
            [
                follow(self.generator, prompt.text, part, with_change(borrowed, len(part), self.generator.steps))
                for part in _in_batches(seeds, self.request.sampling.batch)
            ]
        )

    def of_predictions(
        self, prompt: Prompt, followed: Followed, gradient: Tensor, steps: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Return Σ_i (df_i/dθ)ᵀ g by every factor θ, f_i the guided prediction at each of the steps.

        Args:
            prompt: The prompt.
            followed: Its images.
            gradient: g, ``(N, c, h, w)``.
            steps: The steps of the sum.
        """
        section, parameters = section_of(self.request), list(self.factors.values())
        networks = networks_of(self.generator.pipeline, section.networks)
        self.tools.model.is_guided(
            prompt.text
        )  # the model keeps what it reads of a text, which must be without the change
        total = tuple(torch.zeros_like(parameter) for parameter in parameters)
        for step in steps:
            for rows in torch.split(torch.arange(len(gradient)), section.images_at_once):
                with added(networks, self.factors):
                    guided = self._guided(prompt, followed.noisy[step][rows], followed.timesteps[step])
                along = (guided * gradient[rows].to(guided)).sum()
                found = torch.autograd.grad(along, parameters, allow_unused=True, materialize_grads=True)
                total = tuple(one + other for one, other in zip(total, found, strict=True))
        return total

    def _guided(self, prompt: Prompt, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Return the guided prediction as far as it depends on the factors, ``(B, c, h, w)``."""
        section, model, count = section_of(self.request), self.tools.model, len(noisy)
        times, texts, scale = timestep.expand(count), [prompt.text] * count, self.request.sampling.guidance
        read = self.generator.read_by_denoiser(prompt.text) if section.changes_text else {}
        conditional = model.predict(noisy, times, texts, read=read)
        if not model.is_guided(prompt.text):
            return conditional
        if not section.changes_denoiser:
            return scale * conditional  # the other half does not read the prompt
        return scale * conditional - (scale - 1) * model.predict(noisy, times, texts, empty=count)

    def moved(self, borrowed: BorrowedLowRank) -> dict[str, float]:
        """Return how far the shares of all noises' images are from the target, without the change and with it.

        Each is the largest difference of a share from the target, as a mean over the prompts; ``counted_images`` of
        the images with the change were classified.
        """
        before, after, counted = list[float](), list[float](), 0
        target = torch.tensor(self.loss.target)
        for prompt, seen in self.examples:
            codes = list[Tensor]()
            for seeds in _batches(prompt, len(seen[CODES]), self.request.sampling.batch):
                arm = with_change(borrowed, len(seeds), self.generator.steps)
                codes.append(self.loss.codes(prompt, self.generator.generate(prompt, seeds, arm)))
            before.append(distance_from(target, seen[CODES]))
            after.append(distance_from(target, torch.cat(codes)))
            counted += int((torch.cat(codes) != NO_GROUP).sum())
        means = (round(sum(values) / len(values), 4) for values in (before, after))
        return dict(zip(("distance_before", "distance_after"), means, strict=True)) | {"counted_images": counted}


def _generator(tools: FitTools, request: FitRequest) -> DiffusionGenerator:
    """Return the model with the denoising steps of the training."""
    steps = section_of(request).sampler_steps
    return tools.generator if steps is None else tools.generator.with_steps(steps)


def _batches(prompt: Prompt, noises: int, size: int) -> list[list[int]]:
    """Return the seeds of all noises of a prompt in batches."""
    return _in_batches(_seeds(prompt, noises), size)


def _in_batches(seeds: Sequence[int], size: int) -> list[list[int]]:
    return [list(seeds[start : start + size]) for start in range(0, len(seeds), size)]


def _seeds(prompt: Prompt, noises: int) -> list[int]:
    return [derive_seed(METHOD, prompt.id, i) for i in range(noises)]
