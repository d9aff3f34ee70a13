"""Prompts that show a state of an unnamed attribute more or less often than the others, confirmed on held-out seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.measure.open_set.rate_difference import RateDifference, rate_difference
from audit.measure.open_set.two_states import Levels
from audit.records.inside.open_set import Finding
from audit.results.open_set.attributes import Unnamed, agreement
from audit.results.open_set.sample import Sample

Bools = NDArray[np.bool_]

GO_TOGETHER = 0.3
"""Correlation of two states within prompts from which their candidates in one prompt are one finding."""


@dataclass(frozen=True)
class Limits:
    """What counts as a finding.

    Attributes:
        rate: Rate of false discoveries.
        margin: Difference of rates that is too small to matter.
    """

    rate: float
    margin: float


@dataclass(frozen=True)
class Candidate:
    """A difference that is found on the discovery seeds.

    Attributes:
        attribute: Number of the attribute.
        prompt: Index of the prompt.
        difference: The difference.
        adjusted: Its p-value, adjusted by Benjamini and Hochberg.
    """

    attribute: int
    prompt: int
    difference: RateDifference
    adjusted: float


@dataclass(frozen=True)
class Differences:
    """All tests of the discovery seeds, and what held-out seeds say of those that were found.

    Attributes:
        tests: Number of tests.
        candidates: The differences that are found.
        findings: The candidates that are confirmed.
    """

    tests: int
    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]


def differences_of(sample: Sample, attributes: Sequence[Unnamed], limits: Limits) -> Differences:
    """Test every attribute in every prompt on the discovery seeds, and the candidates again on held-out seeds.

    A prompt is compared with the typical others. A prompt that nearly always shows a state would raise the rate of all
    others together, and each of them would seem to show it less often.

    The discovery seeds are tested at the rate of false discoveries (Benjamini and Hochberg 1995). Held-out seeds test
    the candidates alone, by Holm's procedure, so that the probability of any false finding is at most the rate. A
    candidate also fails if its sign changes, or if a rate is not identified on held-out seeds.

    Args:
        sample: The images.
        attributes: The attributes.
        limits: What counts as a finding.
    """
    typical = _typical(sample, attributes, limits)
    tests, found = _tested(sample, attributes, typical, limits)
    candidates = _grouped(sample, attributes, found)
    return Differences(tests, candidates, _confirmed(sample, attributes, typical, candidates, limits))


def _typical(sample: Sample, attributes: Sequence[Unnamed], limits: Limits) -> list[Bools]:
    """Return by attribute the prompts (P,) that others are compared with, from the discovery seeds.

    They begin as all prompts whose rate is known. The one that differs most is taken out, as long as one is found and
    half of them stay.
    """
    found = [one.known.copy() for one in attributes]
    while True:
        strongest: dict[int, Candidate] = {}
        for one in sorted(_tested(sample, attributes, found, limits)[1], key=lambda one: abs(one.difference.value)):
            if (
                found[one.attribute][one.prompt]
                and 2 * found[one.attribute].sum() > attributes[one.attribute].known.sum()
            ):
                strongest[one.attribute] = one
        if not strongest:
            return found
        for one in strongest.values():
            found[one.attribute][one.prompt] = False


def _tested(
    sample: Sample, attributes: Sequence[Unnamed], reference: Sequence[Bools], limits: Limits
) -> tuple[int, list[Candidate]]:
    """Compare every prompt with those of the reference; return the number of tests, and the candidates."""
    asked = [(number, int(p)) for number, one in enumerate(attributes) for p in np.flatnonzero(one.known)]
    tested = [
        _difference(sample, attributes[number], p, reference[number], limits.margin, held_out=False)
        for number, p in asked
    ]
    kept = [(at, one) for at, one in zip(asked, tested, strict=True) if one is not None]
    adjusted = benjamini_hochberg([one.p for _, one in kept]) if kept else ()
    return len(kept), [
        Candidate(number, prompt, one, float(p))
        for ((number, prompt), one), p in zip(kept, adjusted, strict=True)
        if p <= limits.rate
    ]


def _grouped(sample: Sample, attributes: Sequence[Unnamed], found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Keep, of the candidates of a prompt that go together, the one with the largest difference."""
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda one: (-abs(one.difference.value), one.attribute, one.prompt)):
        own = [attributes[other.attribute] for other in kept if other.prompt == one.prompt]
        if all(abs(agreement(sample, attributes[one.attribute], other)) < GO_TOGETHER for other in own):
            kept.append(one)
    return tuple(kept)


def _confirmed(
    sample: Sample,
    attributes: Sequence[Unnamed],
    reference: Sequence[Bools],
    candidates: Sequence[Candidate],
    limits: Limits,
) -> tuple[Finding, ...]:
    again = [
        _difference(
            sample, attributes[one.attribute], one.prompt, reference[one.attribute], limits.margin, held_out=True
        )
        for one in candidates
    ]
    p = holm([
        one.p if one is not None and one.value * first.difference.value > 0 else 1.0
        for one, first in zip(again, candidates, strict=True)
    ])  # fmt: skip
    found = [
        _finding(sample, attributes[first.attribute], reference[first.attribute], first, one, float(adjusted))
        for first, one, adjusted in zip(candidates, again, p, strict=True)
        if one is not None and adjusted <= limits.rate
    ]
    return tuple(sorted(found, key=lambda one: (-abs(one.difference), one.prompt, one.attribute)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted by Holm (1979): the probability of any false rejection is at most the level."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.array(p_values)[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(p_values) else scaled
    return tuple(float(p) for p in adjusted)


def _difference(
    sample: Sample, attribute: Unnamed, prompt: int, reference: Bools, margin: float, *, held_out: bool
) -> RateDifference | None:
    """Compare a prompt with those of a reference (P,) whose rate is identified; None if there is nothing to compare."""
    levels, known = _side(attribute, held_out=held_out)
    rows = sample.half(held_out=held_out)
    own, others = _masks(sample, rows, known & reference, prompt)
    if not known[prompt] or not others.any():
        return None
    strata, upper = sample.strata[rows], levels.upper
    if not np.intersect1d(strata[own], strata[others]).size:
        return None
    return rate_difference(upper[own], strata[own], upper[others], strata[others], margin)


def _side(attribute: Unnamed, *, held_out: bool) -> tuple[Levels, Bools]:
    return (attribute.held_out, attribute.confirmable) if held_out else (attribute.discovery, attribute.known)


def _masks(sample: Sample, rows: NDArray[np.integer[Any]], reference: Bools, prompt: int) -> tuple[Bools, Bools]:
    """Return which images are of the prompt, and which are of the prompts that it is compared with."""
    own: Bools = sample.prompts[rows] == prompt
    return own, reference[sample.prompts[rows]] & ~own


def _finding(
    sample: Sample, attribute: Unnamed, reference: Bools, first: Candidate, again: RateDifference, adjusted: float
) -> Finding:
    own, others = _masks(sample, sample.half(held_out=True), attribute.confirmable & reference, first.prompt)
    return Finding(
        attribute=first.attribute + 1,
        prompt=sample.names[first.prompt],
        rate=float(attribute.held_out.upper[own].mean()),
        others=float(attribute.held_out.upper[others].mean()),
        difference=again.value,
        low=again.low,
        high=again.high,
        p=adjusted,
        found=first.difference.value,
        found_p=first.adjusted,
        separation=attribute.states.separation,
        words=(),
        strip=sample.strip(first.prompt, attribute.scores),
    )
