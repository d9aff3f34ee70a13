"""Shift of an attribute's shares in an arm: of the edited attribute, and of the others as a side effect.

An intervention on one attribute can shift another. The matrix of edited by measured attribute shows these shifts, with
the value that is expected by chance alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.attributes.contingency import RESAMPLES, checked_codes, share_as_large
from audit.measure.inference.intervals import mean_interval, wilson_intervals
from audit.measure.prompts.over_prompts import FEW_PROMPTS
from audit.measure.shares.changes import hypotenuse
from audit.records.attributes import Attribute
from audit.records.changes import AttributeShift
from audit.records.estimates import Estimate, LikeThese
from audit.records.work import derive_seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_RESAMPLES = 999
SWAPPED_TABLES = 10_000_000
"""Total number of swapped tables. With 1,000 or more prompts each table is swapped less often, but at least 999
times."""

SWAPPED_AT_ONCE = 100_000
"""Tables that are swapped in one batch, which needs some tens of MB."""

WORD = 64
"""Coin tosses per random word."""


def pair_tables(baseline: ArrayLike, edited: ArrayLike, prompts: ArrayLike, size: int, groups: int) -> Ints:
    """Count the images of each prompt by their group in the baseline and in an arm.

    Args:
        baseline: Codes in the baseline arm, shape (n,).
        edited: Codes of the same images in the other arm, shape (n,).
        prompts: Index of each image's prompt, in [0, size), shape (n,).
        size: Number of prompts.
        groups: Number of groups.

    Returns:
        Counts of shape (size, groups + 1, groups + 1); the last row and column are the unclassified.

    Raises:
        ValueError: If the arms do not have the same images, or a code is not a group.
    """
    first, second, numbers = (
        checked_codes(baseline, groups),
        checked_codes(edited, groups),
        np.asarray(prompts, dtype=np.int64),
    )
    if not first.size == second.size == numbers.size:
        raise ValueError(
            f"expected the same images in both arms, found {first.size}, {second.size} and prompts of {numbers.size}"
        )
    side = groups + 1
    cells = (numbers * side + first % side) * side + second % side  # code −1 is the last row
    return np.bincount(cells, minlength=size * side**2).reshape(size, side, side)


def attribute_shift(tables: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean total variation between two arms, its floor, and the p-value of no change.

    Under the hypothesis of no change, the two versions of an image are exchangeable between the arms. Swapping them at
    random gives the exact distribution of the value under this hypothesis for any n. Images that are equal in both arms
    do not contribute, so the floor is lower if the intervention changes fewer images. The number of swaps is
    ``RESAMPLES``, fewer for many prompts (``SWAPPED_TABLES``), and at least ``LEAST_RESAMPLES``.

    Args:
        tables: From :func:`pair_tables`, shape (prompts, groups + 1, groups + 1).
        seed: Seed of the swaps.

    Returns:
        ``(value, floor, p_value)`` as in :class:`audit.records.changes.AttributeShift`.

    Raises:
        ValueError: If no prompt has a classified image in both arms.
    """
    pairs = np.asarray(tables, dtype=np.int64)
    if pairs.ndim != 3 or pairs.shape[1] != pairs.shape[2]:
        raise ValueError(f"expected one square table of pairs per prompt, found shape {pairs.shape}")
    observed = shift_values(pairs)
    if np.isnan(observed).all():
        raise ValueError("no prompt has a classified image in both arms; report the images by their status instead")
    resamples = min(RESAMPLES, max(LEAST_RESAMPLES, SWAPPED_TABLES // len(pairs)))
    rng, total, prompts = np.random.default_rng(seed), np.zeros(resamples), np.zeros(resamples)
    at_once = max(1, SWAPPED_AT_ONCE // resamples)
    for start in range(0, len(pairs), at_once):
        variation = _variation(*_swapped(pairs[start : start + at_once], resamples, rng))
        total += np.nan_to_num(variation).sum(axis=0)
        prompts += (~np.isnan(variation)).sum(axis=0)
    under_no_change = total / np.maximum(prompts, 1)
    value = float(np.nanmean(observed))
    return value, float(under_no_change.mean()), share_as_large(under_no_change, value)


def shift_interval(tables: ArrayLike, floor: float, confidence: float = 0.95) -> Estimate:
    """Return the mean total variation of these prompts with its interval.

    Chance increases a total variation by at most ``floor``: without any change E|p̂ − q̂| is the floor, and otherwise
    E|p̂ − q̂| ≤ |p − q| + E|(p̂ − q̂) − (p − q)|. The lower end of the interval is reduced by this amount. For the upper
    end, TV(p, q) is the change of the share of one set of groups, the set that gains, and its estimate is at most the
    reported one. The interval of a prompt is therefore as long as Newcombe's paired interval of a change of share (see
    :mod:`audit.measure.shares.changes`) for the set with the longest interval. The prompts' intervals are combined by
    square-and-add (see :func:`audit.measure.prompts.over_prompts.mean_of_these_prompts`).

    Args:
        tables: From :func:`pair_tables`, shape (prompts, groups + 1, groups + 1).
        floor: From :func:`attribute_shift`, for these tables.
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        The mean, within [0, 1]; its n counts the prompts with a classified image in both arms.

    Raises:
        ValueError: If there are no such prompts.
    """
    pairs = _compared(tables)
    values = shift_values(pairs)
    value, reach = float(values.mean()), float(np.linalg.norm(reaches(pairs, confidence))) / len(values)
    return Estimate(value, max(0.0, value - reach - floor), min(1.0, value + reach), len(values))


def shift_interval_of_prompts_like_these(tables: ArrayLike, floor: float, confidence: float = 0.95) -> Estimate:
    """Return ``shift_interval`` for prompts like these, which includes the variation between at least two prompts."""
    these = shift_interval(tables, floor, confidence)
    found = mean_interval(shift_values(_compared(tables)), confidence)
    low, high = max(0.0, min(these.low, found.low - floor)), min(1.0, max(these.high, found.high))
    return Estimate(these.value, low, high, these.n)


def shift_values(tables: ArrayLike) -> Floats:
    """Return the total variation between the arms' shares in each prompt, shape (prompts,); NaN without images."""
    pairs = np.asarray(tables, dtype=np.int64)
    return _variation(pairs.sum(axis=2).T, pairs.sum(axis=1).T)


def _compared(tables: ArrayLike) -> Ints:
    """Return the tables with a classified image in both arms."""
    pairs = np.asarray(tables, dtype=np.int64)
    compared = pairs[~np.isnan(shift_values(pairs))]
    if not len(compared):
        raise ValueError("no prompt has a classified image in both arms; report the images by their status instead")
    return compared


def shift_matrix(
    baseline: Mapping[str, ArrayLike],
    arms: Mapping[str, Mapping[str, ArrayLike]],
    prompts: ArrayLike,
    attributes: Sequence[Attribute],
) -> tuple[AttributeShift, ...]:
    """Return the shift of every measured attribute in every arm; shifts of attributes not edited are side effects.

    Args:
        baseline: Attribute → codes of all images, shape (n,).
        arms: Arm → the same, images in the same order.
        prompts: The index of each image's prompt, from 0, shape (n,).
        attributes: The measured attributes. An attribute without a prompt classified in both arms is omitted.
    """
    size = int(np.max(prompts)) + 1
    shifts = []
    for arm, codes in arms.items():
        for attribute in attributes:
            name, groups = attribute.name, len(attribute.groups)
            tables = pair_tables(baseline[name], codes[name], prompts, size, groups)
            if not np.isnan(shift_values(tables)).all():
                shifts.append(_shift(arm, name, tables))
    return tuple(shifts)


def _shift(arm: str, attribute: str, tables: Ints) -> AttributeShift:
    value, floor, p_value = attribute_shift(tables, derive_seed("attribute shift", arm, attribute))
    these, like_these = shift_interval(tables, floor), None
    if these.n >= FEW_PROMPTS:
        of_others = shift_interval_of_prompts_like_these(tables, floor)
        like_these = LikeThese(of_others.low, of_others.high)
    pairs = int(tables[:, :-1, :-1].sum())
    return AttributeShift(arm, attribute, value, floor, p_value, these.n, pairs, these.low, these.high, like_these)


def reaches(pairs: Ints, confidence: float) -> Floats:
    """Return the largest distance of each prompt's total variation from its estimate, shape (P,), for (P, G, G).

    Only the sets of the groups with the largest gains, and their complements, are used.
    """
    before, after = pairs.sum(axis=2)[:, :-1], pairs.sum(axis=1)[:, :-1]
    of_before, of_after = before.sum(axis=1, keepdims=True), after.sum(axis=1, keepdims=True)
    order = np.argsort(before / of_before - after / of_after, axis=1, kind="stable")
    both = np.take_along_axis(pairs[:, :-1, :-1], order[:, :, None], axis=1)
    both = np.take_along_axis(both, order[:, None, :], axis=2)
    members = np.cumsum(np.take_along_axis(before, order, axis=1), axis=1)[:, :-1]
    joined = np.cumsum(np.take_along_axis(after, order, axis=1), axis=1)[:, :-1]
    stayed = np.diagonal(both.cumsum(axis=1).cumsum(axis=2), axis1=1, axis2=2)[:, :-1]
    (old, old_low, old_high), (new, new_low, new_high) = (
        (share, *wilson_intervals(share, n, confidence))
        for share, n in ((members / of_before, of_before), (joined / of_after, of_after))
    )
    correlation = _correlation(both, stayed, of_before * of_after)
    upwards = hypotenuse(new_high - new, old - old_low, correlation)
    downwards = hypotenuse(new - new_low, old_high - old, correlation)
    return np.asarray(np.maximum(upwards, downwards).max(axis=1))


def _correlation(both: Ints, stayed: Ints, images: Ints) -> Floats:
    """Return the correlation of a set's two shares, shape (P, sets): φ of the pairs, smaller with unpaired images.

    Args:
        both: Pairs by group, the groups with the largest gains first, shape (P, K, K).
        stayed: Pairs in the set both times, shape (P, sets).
        images: Classified images of the one arm times those of the other, shape (P, 1).
    """
    n = both.sum(axis=(1, 2))[:, None]
    first, second = (both.sum(axis=axis).cumsum(axis=1)[:, :-1] for axis in (2, 1))
    margins = np.sqrt((first * (n - first) * second * (n - second)).astype(np.float64))
    product = (stayed * n - first * second).astype(np.float64)
    product = np.where(product > 0, np.maximum(product - n / 2, 0), product)  # as Newcombe corrects for continuity
    phi = np.divide(product, margins, out=np.zeros_like(product), where=margins > 0)
    return np.asarray(phi * n / np.sqrt(images))


def _swapped(pairs: Ints, resamples: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Swap the two versions of each image with probability 1/2.

    The number of swapped images among those that change from i to j, and from j to i, is binomial. Because of symmetry,
    the gain of group i is the number of images that change from j to i minus the number of heads of both kinds.

    Args:
        pairs: Tables of prompts, shape (P, G, G).
        resamples: R, the number of resamples.
        rng: Random generator.

    Returns:
        Both arms' counts, shape (G, P, R).
    """
    kinds = np.stack(np.triu_indices(pairs.shape[1], 1), axis=1)
    flow = np.zeros((pairs.shape[1], len(pairs), resamples), dtype=np.int32)
    there, back = pairs[:, kinds[:, 0], kinds[:, 1]], pairs[:, kinds[:, 1], kinds[:, 0]]
    for (i, j), heads, returned in zip(kinds, _heads(there + back, resamples, rng), back.T, strict=True):
        gained = returned[:, None].astype(np.int32) - heads
        flow[i] += gained
        flow[j] -= gained
    return pairs.sum(axis=2).T[..., None] + flow, pairs.sum(axis=1).T[..., None] - flow


def _heads(coins: Ints, resamples: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Toss (P, Q) coins of Q kinds, and return the number of heads of each kind, shape (Q, P, R).

    A coin is a bit of a random word; the kinds of a prompt use consecutive bits of the same words.
    """
    ends = coins.cumsum(axis=1)
    heads = np.zeros((coins.shape[1], len(coins), resamples), dtype=np.int32)
    for start in range(0, int(ends.max(initial=0)), WORD):
        words = rng.integers(0, 2**WORD, size=heads.shape[1:], dtype=np.uint64)
        masks = _low_bits(ends - start) & ~_low_bits(ends - coins - start)
        for of_kind, mask in zip(heads, masks.T, strict=True):
            of_kind += np.bitwise_count(words & mask[:, None])
    return heads


def _low_bits(count: Ints) -> NDArray[np.uint64]:
    """Return words with the lowest ``count`` bits set; none for counts below 0, all for counts from ``WORD``."""
    kept = np.clip(count, 0, WORD).astype(np.uint64)
    return np.where(kept > 0, ~np.uint64(0) >> (np.uint64(WORD) - np.maximum(kept, np.uint64(1))), np.uint64(0))


def _variation(first: Ints, second: Ints) -> Floats:
    """Return the total variation of two arms' counts (groups + 1, …), NaN if an arm has no classified image."""
    shares = []
    for counts in (first, second):
        n = counts[:-1].sum(axis=0)
        shares.append(counts[:-1] / np.where(n > 0, n, np.nan))
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=0) / 2)
