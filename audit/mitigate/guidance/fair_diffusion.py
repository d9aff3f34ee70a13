"""Fair Diffusion: guides each image towards the text of its group (Friedrich et al. 2023, eq. 1 to 3).

The guidance is SEGA's (Brack et al. 2023, eq. 5 to 9). Fair Diffusion guides towards one group and away from the other.
With G groups, an image is guided away from each of the others with 1 / (G − 1) of the scale: the same for two groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from audit.config.mitigations.guidance import FairDiffusionConfig
from audit.dissect.lens import Lens
from audit.mitigate.method import Batch, Fit, Intervene
from audit.models.intervention import Intervention, NoiseGuidance, Predictions
from audit.planning.plan import group_text

# G groups, B images, c h w the latents


class FairDiffusion:
    """Guides the predicted noise by the texts of the groups."""

    fit: Fit | None = None

    def ready(self, mitigation: FairDiffusionConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Return a function that makes the guidance of a batch."""

        def intervene(batch: Batch) -> Intervention:
            if mitigation.scale == 0:
                return Intervention(batch.assigned, range(batch.steps))
            texts = tuple(group_text(mitigation, group, batch.template, batch.prompt) for group in batch.groups)
            guide = SemanticGuidance(mitigation, signs_of(batch.groups, batch.assigned))
            return Intervention(batch.assigned, range(batch.steps), guidance=NoiseGuidance(texts, guide))

        return intervene


def signs_of(groups: Sequence[str], assigned: Sequence[str]) -> Tensor:
    """Return the sign and weight ``(G, B)`` of each group's guidance for each image.

    Raises:
        ValueError: There are fewer than two groups.
    """
    if len(groups) < 2:
        raise ValueError(f"expected at least two groups to guide between, found {list(groups)}")
    away = -1 / (len(groups) - 1)
    return torch.tensor([[1.0 if group == own else away for own in assigned] for group in groups])


class SemanticGuidance:
    """ε̂' = ε̂ + γ, γ = Σ_g μ(δ_g) + s_m ν, δ_g = ± s (ε_g − ε_∅), ν ← β ν + (1 − β) γ.

    μ keeps the elements of δ_g whose size is at least the quantile λ of their image and channel. γ is added after the
    warm-up; ν changes from the first step.
    """

    def __init__(self, settings: FairDiffusionConfig, signs: Tensor) -> None:
        self._settings, self._signs = settings, signs
        self._momentum: Tensor | None = None

    def __call__(self, step: int, predictions: Predictions) -> Tensor:
        """Return the changed prediction (B, c, h, w) of a step; step 0 begins a new batch."""
        settings = self._settings
        signs = self._signs.to(predictions.guided)[:, :, None, None, None]
        towards = settings.scale * signs * (predictions.concepts - predictions.unconditional)
        gamma = _largest(towards, settings.threshold).sum(0)
        if step > 0 and self._momentum is not None:
            gamma = gamma + settings.momentum * self._momentum
        before = torch.zeros_like(gamma) if step == 0 or self._momentum is None else self._momentum
        self._momentum = settings.momentum_decay * before + (1 - settings.momentum_decay) * gamma
        return predictions.guided if step < settings.warm_up else predictions.guided + gamma


def _largest(towards: Tensor, threshold: float) -> Tensor:
    """Set elements of ``(G, B, c, h, w)`` to 0 whose size is below the quantile of their image and channel."""
    size = towards.abs()
    least = torch.quantile(size.flatten(3).float(), threshold, dim=3)[..., None, None].to(size.dtype)
    return torch.where(size >= least, towards, torch.zeros_like(towards))
