"""Two-stage sampling of a share: a small pilot determines the number of images for the required half-width.

A fixed number of images must assume the worst case, a share of one half. Many occupations have shares of 95 to 5, for
which a fifth of the images gives the same precision. If n depends on the pilot, the usual interval of the pooled images
is not strictly valid. The interval here is exact for the whole design. It inverts two one-sided tests whose p-values
are sums over all outcomes of both stages, ordered by their pooled share (as in Jennison and Turnbull 1983,
Technometrics 25, for sequential designs; Clopper and Pearson 1934 without a second stage). Its coverage is at least the
nominal level for every share and every design, if the number of images is that of ``total_images``.

Only classified images count. If some images cannot be classified, the second stage is enlarged by the pilot's rate
(``images_to_make``), so that it has about as many classified images as the design requires. ``two_stage_interval`` then
scales the second stages of all other pilots by the actual number of classified images. It is exact if all images are
classified; otherwise it assumes the same rate of unclassified images in both stages.

Legend: n₁ images of the pilot, k₁ of them in the group, n(k₁) images in all, k of them in the group, p the true share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, gammaln, ndtri, xlog1py, xlogy

from audit.records.estimates import Estimate

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

GRID = 129
"""Number of shares in the first search for the ends of an interval."""


@dataclass(frozen=True)
class TwoStage:
    """A design, which is fixed before the pilot.

    Attributes:
        pilot: Images of the first stage n₁, at least 2.
        half_width: Required half-width of the share's interval, in (0, 0.5).
        confidence: Confidence level of this interval, in (0, 1).
        largest: Limit of the total number of images, even if the interval is then wider; None for no limit.
    """

    pilot: int
    half_width: float
    confidence: float = 0.95
    largest: int | None = None

    def __post_init__(self) -> None:
        """Refuse an invalid design."""
        if self.pilot < 2:
            raise ValueError(f"expected a pilot of at least 2 images, found {self.pilot}")
        if not (0 < self.half_width < 0.5 and 0 < self.confidence < 1):
            raise ValueError(
                f"expected a half-width in (0, 0.5) and a confidence in (0, 1), found {self.half_width} and "
                f"{self.confidence}"
            )

    @cached_property
    def totals(self) -> Counts:
        """Total number of images by the pilot's successes, n(k₁) for k₁ = 0 … n₁."""
        z = float(ndtri((1 + self.confidence) / 2))
        # The pilot's share is shrunk towards one half (Agresti and Coull 1998), because a pilot without successes does
        # not prove a share of 0.
        p = (np.arange(self.pilot + 1) + z**2 / 2) / (self.pilot + z**2)
        needed = np.ceil(z**2 * p * (1 - p) / self.half_width**2 + 1 / self.half_width).astype(np.int64)
        return np.clip(needed, self.pilot, max(self.pilot, self.single_stage))

    @property
    def single_stage(self) -> int:
        """Number of images of a single-stage design, for any share."""
        fixed = fixed_images(self.half_width, self.confidence)
        return fixed if self.largest is None else min(fixed, self.largest)


@lru_cache(maxsize=64)
def fixed_images(half_width: float, confidence: float = 0.95) -> int:
    """Return the number of images of a single-stage design: enough for the worst case, a share of one half.

    Raises:
        ValueError: If the half-width is not in (0, 0.5) or the confidence not in (0, 1).
    """
    if not (0 < half_width < 0.5 and 0 < confidence < 1):
        raise ValueError(
            f"expected a half-width in (0, 0.5) and a confidence in (0, 1), found {half_width}, {confidence}"
        )
    low, high = 0, 2
    while _half_width_at_worst(high, confidence) > half_width:
        low, high = high, 2 * high
    while high - low > 2:  # even numbers only, so that a share of one half exists
        middle = (low + high) // 4 * 2
        low, high = (low, middle) if _half_width_at_worst(middle, confidence) <= half_width else (middle, high)
    return high


def total_images(design: TwoStage, pilot_successes: int) -> int:
    """Return the number of images of both stages together, given the pilot's successes.

    Raises:
        ValueError: If the successes are not in [0, pilot].
    """
    _check_successes(design, pilot_successes, pilot_successes, total=design.pilot)
    return int(design.totals[pilot_successes])


