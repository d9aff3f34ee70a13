"""Measures how far each feature of a lens can be trusted, on the recording that the lens was made from.

The choice of the lens's own features is not touched. It is made again on random halves of the images, and a feature is
tested on the halves that did not choose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.dissect.group_heads import UNLABELLED
from audit.dissect.honesty.activity import mean_map, step_activity
from audit.dissect.honesty.auc import HeldOut, held_out_auc
from audit.dissect.honesty.choices import Choice, choices_of
from audit.dissect.honesty.curves import DRAWS, GroupCurves, curve_steps, group_curves
from audit.dissect.honesty.halves import attributes_to_split, clusters_of, random_halves
from audit.dissect.lens import Lens
from audit.dissect.recording.recording import Recording
from audit.dissect.settings import Dissection
from audit.records.estimates import Estimate
from audit.records.inside.honesty import FeatureHonesty, GroupHonesty, LensHonesty, Shared

HALVINGS = 5
"""Random halvings of the images."""

MAPS_STORED = 6
"""Features of a group whose maps are stored; as many as the report shows."""


@torch.no_grad()
def measure_honesty(lens: Lens, recording: Recording, settings: Dissection) -> LensHonesty:
    """Measure AUC, stability, overlap, deletion and insertion curves of all features of a lens.

    Args:
        lens: The lens, on the device that computes.
        recording: What it was made from.
        settings: Settings of the lens.
    """
    labels = {attribute: _usable(recording, attribute, settings) for attribute in lens.groups}
    attributes, left_out = attributes_to_split(labels, lens.groups)
    choices: list[tuple[Choice, Choice]] = []
    if attributes:
        halves = random_halves(labels, lens.groups, attributes, recording.partners, HALVINGS)
        choices = choices_of(lens, recording, settings, attributes, halves)
    groups = [group for attribute in attributes for group in _groups(lens, recording, attribute, choices)]
    return LensHonesty(
        groups=tuple(groups),
        images=recording.layout.recorded,
        latents=lens.sae.shape.n_latents,
        halvings=HALVINGS,
        draws=DRAWS,
        curve_steps=len(curve_steps(recording.steps)),
        left_out=left_out,
    )


def dissection_of_settings(settings: dict[str, Any]) -> Dissection:
    """Return how a lens was made from the settings that are stored in it.

    Raises:
        ValueError: The settings are incomplete.
    """
    known = {one.name: settings[one.name] for one in fields(Dissection) if one.name in settings}
    try:
        return Dissection(**{"recorded": known.get("trajectories"), **known})
    except TypeError as error:
        raise ValueError(f"the settings of the lens are incomplete ({error}); build the lens again") from error


def _usable(recording: Recording, attribute: str, settings: Dissection) -> Tensor:
    """Return the labels (m,) of the images that the attribution reads."""
    labels = recording.labels[attribute]
    if settings.baseline == "counterfactual":
        return torch.where(recording.partners >= 0, labels, torch.full_like(labels, UNLABELLED))
    return labels


def _groups(
    lens: Lens, recording: Recording, attribute: str, choices: Sequence[tuple[Choice, Choice]]
) -> list[GroupHonesty]:
    latents = lens.latents(attribute)
    tests = _Tests.of(recording, attribute, latents, step_activity(lens, recording, latents))
    curves = group_curves(lens, recording, attribute)
    return [
        _group(lens, recording, (attribute, group), choices, tests, curves.get(group))
        for group in lens.groups[attribute]
    ]


@dataclass(frozen=True)
class _Tests:
    """Activations of all features of an attribute, for tests.

    Attributes:
        labels: (m,) groups of the images.
        activity: (S, m, F) mean activation over positions.
        column: Latent → its place in F.
        clusters: (m,) images with the same number are dependent.
    """

    labels: Tensor
    activity: Tensor
    column: dict[int, int]
    clusters: Tensor

    @classmethod
    def of(cls, recording: Recording, attribute: str, latents: Sequence[int], activity: Tensor) -> _Tests:
        column = {latent: place for place, latent in enumerate(latents)}
        return cls(recording.labels[attribute], activity, column, clusters_of(recording.partners))

    def auc(self, group: int, latents: Sequence[int], halves: Sequence[tuple[Tensor, Tensor]]) -> _Aucs:
        """Return the AUCs of some latents for a group.

        Args:
            group: The group.
            latents: F latents.
            halves: Test half (m,), and the latents (F,) that are tested on it.
        """
        labelled = self.labels != UNLABELLED
        values = self.activity[:, :, [self.column[latent] for latent in latents]].double().numpy()
        tests = [HeldOut((rows & labelled).numpy(), tested.numpy()) for rows, tested in halves]
        positive, clusters = (self.labels == group).numpy(), self.clusters.numpy()
        found = held_out_auc(values.mean(0), positive, tests, clusters)
        by_step = [held_out_auc(step, positive, tests, clusters) for step in values]
        return _Aucs(found, tuple(_mean(own) for own in by_step))


@dataclass(frozen=True)
class _Aucs:
    """AUCs of a group's features, and their mean at each step."""

    features: list[Estimate | None]
    per_step: tuple[float, ...]


def _mean(estimates: Sequence[Estimate | None]) -> float:
    return round(float(np.mean([one.value for one in estimates if one is not None])), 4)


def _group(
    lens: Lens,
    recording: Recording,
    named: tuple[str, str],
    choices: Sequence[tuple[Choice, Choice]],
    tests: _Tests,
    curves: GroupCurves | None,
) -> GroupHonesty:
    attribute, group = named
    chosen = [[half.latents[attribute][group] for half in both] for both in choices]
    latents = [feature.latent for feature in lens.features[attribute][group]]
    # A half's choice is tested on the other half of the same halving.
    halves = [
        (both[1 - side].rows, torch.tensor([latent in chosen[number][side] for latent in latents], dtype=torch.bool))
        for number, both in enumerate(choices)
        for side in (0, 1)
    ]
    number = lens.groups[attribute].index(group)
    aucs = tests.auc(number, latents, halves) if any(tested.any() for _, tested in halves) else None
    features = tuple(
        FeatureHonesty(
            latent=feature.latent,
            score=feature.score,
            auc=aucs.features[place] if aucs else None,
            chosen=sum(bool(tested[place]) for _, tested in halves),
            halves=len(halves),
            shared=_shared(lens, attribute, feature.latent),
            map=tuple(map(tuple, mean_map(lens, attribute, group, place, recording.shape)))
            if place < MAPS_STORED
            else (),
        )
        for place, feature in enumerate(lens.features[attribute][group])
    )
    return GroupHonesty(
        attribute=attribute,
        group=group,
        images=int((recording.labels[attribute] == number).sum()),
        features=features,
        kept=tuple(len(first & second) for first, second in chosen),
        auc_per_step=aucs.per_step if aucs else (),
        deletion=curves.deletion if curves else None,
        insertion=curves.insertion if curves else None,
        random_activity=curves.random_activity if curves else None,
    )


def _shared(lens: Lens, attribute: str, latent: int) -> tuple[Shared, ...]:
    return tuple(
        Shared(other, group, feature.score)
        for other, by_group in lens.features.items()
        if other != attribute
        for group, features in by_group.items()
        for feature in features
        if feature.latent == latent
    )
