"""Interval of the shift of an attribute in an arm over all images, including those without a perceived group.

An image that is unclassified in an arm can be of any group there. The total variation is convex, so it is largest if
all of an arm's unclassified images are in one group. It is at least P(S before) − P(S or unclassified after) for every
set S of groups. Its smallest value is the largest of these differences, which is that of the groups that are more
frequent before (the total variation of two contaminated distributions; Huber 1965, Annals of Mathematical Statistics
36).

Legend: P prompts, K groups; N images of a prompt, of which u₀ have no group before and u₁ none after.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.attributes.attribute_shift import reaches, shift_interval, shift_values

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def shift_interval_of_all_images(tables: ArrayLike, floor: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean total variation between two arms' shares of all images.

    It extends from the lower end of the best case to the upper end of the worst case over all possible groups of the
    unclassified images. Without such images it is that of
    :func:`audit.measure.attributes.attribute_shift.shift_interval`.

    Args:
        tables: From :func:`audit.measure.attributes.attribute_shift.pair_tables`, shape (P, K + 1, K + 1).
        floor: Contribution of chance to the mean of classified images, see ``shift_interval``.
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If no prompt has a classified image in both arms.
    """
    pairs = np.asarray(tables, dtype=np.int64)
    if not (pairs[:, -1].any() or pairs[:, :, -1].any()):
        found = shift_interval(pairs, floor, confidence)
        return found.low, found.high
    farthest, nearest = _farthest(pairs), _nearest(pairs)
    best = float(_smallest(pairs).mean()) - float(_chance(pairs).mean())
    low = best - float(np.linalg.norm(reaches(nearest, confidence))) / len(pairs)
    high = float(shift_values(farthest).mean()) + float(np.linalg.norm(reaches(farthest, confidence))) / len(pairs)
    return max(0.0, low), min(1.0, high)


def _smallest(pairs: Ints) -> Floats:
    """Return the largest of the lower bounds in every prompt, shape (P,): negative if no shift is possible."""
    before, after, n = _margins(pairs)
    unknown = pairs[:, -1].sum(axis=1) + pairs[:, :, -1].sum(axis=1)
    return np.asarray((np.abs(before - after).sum(axis=1) - unknown) / (2 * n))


def _chance(pairs: Ints) -> Floats:
    """Return the largest contribution of sampling to ``_smallest``, shape (P,).

    ``_smallest`` is the largest of several sums of the groups' changes, and E|d̂ − d| is at most the standard error of
    d̂.
    """
    before, after, n = _margins(pairs)
    moved = before + after - 2 * np.diagonal(pairs, axis1=1, axis2=2)[:, :-1]
    variances = (moved / n[:, None] - ((before - after) / n[:, None]) ** 2) / n[:, None]
    return np.asarray(np.sqrt(np.maximum(variances, 0.0)).sum(axis=1) / 2)


def _nearest(pairs: Ints) -> Ints:
    """Return tables without unclassified images in which the change of the set S is that of ``_smallest``.

    Images without a group before are assigned to one that is more frequent after, and those without a group after to
    one that is more frequent before.
    """
    before, after, _ = _margins(pairs)
    return _completed(pairs, (before - after).argmin(axis=1), (before - after).argmax(axis=1))


def _farthest(pairs: Ints) -> Ints:
    """Return tables with each arm's unclassified images in the group that maximises the total variation."""
    groups = range(pairs.shape[1] - 1)
    choices = [np.broadcast_to(choice, (len(pairs), 2)) for choice in itertools.product(groups, groups)]
    found = np.stack([_completed(pairs, *choice.T) for choice in choices])
    values = np.stack([shift_values(one) for one in found])
    return np.asarray(found[values.argmax(axis=0), np.arange(len(pairs))])


def _completed(pairs: Ints, before: Ints, after: Ints) -> Ints:
    """Return tables (P, K + 1, K + 1) with all unclassified images of each arm in these groups (P,)."""
    prompts, given = np.arange(len(pairs)), pairs.copy()
    given[prompts, before] += given[:, -1]
    given[:, -1] = 0
    given[prompts, :, after] += given[:, :, -1]
    given[:, :, -1] = 0
    return given


def _margins(pairs: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the images of each group before and after, both (P, K), and all images, shape (P,)."""
    return pairs.sum(axis=2)[:, :-1], pairs.sum(axis=1)[:, :-1], pairs.sum(axis=(1, 2))
