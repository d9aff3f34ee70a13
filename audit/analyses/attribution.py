"""Attribution per occupation: how much each bias feature sets an occupation apart from the others.

The baseline images of each shard are observed through the lens. A part holds ``attribution/<attribute>`` of shape
(groups, latents), the sum over images of the mean over steps, and ``images``, their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Observe, Part, PartObserver
from audit.records.attributes import Attribute
from audit.records.result import FeatureFinding
from audit.records.work import Shard

if TYPE_CHECKING:
    from audit.dissect.lens import Lens

LensFeatures = Mapping[str, Mapping[str, Sequence[tuple[int, float, float]]]]
"""Attribute → group → chosen (latent, score, mean firing), best first."""

PromptAttribution = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Attribute → prompt id → mean attribution per baseline image, shape (groups, latents)."""


@dataclass(frozen=True)
class AttributionRequest:
    """What the attribution is computed for.

    Attributes:
        attributes: Audited attributes; the order of their groups is that of the rows of a part.
        features: Bias features of the lens.
        shards: The finished shards.
    """

    attributes: tuple[Attribute, ...]
    features: LensFeatures
    shards: tuple[Shard, ...]


class Attribution:
    """The analysis, see :class:`audit.analyses.analysis.ObservingAnalysis`."""

    name = "attribution"
    section = "features"

    def tasks(self, request: AttributionRequest) -> tuple[Shard, ...]:
        """Return the shards."""
        return request.shards

    def ready(self, lens: Lens | None) -> Observe | None:
        """Prepare the effects of the latents, which all shards of a worker share; None without a lens."""
        if lens is None:
            return None
        from audit.dissect.observer import AttributionObserver, EffectTable

        effects = EffectTable(lens)

        def observe(images: int) -> PartObserver:
            return AttributionObserver(lens, images, effects)

        return observe

    def combine(self, request: AttributionRequest, parts: Iterable[Part | None]) -> tuple[FeatureFinding, ...]:
        """Return the bias features with their attribution to each prompt.

        Raises:
            ValueError: If only some shards of a prompt have a part: their mean would not be that of all images.
        """
        return feature_findings(request.attributes, request.features, prompt_attribution(request.shards, parts))


def feature_findings(
    attributes: Sequence[Attribute], lens_features: LensFeatures, attribution: PromptAttribution
) -> tuple[FeatureFinding, ...]:
    """Return each bias feature with its attribution per prompt, minus the mean over the prompts.

    A value that is equal for all prompts says nothing about one occupation; the difference from the mean shows how much
    the feature sets this occupation apart.

    Args:
        attributes: Audited attributes; the order of their groups is that of the rows of the attribution.
        lens_features: Bias features of the lens.
        attribution: From ``prompt_attribution``; an attribute without attribution leaves ``by_prompt`` empty.
    """
    return tuple(
        FeatureFinding(attribute.name, group, latent, score, mean_firing, _centred(by_prompt, row, latent))
        for attribute in attributes
        for by_prompt in [attribution.get(attribute.name, {})]
        for row, group in enumerate(attribute.groups)
        for latent, score, mean_firing in lens_features.get(attribute.name, {}).get(group, ())
    )


def prompt_attribution(shards: Sequence[Shard], parts: Iterable[Part | None]) -> PromptAttribution:
    """Merge the sums of the shards to means per baseline image of each prompt, in float64.

    Args:
        shards: The shards, those of one prompt in any order.
        parts: The part of each shard, None for a shard without one.

    Raises:
        ValueError: If only some shards of a prompt have a part.
    """
    by_prompt: dict[str, list[tuple[Shard, Part | None]]] = {}
    for shard, part in zip(shards, parts, strict=True):
        by_prompt.setdefault(shard.prompt.id, []).append((shard, part))
    merged: dict[str, dict[str, NDArray[np.float32]]] = {}
    for prompt_id, stored in by_prompt.items():
        for attribute, mean in _means(stored).items():
            merged.setdefault(attribute, {})[prompt_id] = mean
    return merged


def _means(stored: Sequence[tuple[Shard, Part | None]]) -> dict[str, NDArray[np.float32]]:
    """Return per attribute the mean over the images of the shards, shape (groups, latents)."""
    sums: dict[str, NDArray[np.float64]] = {}
    images, without = 0, []
    for shard, part in stored:
        if part is None:
            without.append(shard.id)
            continue
        images += int(part["images"])
        for key, array in part.items():
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
