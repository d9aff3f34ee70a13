"""Verdicts: does each figure keep within its gate's limit, as far as the images can tell?

A gate passes where the whole interval lies inside the limit, fails where the whole interval lies outside, and is
inconclusive otherwise. With several gates each interval is widened, so that with 95 % confidence *no* verdict of the
run is wrong, whatever the gates have to do with each other: see :func:`evaluate`.

Missing images never help, and never condemn. A gate without data is inconclusive. Where images could not be classified,
the interval runs from the lower end of the best case to the upper end of the worst case over everything that they could
be (:mod:`audit.measure.unclassified.all_images`): an edit that destroys faces does not look fair, and a fair model
whose faces the judge cannot name does not fail.
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
    """An estimator's interval at any confidence; a higher one never gives a narrower interval."""

    def __call__(self, confidence: float, /) -> Interval:
        """Return the two-sided interval (low, high) at a confidence in (0, 1)."""
        ...


@dataclass(frozen=True)
class Gate:
    """One limit on one figure: what a ``GateConfig`` asks of one prompt, or of an arm as a whole (prompt id None).

    ``correct`` says whether the judge's known errors are taken out of figures of perceived groups.
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
        """Return how far ``value`` lies inside the limit, negative where it is outside."""
        return self.limit - value if self.side == "max" else value - self.limit


@dataclass(frozen=True)
class GateInput:
    """What a gate is judged on: any estimator that has an interval.

    Attributes:
        value: The figure.
        interval_at: Its interval at any confidence, with what unclassified images leave open.
        n: Images (or pairs) behind it.
        note: What a reader of the verdict should know of the figure.
        unclassified: Share of the images without a perceived group, in [0, 1].
        classified_at: The interval that the classified images alone would have; None where every image counts.
        corrected: Whether the judge's own errors are taken out.
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
    """A gate that there is nothing to judge on, and why."""

    reason: str


def gates_of(configs: Iterable[GateConfig], prompt_ids: Sequence[str]) -> tuple[Gate, ...]:
    """Return the gates of a config, one per prompt where it says ``each``.

    Args:
        configs: The config's gates; each has exactly one limit.
        prompt_ids: The audit's prompts, in plan order.

    Raises:
        ValueError: If a gate names a prompt that the audit does not have.
    """
    return tuple(_gate(config, prompt) for config in configs for prompt in _prompts(config, prompt_ids))


def evaluate(gates: Sequence[Gate], inputs: Sequence[GateInput | NoData], level: float = 0.05) -> tuple[Verdict, ...]:
    """Return a verdict per gate, all of them right together with confidence ``1 - level``.

    Two Holm procedures step down side by side, each at ``level / 2``: one over the claims "inside the limit", which
    guards against passing wrongly, one over "outside", which guards against failing wrongly. The sum of both holds for
    figures that depend on each other in any way. (Holm over two-sided tests with the direction read off afterwards
    decides more, but is proven for special dependence only: Shaffer 1980.) Of m gates, each is first judged by its
    interval at confidence ``1 - level / m``; where r gates were decided the same way, the rest are judged again by the
    end of their interval at ``1 - level / (m - r)``. Gates without data count in m: what is judged is fixed before any
    image is made.

    Args:
        gates: All gates of the run; those that only warn count like the others.
        inputs: What each gate is judged on, in the same order.
        level: Chance of any wrong verdict in the run, in (0, 1).

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

    A gate of level ``warn`` counts only where it failed, and then only warns.
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
    """The claim that a figure lies inside (or outside) its limit, as a one-sided test at any level."""

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
            f"expected gate {config.name!r} to name a prompt of the audit ({known}), found {config.prompt!r}"
        )
    return (config.prompt,)


def _gate(config: GateConfig, prompt_id: str | None) -> Gate:
    limit, side = (config.min, "min") if config.max is None else (config.max, "max")
    if limit is None:
        raise ValueError(f"expected a limit for gate {config.name!r}, max or min, found none")
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
    # Undecided, the wider of the two intervals is the one that both claims were last tested by.
    step = passed if passed.rejected else failed if failed.rejected else min(passed, failed, key=lambda s: s.level)
    confidence = 1 - 2 * step.level
    if isinstance(found, NoData) or not found.n:
        reason = found.reason if isinstance(found, NoData) else found.note or "no image to measure it on"
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
    """Say what part unclassified images have in the interval; nothing where there are none."""
    if not found.unclassified or found.classified_at is None:
        return ""
    low, high = found.classified_at(confidence)
    share = f"{percent(found.unclassified, 1)} of the images have no perceived group"
    return f"{share}; the interval holds whatever they show, of the others alone it would be [{low:.3f}, {high:.3f}]"


def _width_of_unclassified(found: GateInput, confidence: float) -> float:
    """Return the part of the interval's width that unclassified images account for, at least 0."""
    if found.classified_at is None:
        return 0.0
    (low, high), (narrow_low, narrow_high) = found.interval_at(confidence), found.classified_at(confidence)
    return max(0.0, (high - low) - (narrow_high - narrow_low))
