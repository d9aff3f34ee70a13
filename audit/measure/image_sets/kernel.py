"""Kernel distance (KID) of images that are stratified by prompt, with its standard error.

An audit fixes the number of images of each prompt. Pairs of images of the same prompt are then rarer than in a simple
random sample, because an image is not paired with itself. The usual estimate for two sets of the same model would be
negative on average. The mean of the kernel is therefore computed per pair of prompts, and every pair of prompts has the
same weight (a U-statistic of stratified samples). It is unbiased for these prompts for any number of images.

Legend: N images of P prompts in a set, n_p of prompt p; D features of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from audit.measure.inference.intervals import end_on_root_scale

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_IMAGES = 3
"""Smallest number of images of a prompt; two images have only one pair, whose variance cannot be estimated."""

KERNEL_VALUES = 2**21
"""Kernel values that exist at once: 16 MiB."""


class KernelDistance(NamedTuple):
    """A squared maximum mean discrepancy, which may be negative by chance, and its standard error.

    Attributes:
        value: MMD².
        standard_error: That of the jackknife, over the images of each prompt.
        degrees: Degrees of freedom of the standard error.
    """

    value: float
    standard_error: float
    degrees: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return Student's t interval; its upper end is computed on the scale of the root (``end_on_root_scale``).

        At the confidence level of gates, the upper end of the plain t interval has four times its nominal error rate. A
        true distance is never negative, so the lower end is at least 0, or the value if that is below 0 by chance.
        """
        half_width = float(stdtrit(self.degrees, (1 + confidence) / 2)) * self.standard_error
        low = max(self.value - half_width, min(self.value, 0.0))
        return low, end_on_root_scale(self.value, half_width)


def kernel_distance(
    first: ArrayLike,
    second: ArrayLike,
    prompts: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    *,
    paired: bool = False,
) -> KernelDistance:
    """Return the unbiased MMD² under the kernel (x·y / D + 1)³ (Bińkowski et al. 2018, section 4), by prompt.

    With P prompts in the first set and Q in the second, and k̄ the mean of the kernel over the pairs of images of two
    prompts, without pairs of an image with itself,
    MMD² = Σ k̄(x_p, x_p') / P² + Σ k̄(y_q, y_q') / Q² − 2 Σ k̄(x_p, y_q) / PQ.

    The standard error is that of the jackknife over the images within each prompt (Jones 1974, Biometrika 61; Efron and
    Stein 1981: on average not too small, and too large near a true distance of 0). It describes the variation due to
    other noise with these prompts, and does not depend on the order of the rows.

    Args:
        first: Features of shape (N, D), at least ``LEAST_IMAGES`` images of each of its prompts.
        second: The same of the other set.
        prompts: Any code of each image's prompt, shape (N,); None for a set without prompts.
        paired: Whether row i of both has the same noise. Such a pair is more similar than other pairs and is excluded:
            h over i ≠ j (Gretton et al. 2012, eq. 4) is then unbiased, and an arm that changes nothing has the distance
            0. The standard error is that of the pairs.

    Returns:
        The value over all pairs and its standard error, with Satterthwaite's degrees of freedom.

    Raises:
        ValueError: If a prompt has too few images, the dimensions differ, or paired sets differ in their prompts.
    """
    x, y = _Set.of(first, prompts[0]), _Set.of(second, prompts[1])
    if x.rows.shape[1] != y.rows.shape[1]:
        raise ValueError(f"expected features of one network, found {x.rows.shape[1]} and {y.rows.shape[1]} dimensions")
    if not paired:
        return _unpaired(x, y)
    if len(x.rows) != len(y.rows) or not np.array_equal(x.prompts, y.prompts):
        raise ValueError(f"expected pairs of images, found {len(x.rows)} and {len(y.rows)}; keep those both sets have")
    return _paired(x, y)


