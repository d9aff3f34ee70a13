"""The effect of each bias feature on each occupation, from the lens's features and the attribution of every prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.records.attributes import Attribute
from audit.records.result import FeatureFinding
from audit.records.work import Shard
from audit.storage.run_directory import RunDirectory

LensFeatures = Mapping[str, Mapping[str, Sequence[tuple[int, float, float]]]]
"""Attribute → group → selected (latent, score, mean activation), best first."""

PromptAttribution = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Attribute → prompt id → mean attribution per baseline image, shape (groups, latents)."""


def feature_findings(
    attributes: Sequence[Attribute], lens_features: LensFeatures, attribution: PromptAttribution
) -> tuple[FeatureFinding, ...]:
    """Return each selected feature with its attribution per prompt, centred over the prompts.

    An effect that is the same for every prompt does not describe one occupation. The value minus the mean over the
    prompts shows how much the feature distinguishes this occupation.

    Args:
        attributes: The audit's attributes; the order of their groups is that of the attribution's rows.
        lens_features: The features that the lens selected.
        attribution: From ``prompt_attribution``; for an attribute without attribution, ``by_prompt`` is empty.
    """
    return tuple(
        FeatureFinding(attribute.name, group, latent, score, mean_firing, _centred(by_prompt, row, latent))
        for attribute in attributes
        for by_prompt in [attribution.get(attribute.name, {})]
        for row, group in enumerate(attribute.groups)
        for latent, score, mean_firing in lens_features.get(attribute.name, {}).get(group, ())
    )


def prompt_attribution(run: RunDirectory, shards: Sequence[Shard]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Merge the sums stored by the shards into means per baseline image of each prompt, adding in float64.

    Raises:
        ValueError: If only some shards of a prompt have attribution, because the mean would not cover all its images.
    """
    merged: dict[str, dict[str, NDArray[np.float32]]] = {}
    by_prompt: dict[str, list[Shard]] = {}
    for shard in shards:
        by_prompt.setdefault(shard.prompt.id, []).append(shard)
    for prompt_id, parts in by_prompt.items():
        for attribute, mean in _means(run, parts).items():
            merged.setdefault(attribute, {})[prompt_id] = mean
    return merged


def _means(run: RunDirectory, shards: Sequence[Shard]) -> dict[str, NDArray[np.float32]]:
    """Return per attribute the mean over the shards' images, shape (groups, latents)."""
    sums: dict[str, NDArray[np.float64]] = {}
    images, without = 0, []
    for shard, stored in zip(shards, run.read_attributions(shard.id for shard in shards), strict=True):
        if stored is None:
            without.append(shard.id)
            continue
        images += int(stored["images"])
        for key, array in stored.items():
            if key.startswith("attribution/"):
                name = key.removeprefix("attribution/")
                sums[name] = sums.get(name, np.float64(0)) + array.astype(np.float64)
    if sums and without:
        raise ValueError(
            f"shard {without[0]} has no attribution, but other shards of its prompt have; delete its file and run the "
            "audit again"
        )
    return {name: (total / images).astype(np.float32) for name, total in sums.items()} if images else {}


def _centred(by_prompt: Mapping[str, NDArray[np.float32]], group: int, latent: int) -> dict[str, float]:
    values = {prompt_id: float(array[group, latent]) for prompt_id, array in by_prompt.items()}
    centre = sum(values.values()) / len(values) if values else 0.0
    return {prompt_id: value - centre for prompt_id, value in values.items()}
