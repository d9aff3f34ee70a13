"""AUC of activations for a group, averaged over test halves, with an interval that respects dependent images.

A feature is tested on halves of the images that did not choose it. The mean over these halves is linear in the
influences of the images, so its variance follows from their averages: DeLong et al. 1988 for one sample, LeDell et al.
2015 for repeated test samples, Obuchowski 1997 for clusters (images of the same noise).

Shapes: n images, F features, T test halves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from audit.records.estimates import Estimate

Z95 = float(norm.ppf(0.975))
Values = NDArray[np.float64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """Images on which features are tested.

    Attributes:
        rows: (n,) whether an image belongs to it.
        tested: (F,) features that are tested on it, because the other half chose them.
    """

    rows: Rows
    tested: Rows


def auc_of(values: Values, positive: Rows) -> tuple[Values, Values]:
    """Return the AUC (F,) of each column of values (n, F), and the influence (n, F) of each image on it.

    AUC is the probability that a positive image has the higher value, ties counted half. The influences of all images
    sum to 0; their squares sum to DeLong's variance, up to n / (n − 1).

    Args:
        values: Activations.
        positive: (n,) images of the group; at least one image is positive and one is not.
    """
    up, down = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(values, axis=0)
    placed = np.empty_like(ranks)
    placed[positive] = (ranks[positive] - rankdata(values[positive], axis=0)) / down
    placed[~positive] = 1 - (ranks[~positive] - rankdata(values[~positive], axis=0)) / up
    auc = placed[positive].mean(0)
    return auc, (placed - auc) / np.where(positive, up, down)[:, None]


def held_out_auc(
    values: Values, positive: Rows, halves: Sequence[HeldOut], clusters: NDArray[np.int64]
) -> list[Estimate | None]:
    """Return the AUC of each feature, the mean over the halves on which it is tested; None if there is no such half.

    Args:
        values: (n, F) activations.
        positive: (n,) images of the group.
        halves: The test halves.
        clusters: (n,) images with the same number are dependent.
    """
    total, weight = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    influence = np.zeros(values.shape)
    used = np.zeros(values.shape, dtype=np.bool_)
    for half in halves:
        auc, own = auc_of(values[half.rows], positive[half.rows])
        total += auc * half.tested
        weight += half.tested
        influence[half.rows] += own * half.tested
        used[half.rows] |= half.tested
    sums = np.zeros((int(clusters.max()) + 1, values.shape[1]))
    np.add.at(sums, clusters, influence)
    return [
        _estimate(total[f] / weight[f], sums[:, f] / weight[f], used[:, f], positive, clusters) if weight[f] else None
        for f in range(values.shape[1])
    ]


def _estimate(auc: float, influence: Values, used: Rows, positive: Rows, clusters: NDArray[np.int64]) -> Estimate:
    independent = len(np.unique(clusters[used]))
    variance = float((influence**2).sum()) * independent / max(independent - 1, 1)
    low, high = interval(float(auc), variance, int((used & positive).sum()), int((used & ~positive).sum()))
    return Estimate(float(auc), low, high, int(used.sum()))


def interval(auc: float, variance: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return the 95 % interval of an AUC, symmetric in its logit.

    Where every comparison goes one way, the variance is 0 and says nothing; the interval is then the score interval of
    Newcombe 2006 (method 5).
    """
    if auc >= 1:
        return _lowest(positives, negatives), 1.0
    if auc <= 0:
        return 0.0, 1 - _lowest(positives, negatives)
    half = Z95 * math.sqrt(variance) / (auc * (1 - auc))
    return float(expit(logit(auc) - half)), float(expit(logit(auc) + half))


def _lowest(positives: int, negatives: int) -> float:
    """Return the lowest AUC whose score interval still reaches 1."""
    mean = (positives + negatives) / 2 - 1

    def excess(auc: float) -> float:
        spread = 1 + mean * ((1 - auc) / (2 - auc) + auc / (1 + auc))
        return (1 - auc) - Z95 * math.sqrt(auc * (1 - auc) * spread / (positives * negatives))

    return float(brentq(excess, 1e-9, 1 - 1e-9))
