"""What the figures of compositions say, in sentences, and where they should not be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from audit.planning.plan import article
from audit.records.estimates import Estimate, percent
from audit.records.inside.compositions import Alike, Company, Compositions, Matching, PairImages, Reversal
from audit.results.compositions.summary import by_chance
from reports.words.formats import interval, p_value, share_text

RELIABLE = 0.9
"""Least share of right matches, by the lower end of its interval, without a warning."""

_SHOWN = 12
"""Findings of each kind that are written out; the tables have all."""


def lead(found: Compositions) -> str:
    """Say what was sampled, in one sentence."""
    pairs, alone = len(found.pairs), len(found.alone)
    images = sum(one.images for one in found.pairs) + sum(one.images for one in found.alone)
    return (
        f"{pairs} prompt{'s' * (pairs != 1)} about two people and {alone} about one of them alone, {images} images. In "
        "each image of two people, the audit asks which person is perceived as which group."
    )


@dataclass(frozen=True)
class Findings:
    """What one of the tests finds.

    Attributes:
        title: The question, and how many tests find a difference.
        sentences: Findings, in words.
    """

    title: str
    sentences: tuple[str, ...]


def findings(found: Compositions) -> tuple[Findings, ...]:
    """Return what each of the three tests finds; a test without data is left out."""
    names = {pair.pair: pair for pair in found.pairs}
    company = tuple(_once(found))
    kinds = (
        ("Who is which", [_of_reversal(one, names[one.pair]) for one in found.reversals if one.found], found.reversals),
        ("Company", [_of_company(one, names[one.pair]) for one in company if one.found], company),
        ("Dependence", [_of_alike(one, names[one.pair]) for one in found.alike if one.found], found.alike),
    )
    return tuple(
        _findings(title, sentences, tests)
        for title, sentences, rows in kinds
        if (tests := sum(row.p is not None for row in rows))
    )


def _findings(title: str, sentences: list[str], tests: int) -> Findings:
    more = [f"and {len(sentences) - _SHOWN} more, in the table"] if len(sentences) > _SHOWN else []
    return Findings(f"{title}: {len(sentences)} of {tests} tests find a difference", (*sentences[:_SHOWN], *more))


def lines(found: Compositions) -> Iterator[str]:
    """Yield what was found as lines of text: images of each pair, then findings, then warnings."""
    yield from (of_images(found, pair) for pair in found.pairs)
    for one in findings(found):
        yield f"{one.title}{':' if one.sentences else '.'}"
        yield from (f"  {sentence}" for sentence in one.sentences)
    yield from (f"Warning: {warning}" for warning in warnings(found))


def _once(found: Compositions) -> Iterator[Company]:
    """Yield rows of company, of an attribute with two groups the first one alone: the other changes by the opposite."""
    for one in found.company:
        groups = found.attributes[one.attribute]
        if len(groups) > 2 or one.group == groups[0]:
            yield one


def of_images(found: Compositions, pair: PairImages) -> str:
    """Say in how many images of a pair persons were found and told apart."""
    two, said = pair.people[2], f"“{pair.text}”"
    if not two:
        return f"In none of the {pair.images} images of {said} were two people found, so there are no shares."
    counted = f"Two people were found in {two} of {pair.images} images of {said}"
    if pair.apart:
        return f"{counted}, and told apart in {pair.apart} of these."
    if by_chance(overall_matching(found, pair)):
        return f"{counted}. CLIP matches them with their occupations no better than by chance, so there are no shares."
    return f"{counted}, and in none of these were they told apart, so there are no shares."


def overall_matching(found: Compositions, pair: PairImages) -> Matching:
    """Return how well persons of a pair are matched, over all images."""
    return next(one for one in found.matchings if one.pair == pair.pair and not one.attribute)


def _of_reversal(one: Reversal, pair: PairImages) -> str:
    who = f"the {pair.first} is {one.first} and the {pair.second} {one.second}"
    counted = f"in {one.count} of {one.difference.n} images, the reverse in {one.reverse}"
    return f"{_words(one.attribute)}: {who} {counted} (difference {_points(one.difference)}, p {p_value(one.p)})."


def _of_company(one: Company, pair: PairImages) -> str:
    assert one.share is not None  # noqa: S101 - what is found has both shares
    assert one.alone is not None  # noqa: S101
    assert one.change is not None  # noqa: S101
    other = pair.second if one.occupation == pair.first else pair.first
    who = f"the {one.occupation} beside {article(other)} {other} is {one.group}"
    shares = f"in {share_text(one.share)}, alone in {share_text(one.alone)}"
    return f"{_words(one.attribute)}: {who} {shares} (change {_points(one.change)}, p {p_value(one.p)})."


def _of_alike(one: Alike, pair: PairImages) -> str:
    shares = f"{share_text(one.same)} of the images, where independent persons would be in {percent(one.expected)}"
    who = f"{pair.first} and {pair.second} are perceived as the same group in {shares}"
    return f"{_words(one.attribute)}: {who} (p {p_value(one.p)})."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _points(change: Estimate) -> str:
    return f"{points(change.value)} {interval(change.low, change.high, share=True)} points"


def points(difference: float) -> str:
    """Format a difference of shares in percentage points, with its sign."""
    return f"{round(100 * difference):+d}".replace("-", "−").replace("+0", "0")


def warnings(found: Compositions) -> tuple[str, ...]:
    """Say where figures should not be relied on."""
    return (*_few_images(found), *_wrong_matches(found))


def _few_images(found: Compositions) -> Iterator[str]:
    for pair in found.pairs:
        if 0 < pair.apart < pair.images / 2:
            those = f"{pair.apart} of {pair.images} images"
            yield f"Figures of “{pair.text}” are about {those}. In the others two people were not found or told apart."


def _wrong_matches(found: Compositions) -> Iterator[str]:
    for pair in found.pairs:
        one = overall_matching(found, pair)
        if pair.people[2] and one.right is None:
            yield (
                f"How well persons of “{pair.text}” are matched with their occupations is not known: no images of both "
                "occupations alone show one person each who can be told apart."
            )
        elif pair.people[2] and one.right is not None and one.right.low < RELIABLE:
            yield (
                f"Persons of “{pair.text}” may be matched with the wrong occupation: where the truth is known, "
                f"{share_text(one.right)} of {one.right.n} matches are right. Wrong matches mix the shares of both "
                "occupations, which looks like an effect of company and weakens who is which."
            )
