"""A mistake at one place of a config, and the words that messages about mistakes share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

MOST_NAMES = 50
"""Names in one message: thousands of mistakes that each list thousands of names would fill memory."""

Location = tuple[str | int, ...]
"""Keys and list indices from the root of a config to one of its values."""


@dataclass(frozen=True)
class Problem:
    """A mistake that concerns one place of an otherwise readable config.

    Attributes:
        location: The place.
        message: ``expected …, found …``, and what to do.
        reads: Other places that the check looked at; where one of them is itself mistaken, this problem is no news.
    """

    location: Location
    message: str
    reads: tuple[Location, ...] = ()


def listing(names: Iterable[str]) -> str:
    """Join names for a message: ``gender, age``; of very many only the first."""
    known = tuple(names)
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return ", ".join(known[:MOST_NAMES]) + more


def suggestion(found: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest of ``known``, or nothing where none is close."""
    closest = get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f"; did you mean {closest[0]!r}?" if closest else ""


MODEL_KEYS: tuple[Location, ...] = (("model", "source"), ("model", "world"))
"""The keys that name the audited model."""
