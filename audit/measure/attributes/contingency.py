"""Contingency tables of images by their groups in two attributes, and p-values by resampling.

Codes: a group is its index in the attribute's order; ``UNCLASSIFIED`` marks an image without a perceived group.

Legend: P prompts or tables, R and C groups of the two attributes, n images of a table.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNCLASSIFIED = -1
"""Code of an image without a perceived group."""

ROUNDING = 1e-9
"""Statistics that differ by less than this are equal, so that a tie does not depend on the order of a sum."""

RESAMPLES = 9_999
"""Number of resamples for a p-value, which is then at least 1 / 10,000. The observed arrangement is counted too, so the
p-value is valid for any number of resamples; more of them only reduce its variance."""


def cross_tables(first: ArrayLike, second: ArrayLike, prompts: ArrayLike, shape: tuple[int, int, int]) -> Ints:
    """Count the images of each prompt by their combination of two attributes' groups.

    Args:
        first: Group of every image in the first attribute, shape (n,); images without a group in either are excluded.
        second: Group in the other attribute, shape (n,).
        prompts: Index of each image's prompt, shape (n,).
        shape: Number of prompts and of groups of each attribute.

    Returns:
        Counts of shape ``shape``.

    Raises:
        ValueError: If the columns do not have the same images, or a code is not a group.
    """
    rows, columns, strata = (
        checked_codes(first, shape[1]),
        checked_codes(second, shape[2]),
        np.asarray(prompts, dtype=np.int64),
    )
    if not rows.size == columns.size == strata.size:
        raise ValueError(f"expected codes of the same images, found {rows.size}, {columns.size} and {strata.size}")
    known = (rows != UNCLASSIFIED) & (columns != UNCLASSIFIED)
    places = np.ravel_multi_index((strata[known], rows[known], columns[known]), shape)
    return np.bincount(places, minlength=math.prod(shape)).reshape(shape)


def expected_counts(counts: ArrayLike) -> Floats:
    """Return the counts of independent attributes with the same shares, for each table of counts (…, R, C)."""
    tables = np.asarray(counts, dtype=np.float64)
    n = np.maximum(tables.sum(axis=(-1, -2), keepdims=True), 1)  # the expected counts of an empty table are 0
    return np.asarray(tables.sum(axis=-1, keepdims=True) * tables.sum(axis=-2, keepdims=True) / n)


def shown_groups(tables: ArrayLike) -> tuple[Ints, Ints]:
    """Return the number of non-empty groups of both attributes for each table (P, R, C), both of shape (P,)."""
    counts = np.asarray(tables)
    return (counts.sum(axis=2) > 0).sum(axis=1), (counts.sum(axis=1) > 0).sum(axis=1)


def checked_codes(codes: ArrayLike, groups: int) -> Ints:
    """Return a column of codes.

    Raises:
        ValueError: If a code is not a group.
    """
    column = np.asarray(codes, dtype=np.int64)
    if column.ndim != 1 or (column < UNCLASSIFIED).any() or (column >= groups).any():
        raise ValueError(f"expected one code per image from {UNCLASSIFIED} to {groups - 1}, found others")
    return column


def checked_table(counts: ArrayLike) -> Ints:
    """Return counts of any shape.

    Raises:
        ValueError: If the table is empty, or a count is negative.
    """
    table = np.asarray(counts, dtype=np.int64)
    if (table < 0).any() or not table.any():
        raise ValueError("expected counts of at least one image, none negative; report images by their status instead")
    return table


def share_as_large(resampled: Floats, observed: float) -> float:
    """Return (1 + number at least as large) / (1 + number of resamples) (Phipson and Smyth 2010)."""
    return (1 + int((resampled >= observed - ROUNDING).sum())) / (1 + resampled.size)
