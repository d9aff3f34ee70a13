"""Prompts that show a state of an unnamed attribute more or less often than the others, confirmed on held-out seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.measure.open_set.rate_difference import RateDifference, rate_difference
from audit.measure.open_set.two_states import Levels
from audit.records.inside.open_set import Finding
from audit.results.open_set.attributes import Unnamed, agreement
from audit.results.open_set.sample import Ints, Sample

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
    typical, tests = _typical(sample, attributes, limits)
    candidates = _grouped(sample, attributes, _candidates(tests, limits))
    return Differences(sum(map(len, tests)), candidates, _confirmed(sample, attributes, typical, candidates, limits))


def _typical(
    sample: Sample, attributes: Sequence[Unnamed], limits: Limits
) -> tuple[list[Bools], list[dict[int, RateDifference]]]:
    """Return by attribute the prompts (P,) that others are compared with, and the tests against them.

    Both are of the discovery seeds.

    They begin as all prompts whose rate is known. The one that differs most is taken out, as long as one is found and
    half of them stay.
    """
    half = _Half.of(sample, held_out=False)
    found = [one.known.copy() for one in attributes]
    tests = [_tests(half, one, typical, limits) for one, typical in zip(attributes, found, strict=True)]
    while True:
        strongest: dict[int, Candidate] = {}
        for one in sorted(_candidates(tests, limits), key=lambda one: abs(one.difference.value)):
            if (
                found[one.attribute][one.prompt]
                and 2 * found[one.attribute].sum() > attributes[one.attribute].known.sum()
            ):
                strongest[one.attribute] = one
        if not strongest:
            return found, tests
        for number, one in strongest.items():
            found[number][one.prompt] = False
            # Tests of the other attributes would give the same again.
            tests[number] = _tests(half, attributes[number], found[number], limits)


def _tests(half: _Half, attribute: Unnamed, reference: Bools, limits: Limits) -> dict[int, RateDifference]:
    """Compare every prompt whose rate is known with those of the reference; a prompt without others is left out."""
    asked = (int(prompt) for prompt in np.flatnonzero(attribute.known))
    tested = ((prompt, _difference(half, attribute, prompt, reference, limits.margin)) for prompt in asked)
    return {prompt: one for prompt, one in tested if one is not None}


def _candidates(tests: Sequence[Mapping[int, RateDifference]], limits: Limits) -> list[Candidate]:
    """Return the differences of all attributes that are found at the rate of false discoveries."""
    kept = [(number, prompt, one) for number, of in enumerate(tests) for prompt, one in of.items()]
    adjusted = benjamini_hochberg([one.p for _, _, one in kept]) if kept else ()
    return [
        Candidate(number, prompt, one, float(p))
        for (number, prompt, one), p in zip(kept, adjusted, strict=True)
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
    half = _Half.of(sample, held_out=True)
    again = [
        _difference(half, attributes[one.attribute], one.prompt, reference[one.attribute], limits.margin)
        for one in candidates
    ]
    p = holm([
        one.p if one is not None and one.value * first.difference.value > 0 else 1.0
        for one, first in zip(again, candidates, strict=True)
    ])  # fmt: skip
    masks = {
        (one.attribute, one.prompt): half.masks(
            attributes[one.attribute].confirmable & reference[one.attribute], one.prompt
        )
        for one in candidates
    }
    found = [
        _finding(sample, attributes[first.attribute], masks[first.attribute, first.prompt], first, one, float(adjusted))
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


@dataclass(frozen=True)
class _Half:
    """The discovery images or the held-out ones.

    Attributes:
        held_out: Which.
        prompts: (n,) index of each image's prompt.
        strata: (n,) combination of its named groups.
    """

    held_out: bool
    prompts: Ints
    strata: Ints

    @classmethod
    def of(cls, sample: Sample, *, held_out: bool) -> _Half:
        rows = sample.half(held_out=held_out)
        return cls(held_out, sample.prompts[rows], sample.strata[rows])

    def masks(self, reference: Bools, prompt: int) -> tuple[Bools, Bools]:
        """Return which images are of the prompt, and which are of the prompts that it is compared with."""
        own: Bools = self.prompts == prompt
        return own, reference[self.prompts] & ~own


def _difference(half: _Half, attribute: Unnamed, prompt: int, reference: Bools, margin: float) -> RateDifference | None:
    """Compare a prompt with those of a reference (P,) whose rate is identified; None if there is nothing to compare."""
    levels, known = _side(attribute, held_out=half.held_out)
    own, others = half.masks(known & reference, prompt)
    if not known[prompt] or not others.any():
        return None
    strata, upper = half.strata, levels.upper
    if not np.intersect1d(strata[own], strata[others]).size:
        return None
    return rate_difference(upper[own], strata[own], upper[others], strata[others], margin)


def _side(attribute: Unnamed, *, held_out: bool) -> tuple[Levels, Bools]:
    return (attribute.held_out, attribute.confirmable) if held_out else (attribute.discovery, attribute.known)


def _finding(
    sample: Sample,
    attribute: Unnamed,
    masks: tuple[Bools, Bools],
    first: Candidate,
    again: RateDifference,
    adjusted: float,
) -> Finding:
    """Describe a confirmed candidate; the masks are those of its held-out images, see :meth:`_Half.masks`."""
    own, others = masks
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
