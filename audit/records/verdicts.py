"""Verdicts of gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Verdict:
    """Whether one figure is within the limit of one gate.

    Attributes:
        gate: Name of the gate in the config.
        measure: The limited measure, for example ``share:female``.
        attribute: The attribute concerned, None if the measure has no attribute.
        prompt_id: The prompt, None for the whole arm.
        arm: The arm.
        limit: The limit.
        side: ``max`` if the figure must not exceed the limit, ``min`` if it must not be below it.
        value: The figure, None if there are no images to measure it on.
        low: Lower end of the interval that decides the verdict, None in the same case.
        high: Upper end.
        confidence: Confidence level of that interval; above 95 % if a run has several gates.
        n: Images (or pairs) that the figure is based on.
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        level: ``fail``, or ``warn`` for a gate that never fails a run.
        margin: Distance between the figure and the limit, negative if the limit is violated.
        note: Reason for the verdict if the interval alone does not explain it.
        from_unclassified: Part of the interval's width that is due to images without a perceived group. The interval
            extends from the lower end in the best case to the upper end in the worst case for these images.
        corrected: Whether the figure and its interval are corrected for the judge's errors.
    """

    gate: str
    measure: str
    attribute: str | None
    prompt_id: str | None
    arm: str
    limit: float
    side: Literal["max", "min"]
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    n: int
    verdict: Literal["pass", "fail", "inconclusive"]
    level: Literal["fail", "warn"]
    margin: float | None
    note: str = ""
    from_unclassified: float = 0.0
    corrected: bool = False
