"""Similarities of directions: prompts with descriptors, and prompts with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from scipy.special import comb

from audit.analyses.directions import Directions
from audit.records.inside.exploration import Clusters, Similarities

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

MOST_CLUSTERED = 200
"""Prompts that a tree can show."""

_LEAST, _MOST = 2, 8
"""Numbers of clusters that are tried."""


def similarities_of(
    directions: Directions, prompts: Sequence[tuple[str, str]], descriptors: Sequence[tuple[str, str]]
) -> Similarities | None:
    """Return the cosines of prompts with descriptors; None without descriptors.

    Args:
        directions: Directions of all texts.
        prompts: (id, text) of each prompt.
        descriptors: (word, text) of each descriptor.
    """
    if not descriptors:
        return None
    whole = _units(directions.halves.mean(0))
    rows = directions.rows([text for _, text in prompts])
    cosines = whole[rows] @ whole[directions.rows([text for _, text in descriptors])].T
    one_seed = directions.scores.shape[-1] < 2
    agreement = (_units(directions.halves[0]) * _units(directions.halves[1])).sum(1)
    return Similarities(
        tuple(word for word, _ in descriptors),
        {prompt: tuple(float(c) for c in own) for (prompt, _), own in zip(prompts, cosines, strict=True)},
        {prompt: None if one_seed else float(agreement[row]) for (prompt, _), row in zip(prompts, rows, strict=True)},
    )


def clusters_of(directions: Directions, prompts: Sequence[tuple[str, str]]) -> Clusters | None:
    """Group prompts by their directions; None for fewer than three prompts, or more than a tree can show.

    The largest gap between two merges of the tree decides on the number of clusters. Their stability is how far the
    clusters from the even seeds agree with those from the odd ones.
    """
    if not 3 <= len(prompts) <= MOST_CLUSTERED:
        return None
    rows, names = directions.rows([text for _, text in prompts]), [prompt for prompt, _ in prompts]
    vectors = directions.halves.mean(0)[rows]
    tree = _tree(vectors)
    count = _number_of_clusters(tree)
    labels = hierarchy.fcluster(tree, count, "maxclust")
    halves = [hierarchy.fcluster(_tree(half[rows]), count, "maxclust") for half in directions.halves]
    stability = adjusted_rand(*halves) if directions.scores.shape[-1] > 1 else None
    places, kept = _in_two_dimensions(_units(vectors))
    return Clusters(
        order=tuple(names[leaf] for leaf in hierarchy.leaves_list(tree)),
        members={name: int(label) for name, label in zip(names, labels, strict=True)},
        heights=tuple((int(a), int(b), float(height), int(size)) for a, b, height, size in tree),
        stability=stability,
        places={name: (float(x), float(y)) for name, (x, y) in zip(names, places, strict=True)},
        kept=kept,
    )


def _units(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Floats = vectors / np.where(lengths > 0, lengths, 1)
    return found


def _tree(vectors: Floats) -> Floats:
    """Return scipy's tree of average linkage over cosine distances of the vectors (n, m)."""
    units = _units(vectors.astype(np.float64))
    distances = np.clip(1 - units @ units.T, 0, 2)
    np.fill_diagonal(distances, 0)
    tree: Floats = hierarchy.linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return tree


def _number_of_clusters(tree: Floats) -> int:
    """Return the number of clusters below which the tree has its largest gap."""
    heights = [*tree[::-1, 2], 0.0]  # from the top: n clusters lie between merge n − 2 and merge n − 1
    counts = range(_LEAST, min(_MOST, len(tree)) + 1)
    return max(counts, key=lambda count: float(heights[count - 2] - heights[count - 1]))


def adjusted_rand(first: Labels, second: Labels) -> float:
    """Return the adjusted Rand index of two groupings (Hubert and Arabie 1985): 1 for equal ones, 0 as by chance."""
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(table, (first, second), 1)
    together = comb(table, 2).sum()
    rows, columns = comb(table.sum(1), 2).sum(), comb(table.sum(0), 2).sum()
    by_chance = rows * columns / comb(len(first), 2)
    most = (rows + columns) / 2
    return 1.0 if most == by_chance else float((together - by_chance) / (most - by_chance))


def _in_two_dimensions(units: Floats) -> tuple[Floats, float]:
    """Return principal components (n, 2) of unit vectors (n, m), and the share of their variance that these keep."""
    centred = units - units.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    squares = values**2
    total = float(squares.sum())
    signs = np.sign(left[np.abs(left).argmax(0), np.arange(left.shape[1])])  # an SVD leaves the signs open
    return (left * signs * values)[:, :2], float(squares[:2].sum() / total) if total > 0 else 0.0
