"""Verdicts of gates: whether each figure is within the limit of its gate.

A gate passes if the whole interval is within the limit, fails if the whole interval is outside, and is inconclusive
otherwise. With several gates the intervals are wider, so that with 95 % confidence *no* verdict of the run is wrong,
for any dependence between the gates: see :func:`evaluate`.

Missing images cause neither a pass nor a failure. A gate without data is inconclusive. If images could not be
classified, the interval extends from the lower end in the best case to the upper end in the worst case for these images
(:mod:`audit.measure.unclassified.all_images`). An edit that destroys faces therefore does not look fair, and a fair
model does not fail because the judge cannot classify its faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from audit.measure.inference.multiplicity import HolmStep, holm_steps
from audit.records.estimates import percent
from audit.records.verdicts import Verdict

if TYPE_CHECKING:
    from audit.config.sections import GateConfig

Outcome = Literal["pass", "fail", "inconclusive"]
Overall = Literal["pass", "fail", "inconclusive", "warn", "none"]
Interval = tuple[float, float]


class IntervalAt(Protocol):
    """An estimator's interval at any confidence level; a higher level never gives a narrower interval."""

    def __call__(self, confidence: float, /) -> Interval:
        """Return the two-sided interval (low, high) at a confidence level in (0, 1)."""
        ...


@dataclass(frozen=True)
class Gate:
    """One limit on one figure: a ``GateConfig`` for one prompt, or for a whole arm (prompt id None).

    ``correct`` is true if figures of perceived groups are corrected for the judge's known errors.
    """

    name: str
    measure: str
    attribute: str | None
    prompt_id: str | None
    arm: str
    limit: float
    side: Literal["max", "min"]
    level: Literal["fail", "warn"] = "fail"
    correct: bool = True

    def margin(self, value: float) -> float:
        """Return the distance of ``value`` from the limit, negative if it violates the limit."""
        return self.limit - value if self.side == "max" else value - self.limit


@dataclass(frozen=True)
class GateInput:
    """The figure of a gate, from any estimator with an interval.

    Attributes:
        value: The figure.
        interval_at: Its interval at any confidence level, covering all possible groups of unclassified images.
        n: Images (or pairs) that it is based on.
        note: Explanation of the figure for readers of the verdict.
        unclassified: Share of the images without a perceived group, in [0, 1].
        classified_at: The interval of the classified images alone; None if all images are classified.
        corrected: Whether it is corrected for the judge's errors.
    """

    value: float
    interval_at: IntervalAt
    n: int
    note: str = ""
    unclassified: float = 0.0
    classified_at: IntervalAt | None = None
    corrected: bool = False


@dataclass(frozen=True)
class NoData:
    """The reason why a gate has no figure."""

    reason: str


def gates_of(configs: Iterable[GateConfig], prompt_ids: Sequence[str]) -> tuple[Gate, ...]:
    """Return the gates of a config, one per prompt for ``prompt: each``.

    Args:
        configs: The config's gates; each has exactly one limit.
        prompt_ids: The audit's prompts, in plan order.

    Raises:
        ValueError: If a gate names a prompt that the audit does not have.
    """
    return tuple(_gate(config, prompt) for config in configs for prompt in _prompts(config, prompt_ids))


def evaluate(gates: Sequence[Gate], inputs: Sequence[GateInput | NoData], level: float = 0.05) -> tuple[Verdict, ...]:
    """Return a verdict per gate; all of them are correct with simultaneous confidence ``1 - level``.

    Two Holm procedures are used, each at ``level / 2``. One tests the hypotheses "inside the limit" and controls wrong
    passes; the other tests "outside" and controls wrong failures. Together they control the error rate for any
    dependence between the figures. (Holm over two-sided tests with the direction read off afterwards decides more, but
    is proven only for special dependence: Shaffer 1980.) With m gates, each is first tested with its interval at
    confidence ``1 - level / m``. After r gates are decided in the same direction, the others are tested again with
    the end of their interval at ``1 - level / (m - r)``. Gates without data count in m, because the number of tests is
    fixed before any image is generated.

    Args:
        gates: All gates of the run, including those that only warn.
        inputs: The figure of each gate, in the same order.
        level: Probability of any wrong verdict in the run, in (0, 1).

    Raises:
        ValueError: If there is not one input per gate.
    """
    if len(gates) != len(inputs):
        raise ValueError(f"expected one input per gate, found {len(inputs)} for {len(gates)} gates")
    if not gates:
        return ()
    passes = holm_steps(
        [_Claim(gate, found, inside=True) for gate, found in zip(gates, inputs, strict=True)], level / 2
    )
    fails = holm_steps(
        [_Claim(gate, found, inside=False) for gate, found in zip(gates, inputs, strict=True)], level / 2
    )
    return tuple(map(_verdict, gates, inputs, passes, fails))


