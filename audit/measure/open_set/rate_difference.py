"""Difference of two rates at equal composition, and the test that it exceeds a margin.

Legend: S strata, for example combinations of named groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

_FIRM = 1.0
"""Images with and without the state that are added to each sample for the standard error, so that a rate of 0 or 1 in a
sample does not count as certain (Agresti and Caffo 2000 add as many)."""


@dataclass(frozen=True)
class RateDifference:
    """Difference of the rate in a sample from the rate in a reference.

    Attributes:
        value: The difference at equal composition.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p-value of the hypothesis that it is within the margin, in either direction.
        compared: Images in strata that both have.
    """

    value: float
    low: float
    high: float
    p: float
    compared: int


def rate_difference(own: Bools, own_strata: Ints, others: Bools, strata: Ints, margin: float) -> RateDifference:
    """Compare the rates of a state in two independent samples.

    The estimate is the Mantel-Haenszel risk difference: differences in the strata, weighted by n₁ n₀ / (n₁ + n₀). So
    samples of another composition of named groups are compared within groups. Its variance is that of Greenland and
    Robins (1985), from rates with one image more in each state. The p-value is that of Wald's test of
    |difference| ≤ margin at the nearer end of the margin.

    Args:
        own: (n₁,) whether each image of the sample is in the state.
        own_strata: (n₁,) stratum of each image, from 0.
        others: (n₀,) the same for the reference.
        strata: (n₀,) stratum of each image of the reference.
        margin: Difference that is too small to matter, in [0, 1).

    Raises:
        ValueError: The samples have no stratum in common.
    """
    size = int(max(own_strata.max(initial=0), strata.max(initial=0))) + 1
    n1, n0 = np.bincount(own_strata, minlength=size), np.bincount(strata, minlength=size)
    k1, k0 = np.bincount(own_strata, own, size), np.bincount(strata, others, size)
    both = (n1 > 0) & (n0 > 0)
    if not both.any():
        raise ValueError("expected two samples with a stratum in common, found none")
    n1, n0, k1, k0 = n1[both], n0[both], k1[both], k0[both]
    weights = n1 * n0 / (n1 + n0)
    value = float((weights * (k1 / n1 - k0 / n0)).sum() / weights.sum())
    r1, r0 = _firm(own, k1, n1), _firm(others, k0, n0)
    variance = (weights**2 * (r1 * (1 - r1) / n1 + r0 * (1 - r0) / n0)).sum() / weights.sum() ** 2
    error = float(np.sqrt(variance))
    half = float(stats.norm.ppf(0.975)) * error
    p = min(1.0, 2 * float(stats.norm.sf((abs(value) - margin) / error)))
    return RateDifference(value, max(-1.0, value - half), min(1.0, value + half), p, int(n1.sum() + n0.sum()))


def _firm(sample: Bools, states: NDArray[Any], images: NDArray[Any]) -> Floats:
    """Return the rate of each stratum (S,), drawn towards that of the whole sample by two images."""
    whole = (sample.sum() + _FIRM) / (len(sample) + 2 * _FIRM)
    found: Floats = (states + 2 * _FIRM * whole) / (images + 2 * _FIRM)
    return found
