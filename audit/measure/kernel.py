"""Kernel distance (KID): unbiased for any number of images, so the one to read first at the n of an audit.

The value uses every pair of images, not random subsets of them, and its standard error comes from leaving out one block
of images after the other. Kernel values exist for two blocks at a time only, which bounds the memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Counts = int | NDArray[np.int64]

JACKKNIFE_BLOCKS = 20
"""Blocks of the jackknife: enough for a steady standard error."""

LARGEST_BLOCK = 1024
"""Images per block at most: two blocks' kernel is then 8 MiB."""


class KernelDistance(NamedTuple):
    """A squared maximum mean discrepancy, which may be negative by chance, and its standard error.

    Attributes:
        value: MMD².
        standard_error: That of the jackknife.
        blocks: How many blocks the jackknife left out in turn.
    """

    value: float
    standard_error: float
    blocks: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return Student's t interval; the error has one degree of freedom less than there are blocks."""
        half_width = float(stdtrit(self.blocks - 1, (1 + confidence) / 2)) * self.standard_error
        return self.value - half_width, self.value + half_width


def kernel_distance(first: ArrayLike, second: ArrayLike, *, paired: bool = False) -> KernelDistance:
    """Return the unbiased MMD² under the kernel (x·y / d + 1)³ (Bińkowski et al. 2018, section 4).

    Args:
        first: Features of shape (m, d), m ≥ 3.
        second: Features of shape (n, d), n ≥ 3.
        paired: Whether row i of both was made from the same noise. Such a pair is more alike than two images of the
            sets are, and is left out: h over i ≠ j (Gretton et al. 2012, eq. 4) has no bias then, and an arm that
            changes nothing has the distance 0. The standard error knows of the pairs.

    Returns:
        The value over all pairs, and its delete-one-block jackknife standard error (Efron and Stein 1981: on average
        not too small, and too large near a true distance of 0).

    Raises:
        ValueError: If a set has fewer than three images, the dimensions differ, or pairs do not pair up.
    """
    x, y = _checked(first), _checked(second)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"expected features of one network, found {x.shape[1]} and {y.shape[1]} dimensions")
    smaller, larger = sorted((len(x), len(y)))
    count = min(smaller, max(JACKKNIFE_BLOCKS, math.ceil(larger / LARGEST_BLOCK)))
    x_blocks, y_blocks = np.array_split(x, count), np.array_split(y, count)
    within_x = _pair_sums(x_blocks, x_blocks) - np.diag(_pair_similarities(x_blocks, x_blocks))
    within_y = _pair_sums(y_blocks, y_blocks) - np.diag(_pair_similarities(y_blocks, y_blocks))
    across, own = _pair_sums(x_blocks, y_blocks), 0
    if paired:
        if len(x) != len(y):
            raise ValueError(f"expected pairs of images, found {len(x)} and {len(y)}; keep those that both sets have")
        across, own = across - np.diag(_pair_similarities(x_blocks, y_blocks)), 1
    value = _discrepancy(within_x.sum(), within_y.sum(), across.sum(), len(x), len(y), own)
    left_out = _discrepancy(
        _without_each_block(within_x),
        _without_each_block(within_y),
        _without_each_block(across),
        len(x) - _sizes(x_blocks),
        len(y) - _sizes(y_blocks),
        own,
    )
    variance = (count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()
    return KernelDistance(value=float(value), standard_error=math.sqrt(variance), blocks=count)


def _checked(features: ArrayLike) -> Floats:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 3:
        raise ValueError(f"a kernel distance with its error needs at least 3 images per set, found shape {rows.shape}")
    return rows


def _pair_sums(left: list[Floats], right: list[Floats]) -> Floats:
    """Return the sums of the kernel over every pair of blocks, shape (blocks, blocks)."""
    return np.array([[((x @ y.T / x.shape[1] + 1) ** 3).sum() for y in right] for x in left])


def _pair_similarities(left: list[Floats], right: list[Floats]) -> Floats:
    """Return per block the sum of k over rows at the same place, which an unbiased estimate leaves out."""
    return np.array([(((x * y).sum(axis=1) / x.shape[1] + 1) ** 3).sum() for x, y in zip(left, right, strict=True)])


def _without_each_block(sums: Floats) -> Floats:
    """Return the total of ``sums`` without row and column b, for each b."""
    return np.asarray(sums.sum() - sums.sum(axis=0) - sums.sum(axis=1) + np.diag(sums))


def _sizes(blocks: list[Floats]) -> NDArray[np.int64]:
    return np.array([len(block) for block in blocks])


def _discrepancy(within_x: Floats, within_y: Floats, across: Floats, m: Counts, n: Counts, own: int) -> Floats:
    """Return MMD² from sums of the kernel over ordered pairs, those of an image with itself left out.

    ``own`` is 1 where the sum across leaves out as many pairs as well, one for each image of the first set.
    """
    return np.asarray(within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * across / (m * (n - own)))
