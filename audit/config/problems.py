"""An error at one location of a config, and helpers for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

MOST_NAMES = 50
"""Limit of names in one message; thousands of errors that each list thousands of names would fill memory."""

Location = tuple[str | int, ...]
"""Keys and list indices from the root of a config to one of its values."""


@dataclass(frozen=True)
class Problem:
    """An error at one location of a config that can otherwise be read.

    Attributes:
        location: The location.
        message: ``expected …, found …``, and what to do.
        reads: Other locations that the check read; if one of them has an error itself, this problem is not reported.
    """

    location: Location
    message: str
    reads: tuple[Location, ...] = ()


def listing(names: Iterable[str]) -> str:
    """Join names for a message: ``gender, age``; a long list is cut."""
    known = tuple(names)
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return ", ".join(known[:MOST_NAMES]) + more


def suggestion(found: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest of ``known``, or an empty text if no name is close."""
    closest = get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f"; did you mean {closest[0]!r}?" if closest else ""


MODEL_KEYS: tuple[Location, ...] = (("model", "source"), ("model", "world"))
"""The keys that name the audited model."""
