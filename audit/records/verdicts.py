"""Verdicts of gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Verdict:
    """Whether one figure keeps within the limit of one gate.

    Attributes:
        gate: Name of the gate in the config.
        measure: What is limited, for example ``share:female``.
        attribute: The attribute concerned, None where the measure has none.
        prompt_id: The prompt, None for the arm as a whole.
        arm: The arm.
        limit: The limit.
        side: ``max`` where the figure may not exceed the limit, ``min`` where it may not fall below it.
        value: The figure, None where there is nothing to measure it on.
        low: Lower end of the interval that decided, None likewise.
        high: Upper end.
        confidence: Confidence of that interval; above 95 % where a run has several gates.
        n: Images (or pairs) behind the figure.
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        level: ``fail``, or ``warn`` for a gate that never fails a run.
        margin: Distance of the figure from the limit, negative on the wrong side.
        note: Why the verdict is what it is, where the interval alone does not say.
        from_unclassified: Part of the interval's width that images without a perceived group account for: it runs from
            the lower end of the best case to the upper end of the worst case over everything that they could be.
        corrected: Whether the judge's own errors are taken out of the figure and its interval.
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
