"""The loss of Finetuning: alignment of the judged groups with the target, and likeness to the images before.

For images x of one prompt and o, made from the same noise without the change (Shen et al. 2024, eqs. 6, 7 and 9),

    L = 1/N Σ_i [c_i ≥ 1 − uncertainty] CE(h(x_i), y_i) + 1/N Σ_i w_i (λ (1 − cos CLIP) + λ' (1 − cos DINO)),

with h the judge, y and c of :mod:`alignment`, and cosines of the embeddings of x_i and o_i. As in the authors' program,
w_i is below 1 where o_i does not show y_i: an image that must change its group may change more than one that need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, nll_loss, one_hot

from audit.config.mitigations.weights import FinetuningConfig
from audit.mitigate.tools import FitTools
from audit.mitigate.trained.alignment import targets_of
from audit.perception.judges.interface import GradientJudge
from audit.perception.judges.perceived import NO_GROUP, Perceived
from audit.planning.fits import FitRequest
from audit.records.work import Prompt, Status

# N images, K groups, E width of an embedding, c h w the latents, H W pixels

METHOD = "finetuning"
CODES, PROBABLE, CLIP, DINO = "codes", "probable", "clip", "dino"

PUBLISHED_WEIGHT = 8.0
"""Weight of the DINOv2 term if the config sets none."""


@dataclass(frozen=True)
class FinetuningLoss:
    """The loss of sampled images.

    Attributes:
        tools: The model and the networks that measure.
        request: The method and what it is fitted with.
    """

    tools: FitTools
    request: FitRequest

    @cached_property
    def judge(self) -> GradientJudge:
        """The audit's judge.

        Raises:
            ValueError: It has no gradients.
        """
        judge = self.tools.judge()
        if not isinstance(judge, GradientJudge):
            raise ValueError(
                f"expected a judge with gradients for {METHOD}, found {judge.signature}; name another judge, or use "
                "another method"
            )
        return judge

    @cached_property
    def target(self) -> tuple[float, ...]:
        """Share of each group."""
        return tuple(section_of(self.request).steered_shares(self.request.groups).values())

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weight of each network's term, without those of 0."""
        section = section_of(self.request)
        dino = section.dino_weight
        if dino is None:
            dino = PUBLISHED_WEIGHT if self.tools.dino() is not None else 0.0
        return {name: weight for name, weight in ((CLIP, section.clip_weight), (DINO, dino)) if weight > 0}

    def seen(self, prompt: Prompt, images: Tensor) -> dict[str, Tensor]:
        """Return what uint8 images ``(N, 3, H, W)`` show.

        Returns:
            Group codes ``(N,)``, those of :func:`probable_codes`, and embeddings ``(N, E)`` by network.
        """
        with torch.no_grad():
            embedded = {name: self._embedded(name, images.float() / 255).cpu() for name in self.weights}
        perceived = self.judge.perceive(images, prompt.occupation)
        attribute = section_of(self.request).attribute
        codes = {CODES: perceived.codes(attribute), PROBABLE: probable_codes(perceived, attribute)}
        return {name: torch.from_numpy(values) for name, values in codes.items()} | embedded

    def codes(self, prompt: Prompt, images: Tensor) -> Tensor:
        """Return the group that the judge sees in each image, ``(N,)``; ``NO_GROUP`` where it sees none."""
        perceived = self.judge.perceive(images, prompt.occupation)
        return torch.from_numpy(perceived.codes(section_of(self.request).attribute))

    def of_images(
        self, prompt: Prompt, latents: Tensor, without: Mapping[str, Tensor], seed: int
    ) -> tuple[float, Tensor]:
        """Return the loss of a batch and its gradient by the latents, ``(N, c, h, w)``.

        Args:
            prompt: The prompt.
            latents: z₀, ``(N, c, h, w)``.
            without: What the images of the same noise show without the change, see :meth:`seen`.
            seed: Of the draws of the target.
        """
        section, model = section_of(self.request), self.tools.model
        targets, kept = self._targets(prompt, latents, seed)
        weights = torch.where(kept & (targets != without[PROBABLE]), section.flip_factor, 1.0)
        total, gradients = 0.0, list[Tensor]()
        for rows in torch.split(torch.arange(len(targets)), section.images_at_once):
            own = latents[rows].detach().requires_grad_(True)
            pictures = model.pictures(own)
            logs = self.judge.with_gradients(pictures, section.attribute)
            aligned = alignment_loss(logs, targets[rows].to(logs.device), kept[rows].to(logs.device))
            unlike = self._unlike(pictures, {name: without[name][rows] for name in self.weights})
            loss = (aligned + weights[rows].to(aligned.device) * unlike.to(aligned.device)).sum() / len(targets)
            gradients.append(torch.autograd.grad(loss, own)[0])
            total += float(loss.detach())
        return total, torch.cat(gradients)

    def _targets(self, prompt: Prompt, latents: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the class of each image, and whether it takes part in the alignment; both ``(N,)``.

        An image without a face, or outside the audited groups, takes no part in the transport.
        """
        section = section_of(self.request)
        batches = [self._perceived(prompt, rows) for rows in torch.split(latents, self.request.sampling.batch)]
        shown = np.concatenate([probable_codes(one, section.attribute) != NO_GROUP for one in batches])
        probabilities = np.concatenate([one.among_groups(section.attribute) for one in batches])[shown]
        found = targets_of(probabilities.astype(np.float64), np.array(self.target), seed)
        classes, kept = np.zeros(len(shown), dtype=np.int64), np.zeros(len(shown), dtype=np.bool_)
        classes[shown], kept[shown] = found.classes, found.kept(section.uncertainty)
        return torch.from_numpy(classes), torch.from_numpy(kept)

    def _perceived(self, prompt: Prompt, latents: Tensor) -> Perceived:
        return self.judge.perceive(self.tools.generator.decode(latents), prompt.occupation)

    def _unlike(self, pictures: Tensor, without: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of 1 − cosine over the networks, ``(N,)``."""
        found = torch.zeros(len(pictures), device=pictures.device)
        for name, weight in self.weights.items():
            embedded = self._embedded(name, pictures)
            found = found + weight * (1 - cosine_similarity(embedded, without[name].to(embedded))).to(found.device)
        return found

    def _embedded(self, name: str, pictures: Tensor) -> Tensor:
        """Embed pictures in [0, 1] as ``(N, E)``.

        Raises:
            ValueError: The loss needs a network that the config does not name.
        """
        network = self.tools.clip() if name == CLIP else self.tools.dino()
        if network is None:
            raise ValueError("expected DINOv2 for the loss of this method, found none; set quality.dino")
        return network.with_gradients(pictures)


def alignment_loss(logs: Tensor, targets: Tensor, kept: Tensor) -> Tensor:
    """Return the cross entropy of each image with its target class, 0 where it is left out, ``(N,)`` (eq. 6).

    Args:
        logs: Log-probabilities, ``(N, K)``.
        targets: ``(N,)``.
        kept: ``(N,)``.
    """
    return torch.where(kept, nll_loss(logs, targets, reduction="none"), 0.0)


def probable_codes(perceived: Perceived, attribute: str) -> NDArray[np.int64]:
    """Return the most probable group of each image, however uncertain, ``(N,)``.

    An image without a face, or outside the audited groups, has ``NO_GROUP``.
    """
    shown = np.array([status is not Status.NO_FACE for status in perceived.statuses], dtype=np.bool_)
    shown &= ~perceived.lies_outside(attribute)
    return np.where(shown, perceived.probabilities[attribute].argmax(axis=1), NO_GROUP)


def distance_from(target: Tensor, codes: Tensor) -> float:
    """Return the largest |target − share| over the groups; 1 without a classified image.

    Args:
        target: ``(K,)``.
        codes: ``(N,)``, ``NO_GROUP`` for an image that shows no group.
    """
    known = codes[codes != NO_GROUP]
    if len(known) == 0:
        return 1.0
    return float((one_hot(known, len(target)).double().mean(0) - target).abs().max())


def section_of(request: FitRequest) -> FinetuningConfig:
    """Return the section of a request.

    Raises:
        TypeError: It belongs to another method.
    """
    if not isinstance(request.mitigation, FinetuningConfig):
        raise TypeError(f"expected a section of {METHOD}, found {request.mitigation!r}")
    return request.mitigation
