"""Fits the temperature of a judge's softmax from labelled images (Guo et al. 2017, section 4.2).

Dividing the scores of a softmax by a temperature changes no answer, only how sure the judge is of it. One temperature
serves all attributes: for zero-shot CLIP one value per model carries over to other data and captions
(arXiv 2303.12748).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOWEST, HIGHEST = 1e-3, 1e3
"""Range of the factor that is searched."""

_EQUAL = 1e-6
"""Difference of two losses that counts as none."""


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature that makes labelled images most probable.

    Attributes:
        temperature: The fitted temperature.
        before: Mean negative log-likelihood of the labels at the temperature that the judge has now.
        after: The same at the fitted temperature.
        n: Labels that it was fitted to.
        identified: Whether the labels determine it. If every answer is right, any smaller temperature is better still;
            if the answers are no better than chance, any larger one is.
    """

    temperature: float
    before: float
    after: float
    n: int
    identified: bool


def fit_temperature(shares: Sequence[Floats], truths: Sequence[NDArray[np.int64]], now: float) -> TemperatureFit:
    """Minimise the negative log-likelihood of labels over the temperature.

    Args:
        shares: For each attribute, probabilities of all groups at the present temperature, ``(n, groups)``.
        truths: For each attribute, the index of the labelled group of each image, ``(n,)``.
        now: The present temperature.

    Raises:
        ValueError: There is no label.
    """
    from scipy.optimize import minimize_scalar

    logits = [np.log(np.maximum(np.asarray(p, np.float64), np.finfo(np.float32).tiny)) for p in shares]
    n = sum(len(truth) for truth in truths)
    if n == 0:
        raise ValueError("expected at least one label to fit a temperature to, found none")

    def loss(log_factor: float) -> float:
        scaled = (values * np.exp(-log_factor) for values in logits)
        return float(sum(_losses(values, truth).sum() for values, truth in zip(scaled, truths, strict=True)) / n)

    limits = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    best = minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-5})
    some_wrong = any((values.argmax(axis=1) != truth).any() for values, truth in zip(logits, truths, strict=True))
    better_than_chance = float(best.fun) < loss(limits[1]) - _EQUAL
    return TemperatureFit(
        temperature=now * float(np.exp(best.x)),
        before=loss(0.0),
        after=float(best.fun),
        n=n,
        identified=some_wrong and better_than_chance,
    )


def _losses(logits: Floats, truth: NDArray[np.int64]) -> Floats:
    """Return the negative log-probability of each label, shape (n,)."""
    from scipy.special import logsumexp

    losses: Floats = logsumexp(logits, axis=1) - logits[np.arange(len(truth)), truth]
    return losses
