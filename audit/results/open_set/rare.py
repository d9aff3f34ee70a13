"""Rare features of a prompt's images, by rarity times distance from the prompt's centre, for a person to judge.

The idea is that of RAIGen (arXiv:2602.06806): a latent of a sparse autoencoder matters if it fires rarely and far from
the centre of the prompt in an embedding. Here a feature is one end of a component of the embeddings. The paper's score
d · (1 − ν) is kept; embedding, features and the threshold are our choices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.open_set.components import components_of
from audit.records.inside.open_set import Rare
from audit.results.open_set.sample import SHOWN, Sample

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

_COMPONENTS = 16
_FIRES = 2.0
"""Standard deviations within prompts from the prompt's median beyond which a feature fires."""

_LEAST, _MOST = 2, 0.2
"""Least images in which a rare feature fires, and the largest share of them."""

_SHARED = 0.5
"""Share of common images from which two features of a prompt are one."""


def rare_features(sample: Sample, count: int) -> tuple[Rare, ...]:
    """Return the features of each prompt with the highest scores, in the order of the prompts.

    Args:
        sample: The images.
        count: Most features of a prompt.
    """
    first = sample.half(held_out=False)
    if not count or len(first) < 2 * len(sample.names):
        return ()
    components = components_of(sample.vectors[first], sample.prompts[first], sample.indicators[first], (_COMPONENTS,))
    scores = components.scores(sample.vectors, sample.indicators)
    return tuple(
        one
        for prompt in range(len(sample.names))
        for one in _of_prompt(sample, np.hstack([scores, -scores]), prompt)[:count]
    )


def _of_prompt(sample: Sample, scores: Floats, prompt: int) -> list[Rare]:
    own = np.flatnonzero(sample.prompts == prompt)
    held = np.isin(own, sample.half(held_out=True))
    levels = scores[own] - np.median(scores[own[~held]], axis=0)
    distances = _distances(sample.vectors[own], ~held)
    found = []
    for column in range(scores.shape[1]):
        fires = levels[:, column] > _FIRES
        rate = float(fires[~held].mean())
        if fires[~held].sum() < _LEAST or rate > _MOST:
            continue
        distance = float(distances[fires & ~held].mean())
        shown = [row for row in np.argsort(-levels[:, column], kind="stable") if fires[row]][:SHOWN]
        one = Rare(
            prompt=sample.names[prompt],
            score=(1 - rate) * distance,
            rate=rate,
            held_out=float(fires[held].mean()),
            distance=distance,
            pictures=sample.keys(own[shown]),
        )
        found.append((one, fires))
    return _distinct(sorted(found, key=lambda pair: -pair[0].score))


def _distances(vectors: Floats, first: Bools) -> Floats:
    """Return the distance of each image from the centre of the discovery images, relative to their mean distance."""
    distances = np.linalg.norm(vectors - vectors[first].mean(0), axis=1)
    found: Floats = distances / max(float(distances[first].mean()), np.finfo(float).tiny)
    return found


def _distinct(ranked: list[tuple[Rare, Bools]]) -> list[Rare]:
    kept: list[tuple[Rare, Bools]] = []
    for one, fires in ranked:
        if all((fires & other).sum() < _SHARED * min(fires.sum(), other.sum()) for _, other in kept):
            kept.append((one, fires))
    return [one for one, _ in kept]
