"""Names of bias features: the text for which a latent fires most, and how well it tells where the latent fires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit.records.inside.exploration import FeatureName

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Feature:
    """A bias feature.

    Attributes:
        attribute: Its attribute.
        group: Its group.
        latent: Index in the autoencoder.
    """

    attribute: str
    group: str
    latent: int


def names_of(
    activity: Floats, words: Sequence[str], features: Sequence[Feature], latents: Sequence[int]
) -> tuple[FeatureName, ...]:
    """Name every feature after the word that separates its firing best, judged on seeds that did not choose the word.

    The area under the curve is the probability that the latent fires more for noise with this word than for noise with
    another one. The even seeds choose the word, the odd ones test it.

    Args:
        activity: (words, seeds, F) activity of the latents, at least two seeds.
        words: The words.
        features: The features.
        latents: The F latents.
    """
    columns = {latent: column for column, latent in enumerate(latents)}
    chosen, tested = _areas(activity[:, ::2]), _areas(activity[:, 1::2])  # (words, F)
    found = []
    for feature in features:
        column = columns[feature.latent]
        best = int(chosen[:, column].argmax())
        area = float(tested[best, column])
        found.append(FeatureName(feature.attribute, feature.group, feature.latent, words[best], area))
    return tuple(found)


def _areas(activity: Floats) -> Floats:
    """Return for each word and latent (W, F) the area under the curve of its seeds against those of all other words."""
    words, seeds, latents = activity.shape
    ranks = stats.rankdata(activity.reshape(words * seeds, latents), axis=0).reshape(words, seeds, latents)
    own, others = seeds, (words - 1) * seeds
    areas: Floats = (ranks.sum(1) - own * (own + 1) / 2) / (own * max(others, 1))
    return areas
