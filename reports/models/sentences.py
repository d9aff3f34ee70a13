"""What a comparison of models establishes, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.records.work import BASELINE
from audit.results.models.records import Difference, ModelComparison
from reports.index.story import label

MOST_PAIRS = 6
"""Pairs of models in a sentence; the table of differences has all."""

MOST_CLAUSES = 3
"""Statements in a headline; the page has all."""


@dataclass(frozen=True)
class Statement:
    """What is established about one attribute.

    Attributes:
        attribute: The attribute, in words.
        established: A sentence for each group of established differences; empty if there is none.
        open: What is not established; empty if all pairs are.
    """

    attribute: str
    established: tuple[str, ...]
    open: str


def title_of(comparison: ModelComparison) -> str:
    """Return the headline: who is more skewed than whom, on which attribute, as far as it is established."""
    found = [d for d in comparison.differences if d.group is None and d.established and d.arm == BASELINE]
    clauses = []
    for attribute in comparison.attributes:
        more = _more_skewed([d for d in found if d.attribute == attribute])
        clauses += [
            f"{_subject(models)} more skewed in {label(attribute)} than {_and(others)}" for models, others in more
        ]
    if not clauses:
        return "No model is established to be more skewed than another."
    further = len(clauses) - MOST_CLAUSES
    return f"{'; '.join(clauses[:MOST_CLAUSES])}{f'; and {further} more statements' if further > 0 else ''}."


def statements_of(comparison: ModelComparison, arm: str = BASELINE) -> tuple[Statement, ...]:
    """Return what is established about each attribute in an arm."""
    return tuple(_statement(comparison, arm, attribute) for attribute in comparison.attributes)


def _statement(comparison: ModelComparison, arm: str, attribute: str) -> Statement:
    own = [d for d in comparison.differences if (d.arm, d.attribute) == (arm, attribute)]
    means = [d for d in own if d.group is None]
    shares = [d for d in own if d.group is not None]
    sentences = [f"{_subject(models)} more skewed than {_and(others)}." for models, others in _more_skewed(means)]
    if found := [d for d in shares if d.established]:
        sentences.append(
            f"{len(found)} of {len(shares)} compared shares of single occupations differ: {_places(found)}."
        )
    return Statement(label(attribute), tuple(sentences), _open(means, shares))


def _open(means: Sequence[Difference], shares: Sequence[Difference]) -> str:
    open_pairs = [d for d in means if not d.established]
    parts = []
    if len(open_pairs) == len(means) > 1:
        parts.append("Not established: a difference of the mean discrepancies of any two models.")
    elif open_pairs:
        pairs = ", or of ".join(f"{d.first} and {d.second}" for d in open_pairs[:MOST_PAIRS])
        rest = f", or of {further} more pairs" if (further := len(open_pairs) - MOST_PAIRS) > 0 else ""
        parts.append(f"Not established: a difference of the mean discrepancies of {pairs}{rest}.")
    if not means:
        parts.append("The mean discrepancies could not be compared: no occupation is measured for all models.")
    if shares and not any(d.established for d in shares):
        parts.append(f"None of {len(shares)} compared shares of single occupations is established to differ.")
    return " ".join(parts)


def _more_skewed(means: Sequence[Difference]) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Yield models that are established to be more skewed than the same others, with these others."""
    less: dict[str, list[str]] = {}
    for d in means:
        if d.established:
            more, other = (d.first, d.second) if d.difference.value > 0 else (d.second, d.first)
            less.setdefault(more, []).append(other)
    grouped: dict[tuple[str, ...], list[str]] = {}
    for model, others in less.items():
        grouped.setdefault(tuple(others), []).append(model)
    for than, models in grouped.items():
        yield models, than


def _subject(models: Sequence[str]) -> str:
    return f"{_and(models)} {'is' if len(models) == 1 else 'are'}"


def _places(found: Sequence[Difference]) -> str:
    """Name the occupations of differences by pair of models."""
    pairs = dict.fromkeys((d.first, d.second) for d in found)
    texts = []
    for first, second in pairs:
        own = [d.prompt_id or "" for d in found if (d.first, d.second) == (first, second)]
        named = list(dict.fromkeys(map(label, own)))
        rest = f" and {len(named) - 6} more" if len(named) > 6 else ""
        texts.append(f"{first} and {second} for {', '.join(named[:6])}{rest}")
    return "; ".join(texts)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def place_text(first: int, last: int) -> str:
    """Return a place as text: ``1``, or ``1–3`` if it is open."""
    return str(first) if first == last else f"{first}–{last}"