@dataclass(frozen=True)
class _Set:
    """One set of images, sorted by prompt.

    Attributes:
        rows: Features, shape (N, D).
        prompts: Index of each image's prompt, shape (N,).
        starts: First row of each prompt, shape (P,).
        sizes: Images of each prompt, shape (P,).
    """

    rows: Floats
    prompts: Ints
    starts: Ints
    sizes: Ints

    @classmethod
    def of(cls, features: ArrayLike, prompts: ArrayLike | None) -> _Set:
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f"expected features of shape (N, D) with N at least 1, found {rows.shape}")
        numbers = np.zeros(len(rows), dtype=np.int64) if prompts is None else np.asarray(prompts)
        if numbers.shape != (len(rows),):
            raise ValueError(f"expected the prompt of each of {len(rows)} images, found shape {numbers.shape}")
        order = np.argsort(numbers, kind="stable")
        _, starts, places, sizes = np.unique(numbers[order], return_index=True, return_inverse=True, return_counts=True)
        if sizes.min() < LEAST_IMAGES:
            raise ValueError(
                f"a kernel distance with its error needs at least {LEAST_IMAGES} images of every prompt, found "
                f"{sizes.min()}; leave out prompts with fewer"
            )
        return cls(rows[order], places.ravel(), starts, sizes)

    @property
    def weights(self) -> Floats:
        """Weight of each image in the mean over prompts, shape (N,)."""
        return np.asarray(1 / (len(self.sizes) * self.sizes[self.prompts]))

    def mean(self, values: Floats) -> float:
        """Return the mean over prompts of the means of their images' ``values`` (N,)."""
        return float(self.weights @ values)

    def spread(self, values: Floats) -> Floats:
        """Return the difference of each image's value from the mean of its prompt, shape (N,)."""
        return np.asarray(values - (np.add.reduceat(values, self.starts) / self.sizes)[self.prompts])


@dataclass(frozen=True)
class _Likeness:
    """Mean kernel of each image of one set with another set, for its own prompt and for the other prompts.

    Attributes:
        own: Mean for its own prompt, divided by the number of prompts, shape (N,); zero without common prompts.
        others: Mean for all other prompts, divided by the number of prompts, shape (N,).
    """

    own: Floats
    others: Floats

    @classmethod
    def of(cls, left: _Set, right: _Set, *, same_prompts: bool) -> _Likeness:
        """Compare the sets; with ``same_prompts`` they have the same prompts, and row i is not paired with row i."""
        own, others = np.zeros(len(left.rows)), np.zeros(len(left.rows))
        at_once = max(1, KERNEL_VALUES // len(right.rows))
        for start in range(0, len(left.rows), at_once):
            part = slice(start, start + at_once)
            kernel = (left.rows[part] @ right.rows.T / left.rows.shape[1] + 1) ** 3
            sums = np.add.reduceat(kernel, right.starts, axis=1)
            if same_prompts:
                images, places = np.arange(len(kernel)), left.prompts[part]
                in_own = sums[images, places] - kernel[images, images + start]
                own[part] = in_own / (right.sizes[places] - 1) / len(right.sizes)
                sums[images, places] = 0
            others[part] = (sums / right.sizes).sum(axis=1) / len(right.sizes)
        return cls(own, others)

    @property
    def all(self) -> Floats:
        """The mean kernel over all prompts, shape (N,)."""
        return self.own + self.others


def _paired(x: _Set, y: _Set) -> KernelDistance:
    parts = [_Likeness.of(*sets, same_prompts=True) for sets in ((x, x), (y, y), (x, y), (y, x))]
    own = parts[0].own + parts[1].own - parts[2].own - parts[3].own
    others = parts[0].others + parts[1].others - parts[2].others - parts[3].others
    return _with_error(x.mean(own + others), [_variances(x, own, others)], [x.sizes])


def _unpaired(x: _Set, y: _Set) -> KernelDistance:
    value, variances = 0.0, []
    for mine, theirs in ((x, y), (y, x)):
        within, across = (
            _Likeness.of(mine, mine, same_prompts=True),
            _Likeness.of(mine, theirs, same_prompts=False).others,
        )
        value += mine.mean(within.all - across)
        variances.append(_variances(mine, within.own, within.others - across))
    return _with_error(value, variances, [x.sizes, y.sizes])


def _variances(images: _Set, own: Floats, others: Floats) -> Floats:
    """Return the jackknife variance of the value due to the images of each prompt, shape (P,).

    Without image i, the mean over the pairs of its prompt changes by 2 / (n_p − 2) of its difference from that mean,
    and the mean over pairs with other prompts by 1 / (n_p − 1), because the kernel is symmetric in two images.
    """
    n = images.sizes[images.prompts]
    moved = images.spread(own) * (n - 1) / (n - 2) + images.spread(others)
    squares = np.add.reduceat(moved**2, images.starts)
    return np.asarray(4 * squares / (images.sizes * (images.sizes - 1)) / len(images.sizes) ** 2)


def _with_error(value: float, variances: list[Floats], sizes: list[Ints]) -> KernelDistance:
    parts, degrees = np.concatenate(variances), np.concatenate(sizes) - 1
    total = float(parts.sum())
    # Without any variance all prompts have the same weight.
    shares = parts / total if total else np.full(len(parts), 1 / len(parts))
    return KernelDistance(value, math.sqrt(total), float(1 / (shares**2 / degrees).sum()))
