"""Words whose CLIP scores are higher in images of a prompt than in those of the other prompts.

The score of a word in an image is the cosine of the image with the difference between the text with the word and the
neutral text. Legend: n images, W words, P prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.records.inside.open_set import Finding, WordFinding
from audit.results.open_set.attributes import Unnamed
from audit.results.open_set.findings import holm
from audit.results.open_set.sample import Sample
from audit.results.open_set.vocabulary import Word

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

MARGIN = 0.5
"""Difference of means, in standard deviations within prompts, that is too small to matter."""

KNOWN_AREA = 0.6
"""A word is known if its own images score higher than neutral ones with an area under the curve whose interval is above
this."""

_CLOSE = 0.3
"""Least correlation within prompts between a state and a word's score for the word to be listed with the state."""


@dataclass(frozen=True)
class WordCandidate:
    """A word and a prompt that are found on the discovery seeds and confirmed on held-out seeds.

    Attributes:
        word: Index of the word.
        prompt: Index of the prompt.
        effect: Difference of means on held-out seeds, in standard deviations.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p-value, adjusted by Holm.
    """

    word: int
    prompt: int
    effect: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class WordTests:
    """What the tests of words give.

    Attributes:
        candidates: Pairs that are found on the discovery seeds.
        confirmed: Those that held-out seeds confirm, the largest effect first.
    """

    candidates: int
    confirmed: tuple[WordCandidate, ...]


def directions(texts: Floats, neutral: Floats) -> Floats:
    """Return unit rows (W, c) from the neutral text (c,) to the texts (W, c)."""
    change = texts - neutral
    found: Floats = change / np.maximum(np.linalg.norm(change, axis=1, keepdims=True), np.finfo(float).tiny)
    return found


def word_tests(sample: Sample, scores: Floats, allowed: NDArray[np.bool_], rate: float) -> WordTests:
    """Test which words score higher in which prompts, by Benjamini and Hochberg, and again on held-out seeds by Holm.

    Scores are adjusted for the named groups, by their mean effects within prompts on the discovery seeds.

    Args:
        sample: The images.
        scores: (n, W) scores.
        allowed: (P, W) whether a word says something else than the prompt does.
        rate: Rate of false discoveries.
    """
    first, held = sample.half(held_out=False), sample.half(held_out=True)
    adjusted = scores - sample.indicators @ _effects(sample, scores, first)
    found_effect, _, p = _tested(adjusted[first], sample.prompts[first])
    places = np.argwhere(allowed & np.isfinite(found_effect))  # scores that never vary within prompts have none
    if not len(places):
        return WordTests(0, ())
    chosen = places[benjamini_hochberg(p[tuple(places.T)]) <= rate]
    effect, error, again = _tested(adjusted[held], sample.prompts[held])
    half = float(stats.norm.ppf(0.975)) * error
    found = [
        WordCandidate(
            int(word), int(prompt), float(effect[prompt, word]), float((effect - half)[prompt, word]),
            float((effect + half)[prompt, word]), p_held,
        )
        for (prompt, word), p_held in zip(chosen, holm(_known(again, effect, chosen)), strict=True)
        if p_held <= rate
    ]  # fmt: skip
    return WordTests(len(chosen), tuple(sorted(found, key=lambda one: (-one.effect, one.word, one.prompt))))


def _known(p: Floats, effects: Floats, places: Ints) -> list[float]:
    """Return the p-values (P, W) at some places; 1 where held-out scores never vary within prompts."""
    known = np.where(np.isfinite(effects), p, 1.0)
    return [float(value) for value in known[tuple(places.T)]]


