"""Edits of what a block adds: a concept amplified inside a mask and removed outside, or amplified everywhere.

Legend: B images, C channels, H W the map, Q places (H · W), N latents, m latents of a concept.

With codes z of a place, decoder rows f and the unit direction d of a concept's latents K, the update changes by

    inside:   β ‖z‖ d          outside:   −Σ_{k in K} z_k f_k

in the units of the dictionary, as in arXiv 2504.15473, section 5. The codes are not decoded again, so that what the
dictionary does not explain stays as it is. Strengths β are ours: the published ones belong to other scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audit.dissect.sae import SparseAutoencoder
from audit.models.intervention import Edit

QUADRANTS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class ConceptVector:
    """A concept in one dictionary.

    Attributes:
        latents: (m,) its latents.
        direction: (C,) weighted sum of their decoder rows, of length 1.
    """

    latents: Tensor
    direction: Tensor

    @classmethod
    def of(cls, sae: SparseAutoencoder, weights: Tensor, count: int) -> ConceptVector:
        """Take the latents with the largest positive weights.

        Args:
            sae: The dictionary.
            weights: (N,) how much each latent belongs to the concept.
            count: Most latents.

        Raises:
            ValueError: No latent has a positive weight.
        """
        values, latents = weights.topk(min(count, len(weights)))
        latents, values = latents[values > 0], values[values > 0]
        if not len(latents):
            raise ValueError("expected a latent that belongs to the concept, found none")
        rows = sae.decoder[latents] * values[:, None].to(sae.decoder)
        return cls(latents, functional.normalize(rows.sum(0), dim=0))


def quadrant_mask(quadrant: int, height: int, width: int) -> Tensor:
    """Return the places (H, W) of a quadrant, in the order of ``QUADRANTS``; a middle row belongs to the lower ones."""
    lower, right = divmod(quadrant, 2)
    rows = torch.arange(height) >= height // 2
    columns = torch.arange(width) >= width // 2
    return (rows == bool(lower))[:, None] & (columns == bool(right))[None]


def spatial_edit(sae: SparseAutoencoder, concept: ConceptVector, strength: float, masks: Tensor) -> Edit:
    """Return an edit that amplifies a concept inside a mask and removes it outside.

    An image whose mask is empty is not edited: nothing says where the concept should go. A full mask leaves nothing
    outside, so that the edit is ``global_edit``, bit for bit.

    Args:
        sae: The dictionary.
        concept: The concept.
        strength: β.
        masks: bool (B, H, W).
    """

    def edit(_step: int, update: Tensor) -> Tensor:
        inside = masks.flatten(1).to(update.device)
        asked = inside.any(1)
        if not bool(asked.any()):
            return update
        codes = sae.latents_of_map(update.float())
        removed = codes[..., concept.latents] @ sae.decoder[concept.latents]
        change = torch.where(inside[..., None], _gain(codes, concept, strength), -removed)
        return _changed(sae, update, torch.where(asked[:, None, None], change, torch.zeros_like(change)))

    return edit


def global_edit(sae: SparseAutoencoder, concept: ConceptVector, strength: float) -> Edit:
    """Return an edit that amplifies a concept everywhere.

    Args:
        sae: The dictionary.
        concept: The concept.
        strength: β.
    """

    def edit(_step: int, update: Tensor) -> Tensor:
        return _changed(sae, update, _gain(sae.latents_of_map(update.float()), concept, strength))

    return edit


def _gain(codes: Tensor, concept: ConceptVector, strength: float) -> Tensor:
    """Return β ‖z‖ d, (B, Q, C)."""
    size: Tensor = torch.linalg.vector_norm(codes, dim=2, keepdim=True)
    return strength * size * concept.direction


def _changed(sae: SparseAutoencoder, update: Tensor, change: Tensor) -> Tensor:
    """Add a change (B, Q, C) in the units of the dictionary to an update (B, C, H, W)."""
    return update + (change / sae.input_scale).transpose(1, 2).reshape(update.shape).to(update.dtype)
