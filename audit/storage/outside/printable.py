"""Text from outside, made safe to print: what a terminal or a log reader would act on is shown instead of sent."""

from __future__ import annotations

import unicodedata

_ACTS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control, format (bidirectional overrides are among them), surrogate, line and paragraph."""


def printable(text: str) -> str:
    """Return one line of ``text`` with control characters as escapes, so that none of them clears a screen."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if unicodedata.category(character) in _ACTS else character for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
