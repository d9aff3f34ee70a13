"""Open-set findings of an exploration as rows with pictures, and what they do not say."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.records.estimates import percent
from audit.records.inside.open_set import Finding, OpenSet, WordFinding
from reports.words.formats import interval, number, p_value


@dataclass(frozen=True)
class PictureRow:
    """A row of a table with pictures.

    Attributes:
        cells: Text of the cells; the first is the header of the row.
        pictures: Pictures by caption.
    """

    cells: tuple[str, ...]
    pictures: Mapping[str, tuple[bytes, ...]]


FINDING_COLUMNS = (
    "prompt", "attribute", "in this prompt", "in the others", "difference at equal groups", "95 % interval", "p",
    "words that go with it",
)  # fmt: skip
WORD_COLUMNS = ("prompt", "word", "list", "difference in standard deviations", "95 % interval", "p", "word is known")
RARE_COLUMNS = ("prompt", "rarity × distance", "share of images", "on held-out seeds", "distance from the centre")


def finding_rows(found: OpenSet) -> Iterator[PictureRow]:
    """Yield a row for each finding."""
    for one in found.findings:
        cells = (
            one.prompt,
            f"{letter(one.attribute)}, {more_or_less(one)}",
            percent(one.rate),
            percent(one.others),
            f"{one.difference * 100:+.0f} points",
            interval(one.low, one.high, share=True),
            p_value(one.p),
            ", ".join(one.words) or "–",
        )
        yield PictureRow(cells, _strips(found, one))


def word_rows(found: OpenSet) -> Iterator[PictureRow]:
    """Yield a row for each finding of a word."""
    for one in found.word_findings:
        cells = (
            one.prompt,
            one.word,
            one.source,
            number(one.effect),
            interval(one.low, one.high),
            p_value(one.p),
            f"{number(one.area)}, above {number(one.area_low)}",
        )
        yield PictureRow(cells, _strips(found, one))


def rare_rows(found: OpenSet) -> Iterator[PictureRow]:
    """Yield a row for each rare feature."""
    for one in found.rare:
        shares = (percent(one.rate), percent(one.held_out))
        cells = (one.prompt, number(one.score), *shares, f"{one.distance:.2f} × average")
        yield PictureRow(cells, {"with it": _pictures(found, one.pictures)})


def open_set_lead(found: OpenSet) -> str:
    """Say what was tested and what is left of it, in two sentences."""
    half = found.images // 2
    return (
        f"{found.images} images of each prompt were embedded by the network of quality.{found.embedder}. "
        f"{_count(found.attributes, 'attribute')} with two states gave {_count(found.tests, 'test')} on the first "
        f"{half} images of each prompt, which found {_count(found.candidates, 'candidate')}; the other "
        f"{found.images - half} images confirmed {len(found.findings)}."
    )


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'s' * (number_of != 1)}"


def word_lead(found: OpenSet) -> str:
    """Say how many words were scored, and which were left out."""
    if not found.words and found.cut_words:
        return f"No words were scored: a text encoder would cut the texts of all {found.cut_words} words."
    if not found.words:
        return "No words were scored: name lists under explore.open_set.lists, and a CLIP model under quality.clip."
    text = (
        f"{found.words} words were scored by the CLIP model; {found.word_candidates} pairs of word and prompt were "
        "found on the first half of the images."
    )
    if found.cut_words:
        text += f" {found.cut_words} more are too long for a text encoder and were left out."
    if found.unknown_words:
        shown = ", ".join(f"“{word}”" for word in found.unknown_words[:12])
        more = f" and {len(found.unknown_words) - 12} more" if len(found.unknown_words) > 12 else ""
        text += (
            f" Nothing is reported of {shown}{more}: images of these words do not score higher than neutral ones, or "
            "were not sampled."
        )
    return text


def more_or_less(one: Finding) -> str:
    """Return the direction of a finding in words."""
    return "more often" if one.difference > 0 else "less often"


def letter(number_of: int) -> str:
    """Return the name of an unnamed attribute: A to Z, then A2."""
    turn, place = divmod(number_of - 1, 26)
    return f"{chr(ord('A') + place)}{turn + 1 if turn else ''}"


def open_set_csv_rows(found: OpenSet) -> Iterator[tuple[object, ...]]:
    """Yield the header, then a row for each finding, of states and of words."""
    yield (
        "kind", "prompt", "attribute_or_word", "rate", "others", "difference", "low", "high", "p", "found", "found_p"
    )  # fmt: skip
    for one in found.findings:
        yield (
            "state", one.prompt, letter(one.attribute), one.rate, one.others, one.difference, one.low, one.high, one.p,
            one.found, one.found_p,
        )  # fmt: skip
    for word in found.word_findings:
        yield "word", word.prompt, word.word, "", "", word.effect, word.low, word.high, word.p, "", ""


def _strips(found: OpenSet, one: Finding | WordFinding) -> dict[str, tuple[bytes, ...]]:
    return {
        "strongest": _pictures(found, one.strip.strongest),
        "weakest": _pictures(found, one.strip.weakest),
    }


def _pictures(found: OpenSet, keys: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(found.pictures[key]) for key in keys if key in found.pictures)
