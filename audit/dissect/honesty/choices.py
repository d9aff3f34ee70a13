"""Which features each half of the images chooses, with heads that are fitted on this half alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audit.dissect.build import attribute_latents
from audit.dissect.features.attribution import rank_features
from audit.dissect.group_heads import UNLABELLED, fit_group_heads
from audit.dissect.lens import Lens
from audit.dissect.recording.recording import Recording
from audit.dissect.settings import Dissection

# m images


@dataclass(frozen=True)
class Choice:
    """The features that one half of the images chooses.

    Attributes:
        rows: (m,) images of this half.
        latents: Attribute → group → chosen latents.
    """

    rows: Tensor
    latents: Mapping[str, Mapping[str, frozenset[int]]]


def choices_of(
    lens: Lens, recording: Recording, settings: Dissection, attributes: Sequence[str], halves: Sequence[Tensor]
) -> list[tuple[Choice, Choice]]:
    """Return what the two halves of each halving choose.

    The autoencoder is the lens's own: it reads no labels. Heads and attribution read them, and are made again from the
    images of each half.

    Args:
        lens: The lens.
        recording: What it was made from.
        settings: Settings of the lens.
        attributes: Attributes to attribute.
        halves: First half (m,) of each halving.
    """
    return [_both(lens, recording, settings, attributes, first) for first in halves]


def _both(
    lens: Lens, recording: Recording, settings: Dissection, attributes: Sequence[str], first: Tensor
) -> tuple[Choice, Choice]:
    found = {attribute: _chosen(lens, recording, settings, attribute, first) for attribute in attributes}
    own, other = ({attribute: both[side] for attribute, both in found.items()} for side in (0, 1))
    return Choice(first, own), Choice(~first, other)


def _chosen(
    lens: Lens, recording: Recording, settings: Dissection, attribute: str, first: Tensor
) -> list[dict[str, frozenset[int]]]:
    """Return what both halves choose for one attribute; heads of all attributes together would not fit in memory."""
    names = lens.groups[attribute]
    labels = {
        f"{attribute} {side}": _only(recording.labels[attribute], rows) for side, rows in enumerate((first, ~first))
    }
    # One call for both halves, because the fits share the products of all images.
    heads, _ = fit_group_heads(recording.maps, labels, dict.fromkeys(labels, names))
    heads, seen, chosen = heads.to(lens.device), replace(recording, labels=labels), []
    for half in labels:
        scores = attribute_latents(lens.sae, heads, seen, half, settings).mean()
        ranked = rank_features(scores, settings.features_per_group, shared=settings.shared_features)
        chosen.append({names[row]: frozenset(latents) for row, latents in ranked.items()})
    return chosen


def _only(labels: Tensor, rows: Tensor) -> Tensor:
    """Return labels (m,) of the images of one half; the others are unlabelled."""
    return torch.where(rows, labels, torch.full_like(labels, UNLABELLED))
