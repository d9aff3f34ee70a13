"""The prompt with the largest discrepancy, with an interval that accounts for its selection.

The largest of many estimates is partly large by chance. If thirty prompts are all on target, the unadjusted interval of
the worst one excludes its true distance in more than half of the samples.
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
        place: Its index in the samples.
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

    The interval covers two distances simultaneously: the true one of the selected sample, and the largest true one of
    all samples, which can be that of another sample. All P samples have simultaneous intervals at 1 − (1 − c) / P
    (Bonferroni). The lower end is that of the selected sample; its distance is at most the largest one, so the end is
    below both. The upper end is the largest of all upper ends, so it is above all distances.

    Args:
        labels: Most probable groups of at least two images in every sample, shape (P, K); P ≥ 1.
        targets: The distributions that count as fair, shape (P, K).
        confidence: Confidence level of the interval, in (0, 1).

    Raises:
        ValueError: If there are no samples, or one has fewer than two images.
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
