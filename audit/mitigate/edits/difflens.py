"""DiffLens: steers a batch by the bias features of the model (Shi et al. 2025, section 4.3).

The edit writes back only the change of the latents, h' = h + W_dec (z' − z) (Eq. 9), so what the autoencoder cannot
reconstruct stays, and a neutral edit leaves the map bit-identical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from audit.config.mitigations.edits import DiffLensConfig
from audit.dissect.lens import Lens
from audit.dissect.sae import SparseAutoencoder
from audit.dissect.settings import rows_per_block
from audit.dissect.strengths import GroupStrength
from audit.mitigate.method import Batch, Fit, Intervene
from audit.models.intervention import Intervention
from audit.planning.plan import window_of
from audit.records.work import Prompt

# B images, P positions, N latents, G groups, S steps, C H W the map

EditKind = Literal["add", "scale", "contrast"]
Others = Literal["lowered", "unchanged"]


@dataclass(frozen=True)
class Steering:
    """The group that each image of a batch is steered to, and the strength.

    Attributes:
        groups: Assigned group of each image.
        strengths: Strength of each image's edit; 0 is neutral.
    """

    groups: tuple[str, ...]
    strengths: tuple[float, ...]


class DiffLens:
    """Steers by the bias features of the lens, with one strength for each prompt unless the config sets one for all."""

    fit: Fit | None = None

    def ready(self, mitigation: DiffLensConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Return a function that makes the edits of a batch.

        Raises:
            ValueError: There is no lens.
        """
        if lens is None:
            raise ValueError(
                f"mitigation {mitigation.name!r} edits the model through its lens, found none; dissect the model first"
            )

        def intervene(batch: Batch) -> Intervention:
            strengths = batch.strengths
            if strengths is None and mitigation.strength is not None:
                strengths = tuple(mitigation.strength for _ in batch.assigned)
            elif strengths is None:
                found = strengths_of(lens, mitigation.attribute, batch.prompt)
                strengths = tuple(found[group].strength for group in batch.assigned)
            return steered(mitigation, lens, Steering(batch.assigned, strengths))

        return intervene


def steered(mitigation: DiffLensConfig, lens: Lens, steering: Steering) -> Intervention:
    """Return the intervention for given groups and strengths."""
    edit = DiffLensEdit(lens, mitigation.attribute, mitigation.edit, steering, mitigation.others)
    window = window_of(mitigation.window, lens.steps)
    return Intervention(steering.groups, window, mitigation.reverse_step, edits={lens.hookpoint: edit})


def strengths_of(lens: Lens, attribute: str, prompt: Prompt) -> Mapping[str, GroupStrength]:
    """Return the strength of the edit towards each group, for one prompt.

    Raises:
        ValueError: The lens holds none for the prompt; those of other prompts say nothing about it.
    """
    found = lens.strengths.get(attribute, {}).get(prompt.id)
    if found is None:
        raise ValueError(
            f"expected strengths of the {attribute} edit for {prompt.id!r}, found none in {lens.name}; "
            "set the mitigation's strength, or dissect again"
        )
    return found


