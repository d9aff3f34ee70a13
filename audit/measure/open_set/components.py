"""Components of embeddings that vary among images of one prompt, apart from what the named attributes explain.

Legend: n images, d numbers of an embedding, K components.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

_ITERATIONS, _TOLERANCE = 200, 1e-3
_IMAGES_PER_COMPONENT = 5
"""Fewer images than this for each component, and independent component analysis finds shapes of the noise."""

_LEAST_VARIANCE = 1e-6
"""Share of the largest variance below which a direction of the embeddings is rounding."""


@dataclass(frozen=True)
class Components:
    """Linear scores of images.

    Attributes:
        effects: (G, d) what each indicator of a named group changes in an embedding, on average within prompts.
        centre: (d,) mean embedding without these effects.
        unmixing: (d, K) weights of each component; a score has unit variance within prompts.
    """

    effects: Floats
    centre: Floats
    unmixing: Floats

    def scores(self, vectors: Floats, groups: Floats) -> Floats:
        """Return the scores (n, K) of embeddings (n, d) of images whose group indicators are (n, G)."""
        found: Floats = (vectors - groups @ self.effects - self.centre) @ self.unmixing
        return found


def components_of(vectors: Floats, prompts: Ints, groups: Floats, sizes: Sequence[int]) -> Components:
    """Find independent components of what varies within prompts.

    The prompts' means and the mean effects of the named groups are taken off first, so that neither what all images of
    a prompt share nor a named attribute makes a component. FastICA (Hyvärinen 1999) then separates what is left into
    directions with the least Gaussian scores, once for each size: an attribute that images have or lack has two modes,
    and few sizes split or merge it.

    Args:
        vectors: (n, d) embeddings.
        prompts: (n,) index of each image's prompt.
        groups: (n, G) indicators of named groups; G may be 0.
        sizes: Numbers of components to try. A size beyond the rank, or beyond a fifth of the images, is lowered.

    Returns:
        The components of all sizes together; none if the embeddings do not vary within prompts.
    """
    own, indicators = _within(vectors, prompts), _within(groups, prompts)
    effects = np.linalg.lstsq(indicators, own, rcond=None)[0]
    centre = (vectors - groups @ effects).mean(0)
    left = own - indicators @ effects
    most = min(_rank(left), len(vectors) // _IMAGES_PER_COMPONENT)
    counts = sorted({min(size, most) for size in sizes} - {0})
    parts = [_unmixing(left, count) for count in counts]
    return Components(effects, centre, np.concatenate([np.zeros((vectors.shape[1], 0)), *parts], axis=1))


def indicators(codes: Ints, groups: int) -> Floats:
    """Return indicators (n, groups) of codes (n,), where −1 is no group; the first group has none of its own."""
    found: Floats = np.concatenate(
        [(codes == -1)[:, None], codes[:, None] == np.arange(1, groups)[None]], axis=1
    ).astype(float)
    return found


def _within(values: Floats, prompts: Ints) -> Floats:
    """Return values (n, d) minus the means of their prompts."""
    count = np.bincount(prompts, minlength=int(prompts.max()) + 1)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, prompts, values)
    found: Floats = values - (sums / np.maximum(count, 1)[:, None])[prompts]
    return found


def _rank(left: Floats) -> int:
    values = np.linalg.eigvalsh(left.T @ left)
    return int((values > max(values.max(), 0.0) * _LEAST_VARIANCE).sum()) if values.max() > 0 else 0


def _unmixing(left: Floats, count: int) -> Floats:
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # components of pure noise have no fixed point; the later tests judge them
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "There are some small singular values")  # beyond the rank that was asked for
        fitted = FastICA(
            count, whiten="unit-variance", whiten_solver="eigh", random_state=0, max_iter=_ITERATIONS, tol=_TOLERANCE
        ).fit(left)
    weights: Floats = fitted.components_.T
    return weights
