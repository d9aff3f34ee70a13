"""Observes a model with its lens: attribution in the baseline arm of a shard, and a prompt's first denoising step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.dissect.features.attribution import StreamingAttribution, integrated_gradients, latent_effects
from audit.dissect.lens import Lens
from audit.dissect.sae import SparseCodes
from audit.models.generator import DiffusionGenerator
from audit.records.work import Prompt, derive_seed

NOISES = 16
"""Number of noise samples in the batch; they are the same for every prompt, so that only the words differ."""

# B images, C H W the feature map, P positions, N latents, G groups


class EffectTable:
    """Effects of a lens's latents on its heads' logits, computed once per attribute and step."""

    def __init__(self, lens: Lens) -> None:
        self._lens = lens
        self._effects: dict[tuple[str, int], Tensor] = {}

    def at(self, attribute: str, step: int, positions: int) -> Tensor:
        """Return the effects ``(P, N, G)`` at one step."""
        key = (attribute, step)
        if key not in self._effects:
            weight = self._lens.heads.weights[attribute][step]
            self._effects[key] = latent_effects(self._lens.sae, weight, positions)
        return self._effects[key]


class AttributionObserver:
    """Sums the closed-form attribution of every attribute over images and steps, from the zero baseline.

    ``images`` limits the sums to the first rows of a batch; the other rows are padding.
    """

    def __init__(self, lens: Lens, images: int, effects: EffectTable) -> None:
        self._lens, self._images, self._effects = lens, images, effects
        self.hookpoint = lens.hookpoint
        self._sums: dict[str, StreamingAttribution] = {}

    def __call__(self, step: int, h: Tensor) -> None:
        """Add the attribution of maps ``(B, C, H, W)`` from the conditional half of a batch."""
        h = h[: self._images].float()
        codes = self._lens.sae.codes_of_map(h)
        for attribute in self._lens.groups:
            self._add(attribute, step, h, codes)

    def _add(self, attribute: str, step: int, h: Tensor, codes: SparseCodes) -> None:
        effects = self._effects.at(attribute, step, h.shape[-2] * h.shape[-1])
        logits = self._lens.heads.logits(attribute, step, h)
        part = StreamingAttribution.of(integrated_gradients(codes, effects, logits))
        self._sums[attribute] = self._sums[attribute] + part if attribute in self._sums else part

    def part(self) -> dict[str, NDArray[np.float32]]:
        """Return by attribute the sum over images ``(G, N)`` of the mean over steps, and the number of images."""
        steps = self._lens.steps
        arrays = {f"attribution/{a}": (s.sums / steps).float().numpy() for a, s in self._sums.items()}
        return {**arrays, "images": np.array(self._images, dtype=np.float32)}


@torch.inference_mode()
def project(generator: DiffusionGenerator, lens: Lens, prompt: Prompt, attribute: str) -> dict[str, float]:
    """Return each group's margin at step 0, mean over the noise samples: its logit minus the others' mean logit."""
    seeds = [derive_seed("projection", i) for i in range(NOISES)]
    maps = generator.first_maps(prompt.text, seeds).float()
    logits = lens.heads.logits(attribute, 0, maps.to(lens.device)).mean(0).double()
    others = (logits.sum() - logits) / (len(logits) - 1)
    return dict(zip(lens.groups[attribute], (logits - others).tolist(), strict=True))