class DiffLensEdit:
    """z' = factor ⊙ z + addend: the assigned group's features up, the other groups' features down (Eq. 7).

    *contrast* adds s times what distinguishes the assigned group from the others in the features of all groups
    (:mod:`audit.dissect.features.contrast`): features that fire more for it go up, features that fire less go down.

    With strength s, *add* puts s times the mean firing of the assigned group's features (by step and position, over
    images perceived as that group) on top; *scale* multiplies them by 1 + s, which does nothing where a feature did not
    fire. Either way the other groups' features are multiplied by max(0, 1 − s), so that s = 0 changes nothing; with
    ``others="unchanged"`` they stay as they are, as in the paper.
    """

    def __init__(
        self, lens: Lens, attribute: str, kind: EditKind, steering: Steering, others: Others = "lowered"
    ) -> None:
        groups = lens.groups[attribute]
        self._sae = lens.sae
        self._assigned = torch.tensor([groups.index(group) for group in steering.groups], device=lens.device)
        self._strengths = torch.tensor(steering.strengths, device=lens.device)
        self._excess: Tensor | None = None
        if kind != "contrast":
            self._excess = _factors(lens, attribute, kind, others)(self._assigned, self._strengths) - 1
        self._pushes = None if kind == "scale" else _pushes(lens, attribute, kind)

    def __call__(self, step: int, h: Tensor) -> Tensor:
        """Edit maps ``(B, C, H, W)`` of the conditional half at one step; they are on the lens's device."""
        if self._excess is None:
            delta = torch.zeros(h.shape, device=h.device)
        else:
            delta = torch.cat([self._rescaled(h[rows], self._excess[rows]) for rows in self._blocks(h)])
        if self._pushes is not None:
            push = self._pushes[self._assigned, step].reshape(h.shape)
            delta = delta + self._strengths.view(-1, 1, 1, 1) * push
        return h + delta.to(h.dtype)

    def _rescaled(self, h: Tensor, excess: Tensor) -> Tensor:
        return self._sae.map_delta(excess[:, None, :] * self._sae.latents_of_map(h.float()), h.shape)

    def _blocks(self, h: Tensor) -> list[slice]:
        """Split a batch so that its dense latents fit in a block of memory: 0.4 GB for one image of FLUX.1."""
        positions = math.prod(h.shape[1:]) // self._sae.shape.d_in
        count = rows_per_block(4 * positions * self._sae.shape.n_latents)
        return [slice(first, first + count) for first in range(0, len(h), count)]


@dataclass(frozen=True)
class _Factors:
    """Factors (B, N) of all latents, given each image's group (B,) and strength (B,)."""

    owned: Tensor
    """(G, N) bool: which features belong to which group."""
    kind: EditKind
    others: Others

    def __call__(self, assigned: Tensor, strengths: Tensor) -> Tensor:
        own = self.owned[assigned]
        rest = self.owned.any(0) & ~own
        s = strengths[:, None]
        raised = 1 + s if self.kind == "scale" else torch.ones_like(s)
        lowered = (1 - s).clamp(min=0) if self.others == "lowered" else torch.ones_like(s)
        return torch.where(own, raised, torch.where(rest, lowered, torch.ones_like(s)))


def _factors(lens: Lens, attribute: str, kind: EditKind, others: Others) -> _Factors:
    groups = lens.groups[attribute]
    owned = torch.zeros(len(groups), lens.sae.shape.n_latents, dtype=torch.bool, device=lens.device)
    for row, group in enumerate(groups):
        owned[row, [feature.latent for feature in lens.features[attribute].get(group, ())]] = True
    return _Factors(owned, kind, others)


def _pushes(lens: Lens, attribute: str, kind: EditKind) -> Tensor:
    """Change of the map (G, S, C·H·W) towards each group at strength 1.

    *add*: the group's features fire as they do for that group. *contrast*: the features of all groups change by what
    distinguishes the group. Both are linear in the latents, so they are one constant per group and step, whatever the
    image.
    """
    if kind == "contrast":
        latents = lens.latents(attribute)
        return torch.stack(
            [_map_of(lens.sae, contrast_of(lens, attribute)[group], latents) for group in lens.groups[attribute]]
        )
    rows = []
    for group in lens.groups[attribute]:
        own = [feature.latent for feature in lens.features[attribute].get(group, ())]
        rows.append(_map_of(lens.sae, lens.firing[attribute][group], own))
    return torch.stack(rows)


def contrast_of(lens: Lens, attribute: str) -> Mapping[str, Tensor]:
    """Return the contrast of each group.

    Raises:
        ValueError: The lens is of a release that stored none.
    """
    if attribute not in lens.contrast:
        raise ValueError(
            f"{lens.name}: expected the contrast of {attribute}, found none; the lens is of an older release. Dissect "
            "again, or set edit: add"
        )
    return lens.contrast[attribute]


def _map_of(sae: SparseAutoencoder, firing: Tensor, latents: Sequence[int]) -> Tensor:
    """Map change (S, C·H·W) of firing (S, P, F) of the listed latents."""
    steps, positions, _ = firing.shape
    vectors = firing.float() @ sae.decoder[list(latents)] / sae.input_scale  # (S, P, d_in)
    return vectors.transpose(1, 2).reshape(steps, -1) if positions > 1 else vectors.reshape(steps, -1)
