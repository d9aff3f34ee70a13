"""The distributional alignment loss: target classes by optimal transport (Shen et al. 2024, eqs. 4 to 6).

For class probabilities p of N images and one-hot vectors u drawn from the target, σ* minimises Σ_i ‖p_i − u_σ(i)‖₂ over
all permutations (eq. 4), and q_i = E_u[u_σ*(i)] is the probability that image i would have each class if the images
followed the target (eq. 5). The class of an image is the one with the largest q; an image is left out where this q is
too small (eq. 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

# N images, K groups

Floats = NDArray[np.float64]

DRAWS = 256
"""Draws of u for the mean over them; the standard error of a q is then at most 0.03."""


@dataclass(frozen=True)
class Targets:
    """The class that each image of a batch is trained towards.

    Attributes:
        classes: ``(N,)``.
        confidences: The largest q of each image, ``(N,)``.
    """

    classes: NDArray[np.int64]
    confidences: Floats

    def kept(self, uncertainty: float) -> NDArray[np.bool_]:
        """Return which images take part in the loss, ``(N,)``."""
        kept: NDArray[np.bool_] = self.confidences >= 1 - uncertainty
        return kept


def targets_of(probabilities: Floats, target: Floats, seed: int) -> Targets:
    """Return the class of each image.

    Args:
        probabilities: p, ``(N, K)``.
        target: Shares of the groups, ``(K,)``.
        seed: Of the draws, which only more than two groups need.
    """
    expected = expected_classes(probabilities, target, seed)
    return Targets(expected.argmax(1), expected.max(1))


def expected_classes(probabilities: Floats, target: Floats, seed: int) -> Floats:
    """Return q, ``(N, K)``; exact for two groups, a mean over ``DRAWS`` draws for more.

    With two groups the transport sorts the images by their probability. So the image with r images before it has the
    second class with the probability that more than r of N draws have it, a tail of the binomial distribution.
    """
    if len(probabilities) == 0:
        return np.zeros(probabilities.shape)
    if len(target) == 2:
        difference = probabilities[:, 1] - probabilities[:, 0]
        ranks = np.empty(len(difference), dtype=np.int64)
        ranks[np.argsort(-difference, kind="stable")] = np.arange(len(difference))
        second = binom.sf(ranks, len(difference), target[1])
        return np.stack([1 - second, second], 1)
    draws = np.random.default_rng(seed).multinomial(len(probabilities), target, size=DRAWS)
    mean: Floats = np.mean([transported(probabilities, counts) for counts in draws], axis=0)
    return mean


def transported(probabilities: Floats, counts: NDArray[np.int64]) -> Floats:
    """Return u_σ*, one-hot ``(N, K)``, for one draw with these many vectors of each class, ``(K,)``."""
    drawn = np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]
    costs = np.linalg.norm(probabilities[:, None] - drawn[None], axis=2)
    rows, columns = linear_sum_assignment(costs)
    assigned = np.zeros_like(drawn)
    assigned[rows] = drawn[columns]
    return assigned
