"""The prompt farthest from its target, with an interval that allows for its having been chosen for that.

The largest of many estimates is large by luck as well: of thirty prompts that are all on target, the interval of the
worst one alone would leave out its own distance in more than half of the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.measure.discrepancy.estimate import debiased_squares, discrepancy_intervals, display
from audit.measure.discrepancy.samples import Samples

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The sample with the largest estimate.

    Attributes:
        place: Its place among the samples.
        value: Its estimated distance.
        low: Lower end of the interval.
        high: Upper end.
        n: Images of that sample.
    """

    place: int
    value: float
    low: float
    high: float
    n: int


def worst(labels: Samples, targets: ArrayLike, confidence: float = 0.95) -> Worst:
    """Return the sample farthest from its target.

    The interval holds two distances together with this confidence: the true one of the sample that was chosen, and the
    largest true one of all samples, which may be another's. All P samples get intervals at 1 − (1 − c) / P
    (Bonferroni), which hold all at once. The lower end is that of the chosen sample; as its distance is at most the
    largest, it is below both. The upper end is the largest of all upper ends; it is above every distance.

    Args:
        labels: Most probable groups of two images at least in every sample, shape (P, K); P ≥ 1.
        targets: The distributions that count as fair, shape (P, K).
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If there is no sample, or one has fewer than two images.
    """
    if not labels.n.size:
        raise ValueError("expected at least one sample to find the worst of, found none")
    squares = debiased_squares(labels, targets)
    each = 1 - (1 - confidence) / len(squares)
    ends = discrepancy_intervals(labels, targets, each)
    chosen = int(squares.argmax())
    value = display(float(squares[chosen]))
    return Worst(
        place=chosen,
        value=value,
        low=min(value, float(ends[chosen, 0])),
        high=max(value, float(ends[:, 1].max())),
        n=int(labels.n[chosen]),
    )