def area_above(own: Floats, neutral: Floats) -> tuple[float, float]:
    """Return the probability that a score of the first sample exceeds one of the second, and the lower end of its 95 %
    interval (Hanley and McNeil 1982)."""  # noqa: D205, D209 - one sentence
    area = float(stats.mannwhitneyu(own, neutral).statistic) / (len(own) * len(neutral))
    firm = min(max(area, 0.5 / len(own)), 1 - 0.5 / len(own))
    q1, q2 = firm / (2 - firm), 2 * firm**2 / (1 + firm)
    square = firm * (1 - firm) + (len(own) - 1) * (q1 - firm**2) + (len(neutral) - 1) * (q2 - firm**2)
    return area, area - float(stats.norm.ppf(0.975)) * (square / (len(own) * len(neutral))) ** 0.5


def word_findings(
    sample: Sample, scores: Floats, words: Sequence[Word], tests: WordTests, areas: Mapping[int, tuple[float, float]]
) -> tuple[WordFinding, ...]:
    """Return the confirmed candidates whose word is known to the model and to CLIP.

    Args:
        sample: The images.
        scores: (n, W) scores.
        words: The words.
        tests: The tests.
        areas: Index of a word → what :func:`area_above` gives for its own images.
    """
    return tuple(
        WordFinding(
            word=words[one.word].text,
            source=words[one.word].source,
            prompt=sample.names[one.prompt],
            effect=one.effect,
            low=one.low,
            high=one.high,
            p=one.p,
            area=areas[one.word][0],
            area_low=areas[one.word][1],
            strip=sample.strip(one.prompt, scores[:, one.word]),
        )
        for one in tests.confirmed
        if one.word in areas and areas[one.word][1] > KNOWN_AREA
    )


def with_words(
    sample: Sample, findings: Sequence[Finding], attributes: Sequence[Unnamed], scores: Floats, words: Sequence[Word]
) -> tuple[Finding, ...]:
    """Put beside each finding up to three words whose scores go with its state, within prompts.

    Args:
        sample: The images.
        findings: The findings.
        attributes: The attributes that they are about.
        scores: (n, W) scores of words that are known.
        words: These words.
    """
    held = sample.half(held_out=True)
    named = []
    for one in findings:
        upper = attributes[one.attribute - 1].held_out.upper.astype(float)
        close = _correlations(upper, scores[held], sample.prompts[held])
        best = [place for place in np.argsort(-close)[:3] if close[place] >= _CLOSE]
        named.append(replace(one, words=tuple(words[place].text for place in best)))
    return tuple(named)


def _effects(sample: Sample, scores: Floats, rows: Ints) -> Floats:
    own, prompts = sample.indicators[rows], sample.prompts[rows]
    found: Floats = np.linalg.lstsq(_within(own, prompts), _within(scores[rows], prompts), rcond=None)[0]
    return found


def _tested(scores: Floats, prompts: Ints) -> tuple[Floats, Floats, Floats]:
    """Return effects, standard errors and p-values of effect ≤ margin (P, W): a prompt against the others' mean."""
    count = np.bincount(prompts)
    member = (prompts[:, None] == np.arange(len(count))).astype(float)
    means = member.T @ scores / count[:, None]
    spread = np.sqrt((_within(scores, prompts) ** 2).sum(0) / max(len(scores) - len(count), 1))
    others = (means.sum(0) - means) / max(len(count) - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = (means - others) / spread
    error = np.sqrt(1 / count + ((1 / count).sum() - 1 / count) / max(len(count) - 1, 1) ** 2)[:, None]
    p = stats.norm.sf((effect - MARGIN) / error)
    return effect, np.broadcast_to(error, effect.shape), p


def _within(values: Floats, prompts: Ints) -> Floats:
    count = np.bincount(prompts)
    member = (prompts[:, None] == np.arange(len(count))).astype(float)
    found: Floats = values - (member.T @ values / count[:, None])[prompts]
    return found


def _correlations(state: Floats, scores: Floats, prompts: Ints) -> Floats:
    one, rest = _within(state[:, None], prompts), _within(scores, prompts)
    sizes = np.linalg.norm(one) * np.linalg.norm(rest, axis=0)
    found: Floats = (one.T @ rest)[0] / np.maximum(sizes, np.finfo(float).tiny)
    return found