def images_to_make(design: TwoStage, classified: int, successes: int) -> int:
    """Return the number of images of both stages for which the design's number of classified images is expected.

    Args:
        design: The design; its pilot counts classified and unclassified images.
        classified: Classified images of the pilot; for fewer than 2, the number of a single stage is used.
        successes: Images of the group among the classified ones.

    Raises:
        ValueError: If the counts are impossible for this pilot.
    """
    if not 0 <= classified <= design.pilot:
        raise ValueError(f"expected 0 to {design.pilot} classified images of the pilot, found {classified}")
    if classified < 2:
        return max(design.pilot, design.single_stage)
    wanted = total_images(replace(design, pilot=classified), successes)
    second = -(-(wanted - classified) * design.pilot // classified)
    return (
        design.pilot + second
        if design.largest is None
        else max(design.pilot, min(design.pilot + second, design.largest))
    )


def two_stage_interval(
    design: TwoStage, pilot_successes: int, successes: int, *, n: int | None = None, confidence: float | None = None
) -> Estimate:
    """Return the pooled share with its exact interval.

    Args:
        design: The design that was followed; its pilot counts the classified images of the first stage.
        pilot_successes: Images of the group in the pilot k₁.
        successes: Images of the group in both stages k.
        n: Classified images of both stages, if they are not exactly as many as in the design.
        confidence: Confidence level of the interval, in (0, 1); by default that of the design.

    Raises:
        ValueError: If the counts are impossible for this design, or the confidence is not in (0, 1).
    """
    if confidence is not None and not 0 < confidence < 1:
        raise ValueError(f"expected a confidence in (0, 1), found {confidence}")
    total_images(design, pilot_successes)
    return _interval(design, pilot_successes, successes, n, design.confidence if confidence is None else confidence)


@lru_cache(maxsize=65_536)  # prompts of one audit have the same design, and many have equal counts
def _interval(design: TwoStage, pilot_successes: int, successes: int, n: int | None, confidence: float) -> Estimate:
    outcome = _Outcomes.of(design, pilot_successes, n)
    total = int(outcome.totals[pilot_successes])
    _check_successes(design, pilot_successes, successes, total=total)
    alpha, share = (1 - confidence) / 2, successes / total
    low = _end(outcome, successes, total, alpha, upper=False) if successes else 0.0
    high = _end(outcome, successes, total, alpha, upper=True) if successes < total else 1.0
    return Estimate(value=share, low=min(low, share), high=max(high, share), n=total)


@dataclass(frozen=True)
class _Outcomes:
    """Total number of classified images for each pilot, n(k₁) for k₁ = 0 … n₁."""

    pilot: int
    totals: Counts

    @classmethod
    def of(cls, design: TwoStage, pilot_successes: int, n: int | None) -> _Outcomes:
        planned = design.totals - design.pilot
        here = int(planned[pilot_successes])
        made = here if n is None else n - design.pilot
        if made < 0 or (made and not here):
            raise ValueError(
                f"expected {design.pilot} images in the pilot and {here} planned after it, found {n} in both stages"
            )
        if made == here:
            return cls(design.pilot, design.totals)
        return cls(design.pilot, design.pilot + np.rint(planned * (made / here)).astype(np.int64))


def expected_images(design: TwoStage, share: float) -> float:
    """Return the mean total number of images if the true share is ``share``.

    Raises:
        ValueError: If the share is not in [0, 1].
    """
    return float(_pilot_weights(design.pilot, _checked_share(share)) @ design.totals)


def saving(design: TwoStage, share: float) -> float:
    """Return the mean part of a single stage's images that the design saves, negative if it needs more.

    Raises:
        ValueError: If the share is not in [0, 1].
    """
    return 1 - expected_images(design, share) / design.single_stage


def _half_width_at_worst(n: int, confidence: float) -> float:
    """Return the half-width of the Clopper–Pearson interval of n / 2 successes for an even n."""
    return 0.5 - float(betaincinv(n // 2, n - n // 2 + 1, (1 - confidence) / 2))


def _end(outcomes: _Outcomes, successes: int, n: int, alpha: float, *, upper: bool) -> float:
    """Return the most extreme share that one of the one-sided tests does not reject."""
    grid = np.linspace(0, 1, GRID)
    kept = np.flatnonzero(_p_value(outcomes, grid, successes, n, at_most=upper) > alpha)
    outermost = int(kept[-1] if upper else kept[0])
    inside, outside = grid[outermost], grid[np.clip(outermost + (1 if upper else -1), 0, GRID - 1)]
    while abs(inside - outside) > 1e-7:
        middle = (inside + outside) / 2
        keeps = _p_value(outcomes, np.array([middle]), successes, n, at_most=upper)[0] > alpha
        inside, outside = (middle, outside) if keeps else (inside, middle)
    return float(outside)


def _p_value(outcomes: _Outcomes, shares: Floats, successes: int, n: int, *, at_most: bool) -> Floats:
    """Return the probability of a pooled share at most (or at least) ``successes / n``, for true shares of shape (G,).

    The shares are compared as fractions of whole numbers, so that ties are exact.
    """
    totals, pilot = outcomes.totals, np.arange(outcomes.pilot + 1)
    rest = totals - outcomes.pilot
    if at_most:
        most = successes * totals // n - pilot
        second = 1 - _at_least(most + 1, rest, shares)
    else:
        second = _at_least(-(-successes * totals // n) - pilot, rest, shares)
    return np.asarray((_pilot_weights(outcomes.pilot, shares) * second).sum(axis=1))


def _pilot_weights(n: int, shares: ArrayLike) -> Floats:
    """Return the probabilities of k₁ = 0 … n₁ successes, shape (…, n₁ + 1)."""
    p, k = np.asarray(shares, dtype=np.float64)[..., None], np.arange(n + 1)
    orders = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(np.exp(orders + xlogy(k, p) + xlog1py(n - k, -p)))


def _at_least(successes: Counts, n: Counts, shares: Floats) -> Floats:
    """Return the probability of at least ``successes`` in ``n``, both (n₁ + 1,), for shares (G,): (G, n₁ + 1)."""
    inside = (successes > 0) & (successes <= n)
    k, m = np.where(inside, successes, 1), np.where(inside, n, 1)
    return np.asarray(np.where(inside, betainc(k, m - k + 1, shares[:, None]), np.where(successes <= 0, 1.0, 0.0)))


def _checked_share(share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies in [0, 1], found {share}")
    return share


def _check_successes(design: TwoStage, pilot_successes: int, successes: int, total: int) -> None:
    second = successes - pilot_successes
    if not (0 <= pilot_successes <= design.pilot and 0 <= second <= total - design.pilot):
        raise ValueError(
            f"expected 0 to {design.pilot} successes in the pilot and 0 to {total - design.pilot} after it, found "
            f"{pilot_successes} and {second}"
        )
