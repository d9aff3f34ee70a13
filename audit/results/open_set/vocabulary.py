"""Words that an open set may be described with: bundled lists, each with its source, and a file of the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

MOST_WORDS = 10_000
OWN = "own"
"""Source of the words of the user's file."""


@dataclass(frozen=True)
class Word:
    """A word.

    Attributes:
        text: The word.
        source: List that has it.
    """

    text: str
    source: str

    def about(self, noun: str) -> str:
        """Return the word with the neutral noun: ``poor person``, ``person at home``, ``person with glasses``."""
        if self.source == "objects":
            return f"{noun} with {self.text}"
        if self.source == "places":
            return f"{noun} {self.text}"
        return self.text if self.source in ("isco08", "winobias") else f"{self.text} {noun}"


def words_of(lists: Sequence[str], file: str | None) -> tuple[Word, ...]:
    """Return the words of bundled lists and of a file, each once.

    Args:
        lists: Names of bundled lists.
        file: Path of a text file with one word on each line; None for none.

    Raises:
        ValueError: The file cannot be read, has no word, or too many.
    """
    found: dict[str, Word] = {}
    for name in lists:
        text = resources.files(__package__).joinpath(f"lists/{name}.txt").read_text("utf-8")
        for word in _lines(text):
            found.setdefault(word, Word(word, name))
    for word in () if file is None else _own(file):
        found.setdefault(word, Word(word, OWN))
    return tuple(found.values())


def _own(file: str) -> tuple[str, ...]:
    at = f"explore.open_set.vocabulary: expected a text file with one word on each line, found {file!r}"
    try:
        words = _lines(Path(file).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{at} that cannot be read ({error})") from error
    if not words:
        raise ValueError(f"{at} without a word; write one on each line")
    if len(words) > MOST_WORDS:
        raise ValueError(f"{at} with {len(words)} words; keep at most {MOST_WORDS}")
    return words


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))
