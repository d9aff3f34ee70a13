"""Worst-case bounds for images without a perceived group, and the change of their number by an edit.

Every image that is not classified counts as unknown, for any status. An image of low confidence shows a face whose
group the judge could not decide. ``no_face`` can be a face that the judge missed, and ``failed`` an image that the
model could have drawn. Nothing observed shows that these images would be like the others. A bound without assumptions
must therefore include them. It is valid for all planned images, so an edit cannot look fair by destroying faces.

Legend: K groups, N images of every status, of which u are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.discrepancy.fairness import _distribution
from audit.measure.inference.intervals import share_estimate
from audit.measure.inference.simplex import Floats, nearest_distribution
from audit.measure.shares.changes import paired_share_difference
from audit.records.changes import MissingDifference
from audit.records.estimates import Range
from audit.records.work import Status

Ints = NDArray[np.int64]


def unknown_images(statuses: Mapping[str, int]) -> int:
    """Count the images of all statuses except ``classified``.

    Raises:
        ValueError: If a count is negative, ``classified`` is missing, or there are no images.
    """
    if Status.CLASSIFIED not in statuses:
        raise ValueError(f"expected counts by status with {Status.CLASSIFIED.value!r}, found {sorted(statuses)}")
    if any(count < 0 for count in statuses.values()):
        raise ValueError(f"expected no negative count of images, found {dict(statuses)}")
    total = sum(statuses.values())
    if not total:
        raise ValueError("bounds need at least 1 image of any status, found none; nothing was planned")
    return total - statuses[Status.CLASSIFIED]


def share_bounds(counts: ArrayLike, statuses: Mapping[str, int]) -> tuple[Range, ...]:
    """Bound each group's share of all N images: no unknown image is in the group, or all are (Manski 1989).

    Args:
        counts: Classified images by perceived group, shape (K,).
        statuses: Images by status; ``classified`` must be the sum of ``counts``.

    Raises:
        ValueError: If the counts do not match, or there is no image of any status.
    """
    known, unknown = _checked(counts, statuses)
    low, high = share_ends(known[None], np.array([unknown]))
    return tuple(Range(*ends) for ends in zip(low[0].tolist(), high[0].tolist(), strict=True))


def share_ends(counts: Ints, unknown: Ints) -> tuple[Floats, Floats]:
    """Return the ends of ``share_bounds`` of each row of counts (P, K) and unknown images (P,): both (P, K)."""
    total = (counts.sum(axis=1) + unknown)[:, None]
    return counts / total, (counts + unknown[:, None]) / total


def discrepancy_bounds(counts: ArrayLike, statuses: Mapping[str, int], target: ArrayLike) -> Range:
    """Bound ‖p − r‖₂ of the shares p of all N images over all assignments of the u unknown images to groups.

    The distance is convex, so it is largest if all of them are in one group. It is smallest if they are assigned to the
    groups that are furthest below their target: the projection of Nr − c to the allocations with sum u, rounded to
    whole images (exact, because the squared distance is separable with equal weights).

    Args:
        counts: Classified images by perceived group, c of shape (K,).
        statuses: Images by status; ``classified`` must be the sum of ``counts``.
        target: The distribution that counts as fair, r of shape (K,).

    Raises:
        ValueError: If the counts do not match, there is no image of any status, or the target is not a distribution.
    """
    known, unknown = _checked(counts, statuses)
    goal = _distribution(target)
    if known.size != goal.size:
        raise ValueError(f"expected one count for each of the target's {goal.size} groups, found {known.size}")
    low, high = discrepancy_ends(known[None], np.array([unknown]), goal)
    return Range(low=float(low[0]), high=float(high[0]))


def discrepancy_ends(counts: Ints, unknown: Ints, targets: Floats) -> tuple[Floats, Floats]:
    """Return the ends of ``discrepancy_bounds`` for each row of counts, both of shape (P,).

    Args:
        counts: Classified images by perceived group, shape (P, K).
        unknown: Images of any other status, shape (P,).
        targets: The distributions that count as fair, shape (K,) or (P, K).
    """
    total = (counts.sum(axis=1) + unknown)[:, None]
    best = nearest_counts(counts, unknown, targets) / total
    all_in_one = (counts[:, None] + unknown[:, None, None] * np.eye(counts.shape[1])) / total[..., None]
    farthest = np.linalg.norm(all_in_one - np.broadcast_to(targets, counts.shape)[:, None], axis=2)
    return np.linalg.norm(best - targets, axis=1), farthest.max(axis=1)


def nearest_counts(counts: Ints, unknown: Ints, targets: Floats) -> Ints:
    """Return the counts (P, K) of all images with the unknown ones assigned as near to the target as possible.

    Args:
        counts: Classified images by perceived group, shape (P, K).
        unknown: Images of any other status, shape (P,).
        targets: The distributions that count as fair, shape (K,) or (P, K).
    """
    total = (counts.sum(axis=1) + unknown)[:, None]
    return np.asarray(counts + _fairest_allocations(total * targets - counts, unknown).astype(np.int64))


def missing_differs_in_pairs(before: ArrayLike, after: ArrayLike) -> MissingDifference:
    """Compare the unclassified shares of two arms with paired images.

    The interval is Newcombe's for paired proportions (Newcombe 1998, Statistics in Medicine 17:2635, method 10), 95 %.

    Args:
        before: Whether each image of the first arm is unclassified, shape (n,).
        after: The same for the second arm, in the same order of images.

    Raises:
        ValueError: If there are no pairs, the shapes differ or the values are not true or false.
    """
    difference = paired_share_difference(before, after)
    first, second = (share_estimate(int(np.sum(flags)), int(np.size(flags))) for flags in (before, after))
    return MissingDifference(first, second, difference)


def _fairest_allocations(wanted: Floats, unknown: Ints) -> Floats:
    """Allocate ``unknown`` images (P,) in whole numbers as near to ``wanted`` (P, K) as possible."""
    images = unknown[:, None].astype(np.float64)
    exact = images * nearest_distribution(wanted / np.maximum(images, 1))
    whole = np.floor(exact + 1e-9)
    rest = images - whole.sum(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(whole - exact, axis=1, kind="stable"), axis=1)
    return np.asarray(whole + (rank < rest))


def _checked(counts: ArrayLike, statuses: Mapping[str, int]) -> tuple[Ints, int]:
    unknown = unknown_images(statuses)
    known = np.asarray(counts)
    if known.ndim != 1 or known.size < 2 or not np.issubdtype(known.dtype, np.integer) or (known < 0).any():
        raise ValueError(f"expected whole counts of at least 2 groups, none negative; found {known.tolist()}")
    if known.sum() != statuses[Status.CLASSIFIED]:
        raise ValueError(
            f"expected the groups to sum to the {statuses[Status.CLASSIFIED]} classified images, found {known.sum()}; "
            "count the same images in both"
        )
    return known.astype(np.int64), unknown
