"""Reads from a prompt's first denoising step whom it is about to draw: one U-Net call, no image."""

from __future__ import annotations

import torch

from audit.dissect.lens import Lens
from audit.models.generator import DiffusionGenerator
from audit.records import Prompt, derive_seed

NOISES = 16
"""Noises of the one batch, the same for every prompt: prompts then differ in nothing but their words."""


@torch.inference_mode()
def project(generator: DiffusionGenerator, lens: Lens, prompt: Prompt, attribute: str) -> dict[str, float]:
    """Return each group's margin at step 0: its head's logit minus the mean of the other groups', over the noises."""
    seeds = [derive_seed("projection", i) for i in range(NOISES)]
    maps = generator.first_maps(prompt.text, seeds).float()
    logits = lens.heads.logits(attribute, 0, maps.to(lens.device)).mean(0).double()
    others = (logits.sum() - logits) / (len(logits) - 1)
    return dict(zip(lens.groups[attribute], (logits - others).tolist(), strict=True))