def overall_verdict(verdicts: Iterable[Verdict]) -> Overall:
    """Combine verdicts: ``fail`` before ``inconclusive`` before ``warn`` before ``pass``, ``none`` without gates.

    A gate of level ``warn`` counts only if it failed, and then only warns.
    """
    found = tuple(verdicts)
    binding = {verdict.verdict for verdict in found if verdict.level == "fail"}
    if "fail" in binding:
        return "fail"
    if "inconclusive" in binding:
        return "inconclusive"
    if any(verdict.verdict == "fail" for verdict in found):
        return "warn"
    return "pass" if found else "none"


@dataclass(frozen=True)
class _Claim:
    """The claim that a figure is inside (or outside) its limit, as a one-sided test at any level."""

    gate: Gate
    found: GateInput | NoData
    inside: bool

    def __call__(self, level: float) -> bool:
        if isinstance(self.found, NoData) or not self.found.n:
            return False
        # One end of a two-sided interval at confidence 1 − 2α is a one-sided bound at level α.
        margins = [self.gate.margin(end) for end in self.found.interval_at(1 - 2 * level)]
        return all(margin >= 0 for margin in margins) if self.inside else all(margin < 0 for margin in margins)


def _prompts(config: GateConfig, prompt_ids: Sequence[str]) -> Sequence[str | None]:
    if config.prompt == "overall":
        return (None,)
    if config.prompt == "each":
        return prompt_ids
    if config.prompt not in prompt_ids:
        known = ", ".join(prompt_ids)
        raise ValueError(
            f"gate {config.name!r}: expected a prompt of the audit ({known}), found {config.prompt!r}; correct prompt"
        )
    return (config.prompt,)


def _gate(config: GateConfig, prompt_id: str | None) -> Gate:
    limit, side = (config.min, "min") if config.max is None else (config.max, "max")
    if limit is None:
        raise ValueError(f"gate {config.name!r}: expected a limit, found none; set max or min")
    return Gate(
        name=config.name,
        measure=config.measure,
        attribute=config.attribute,
        prompt_id=prompt_id,
        arm=config.arm,
        limit=limit,
        side="min" if side == "min" else "max",
        level=config.level,
        correct=config.correct,
    )


def _verdict(gate: Gate, found: GateInput | NoData, passed: HolmStep, failed: HolmStep) -> Verdict:
    # If undecided, both claims were last tested with the wider of the two intervals.
    step = passed if passed.rejected else failed if failed.rejected else min(passed, failed, key=lambda s: s.level)
    confidence = 1 - 2 * step.level
    if isinstance(found, NoData) or not found.n:
        reason = found.reason if isinstance(found, NoData) else found.note or "there are no images to measure it on"
        return _record(gate, None, confidence, "inconclusive", reason)
    outcome: Outcome = "inconclusive"
    if passed.rejected != failed.rejected:  # an interval that is not nested in wider ones could reject both
        outcome = "pass" if passed.rejected else "fail"
    unmeasured = "" if math.isfinite(found.value) else "the figure could not be computed"
    note = "; ".join(filter(None, (found.note, _unclassified(found, confidence), unmeasured)))
    return _record(gate, found, confidence, "inconclusive" if unmeasured else outcome, note)


def _record(gate: Gate, found: GateInput | None, confidence: float, outcome: Outcome, note: str) -> Verdict:
    value, low, high = (found.value, *found.interval_at(confidence)) if found else (math.nan,) * 3
    return Verdict(
        gate=gate.name,
        measure=gate.measure,
        attribute=gate.attribute,
        prompt_id=gate.prompt_id,
        arm=gate.arm,
        limit=gate.limit,
        side=gate.side,
        value=_finite(value),
        low=_finite(low),
        high=_finite(high),
        confidence=confidence,
        n=found.n if found else 0,
        verdict=outcome,
        level=gate.level,
        margin=_finite(gate.margin(value)),
        note=note,
        from_unclassified=_width_of_unclassified(found, confidence) if found else 0.0,
        corrected=found.corrected if found else False,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _unclassified(found: GateInput, confidence: float) -> str:
    """Describe the effect of unclassified images on the interval; empty if there are none."""
    if not found.unclassified or found.classified_at is None:
        return ""
    low, high = found.classified_at(confidence)
    share = f"{percent(found.unclassified, 1)} of the images have no perceived group"
    return (
        f"{share}; the interval covers every group that they could have; for the other images alone it is "
        f"[{low:.3f}, {high:.3f}]"
    )


def _width_of_unclassified(found: GateInput, confidence: float) -> float:
    """Return the part of the interval's width that is due to unclassified images, at least 0."""
    if found.classified_at is None:
        return 0.0
    (low, high), (narrow_low, narrow_high) = found.interval_at(confidence), found.classified_at(confidence)
    return max(0.0, (high - low) - (narrow_high - narrow_low))
