"""What the figures of compositions say, in sentences, and where they should not be relied on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.planning.plan import article
from audit.records.estimates import Estimate, percent
from audit.records.inside.compositions import Alike, Company, Compositions, Matching, PairImages, Reversal
from audit.results.compositions.checks import Verdict, differing, followed, overall, verdict
from reports.words.formats import interval, p_value, share_text

RELIABLE = 0.9
"""Least share of right matches, by the lower end of its interval, without a warning."""

_NAMED = 3
"""Combinations of groups that a sentence names."""

_HARM = (
    "If matches are wrong whatever the groups, they mix the shares of both occupations, which looks like an effect of "
    "company and weakens who is which; if they follow the groups, they make up who is which."
)

_SHOWN = 12
"""Findings of each kind that are written out; the files have all."""


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
    company = found.company_once
    kinds = (
        ("Who is which", [_of_reversal(found, one) for one in found.reversals if one.found], found.reversals),
        ("Company", [_of_company(one, names[one.pair]) for one in company if one.found], company),
        ("Dependence", [_of_alike(one, names[one.pair]) for one in found.alike if one.found], found.alike),
    )
    return tuple(
        _findings(title, sentences, tests)
        for title, sentences, rows in kinds
        if (tests := sum(row.p is not None for row in rows))
    )


def _findings(title: str, sentences: list[str], tests: int) -> Findings:
    more = [f"and {len(sentences) - _SHOWN} more, in the tables or the files"] if len(sentences) > _SHOWN else []
    return Findings(f"{title}: {len(sentences)} of {tests} tests find a difference", (*sentences[:_SHOWN], *more))


def lines(found: Compositions) -> Iterator[str]:
    """Yield what was found as lines of text: images of each pair, then findings, then warnings."""
    yield from (of_images(found, pair) for pair in found.pairs)
    for one in findings(found):
        yield f"{one.title}{':' if one.sentences else '.'}"
        yield from (f"  {sentence}" for sentence in one.sentences)
    yield from (f"Warning: {warning}" for warning in warnings(found))


def of_images(found: Compositions, pair: PairImages) -> str:
    """Say in how many images of a pair persons were found and told apart."""
    two, said = pair.people[2], f"“{pair.text}”"
    if not two:
        return f"In none of the {pair.images} images of {said} were two people found, so there are no shares."
    counted = f"Two people were found in {two} of {pair.images} images of {said}"
    if pair.apart:
        return f"{counted}, and told apart in {pair.apart} of these."
    names = " and ".join(_words(name) for name in _followed(found, pair))
    if names:
        return f"{counted}. CLIP seems to match them by {names} and not by occupation, so there are no shares."
    judged = verdict(overall(found.matchings, pair.pair))
    if judged is Verdict.WRONG:
        return (
            f"{counted}. CLIP may match them with their occupations no better than by chance, so there are no shares."
        )
    if judged is Verdict.UNKNOWN:
        return f"{counted}. There are too few checked matches to exclude chance, so there are no shares."
    return f"{counted}, and in none of these were they told apart, so there are no shares."


def _followed(found: Compositions, pair: PairImages) -> list[str]:
    """Return the attributes whose groups matches of a pair may follow."""
    return [name for name in found.attributes if followed(found.matchings, pair.pair, name)]


def _of_reversal(found: Compositions, one: Reversal) -> str:
    pair = next(pair for pair in found.pairs if pair.pair == one.pair)
    who = f"the {pair.first} is {one.first} and the {pair.second} {one.second}"
    counted = f"in {one.count} of {one.difference.n} images, the reverse in {one.reverse}"
    asked = {(one.first, one.second), (one.second, one.first)}
    unknown = [cell for cell in _unknown(found, pair, one.attribute) if (cell.first, cell.second) in asked]
    doubt = f" Whether matches are right is {_not_known(pair, unknown)}." if unknown else ""
    return (
        f"{_words(one.attribute)}: {who} {counted} (difference {_points(one.difference)}, p {p_value(one.p)}).{doubt}"
    )


def _unknown(found: Compositions, pair: PairImages, attribute: str) -> list[Matching]:
    """Return combinations of different groups for which matches were not checked often enough."""
    cells = differing(found.matchings, pair.pair, attribute)
    return [one for one in cells if verdict(one) is Verdict.UNKNOWN]


def _not_known(pair: PairImages, cells: Sequence[Matching]) -> str:
    named = [f"for {_persons(pair, one)} ({_checked(one)})" for one in cells[:_NAMED]]
    more = [f"for {len(cells) - _NAMED} more combinations of groups"] if len(cells) > _NAMED else []
    return f"not known {'; '.join((*named, *more))}"


def _persons(pair: PairImages, one: Matching) -> str:
    first, second = (
        f"{article(group)} {_words(group)} {name}"
        for group, name in ((one.first, pair.first), (one.second, pair.second))
    )
    return f"{first} with {second}"


def _checked(one: Matching) -> str:
    if one.right is None:
        return "no checked match"
    return f"{share_text(one.right)} right, by {one.right.n} images"


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
        if not pair.people[2]:
            continue
        one = overall(found.matchings, pair.pair)
        if one.right is None:
            yield (
                f"How well persons of “{pair.text}” are matched with their occupations is not known: no images of both "
                "occupations alone show one person each who can be told apart."
            )
        elif one.right.low < RELIABLE:
            yield (
                f"Persons of “{pair.text}” may be matched with the wrong occupation: where the truth is known, "
                f"{share_text(one.right)} of matches are right, by {one.right.n} images of each occupation. {_HARM}"
            )
        for attribute in found.attributes if pair.apart else _followed(found, pair):
            yield from _by_groups(found, pair, attribute)


def _by_groups(found: Compositions, pair: PairImages, attribute: str) -> Iterator[str]:
    """Say for which combinations of different groups matches are wrong, less reliable, or not known to be right."""
    cells, name = differing(found.matchings, pair.pair, attribute), _words(attribute)
    judged = [one for one in cells if verdict(one) is not Verdict.UNKNOWN]
    worst = min(judged, key=_least, default=None)
    if worst is not None and followed(found.matchings, pair.pair, attribute):
        yield (
            f"“{pair.text}” has no shares, because matches seem to follow {name} and not the occupation: those of "
            f"{_persons(pair, worst)} are {_checked(worst)}."
        )
    elif worst is not None and worst.right is not None and worst.right.value < RELIABLE:
        yield f"Matches of {_persons(pair, worst)} are often wrong ({_checked(worst)}). {_HARM}"
    if unknown := _unknown(found, pair, attribute):
        yield f"Whether persons of “{pair.text}” are matched right is {_not_known(pair, unknown)}."


def _least(one: Matching) -> float:
    return 1.0 if one.right is None else one.right.low
