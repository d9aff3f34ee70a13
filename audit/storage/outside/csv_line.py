"""Splits one line of a CSV file into values with their columns, so that an error can be reported at its position."""

from __future__ import annotations

import csv
from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """A value without surrounding spaces, and the column at which it starts, counted from 1."""

    text: str
    column: int


def csv_values(line: str) -> list[Value]:
    """Split a line at its commas, except those inside quotes; no value may contain a line break.

    Raises:
        csv.Error: A quote is not closed, or is inside a value.
    """
    texts = next(csv.reader([line], strict=True, skipinitialspace=True))
    starts, quoted = [0], False
    for position, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            starts.append(position + 1)
    if len(texts) != len(starts):
        raise csv.Error("a quote inside a value; quote the whole value and double the quote in it")
    return [Value(text.strip(), start + _blanks(line[start:]) + 1) for text, start in zip(texts, starts, strict=True)]


def _blanks(text: str) -> int:
    return len(text) - len(text.lstrip(" "))
