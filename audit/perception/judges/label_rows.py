"""Reads the rows of a CSV file of labels; every value keeps its position, so that all errors are reported with it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.config.document.text import read_text
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.problems import listing, suggestion
from audit.storage.outside.csv_line import csv_values

MAX_BYTES = 20_000_000
"""Size limit of a file, enough for some hundred thousand labels."""


class LabelErrors(ConfigErrors):
    """All errors of a file of labels."""

    subject = "labels"


@dataclass(frozen=True)
class Cell:
    """A value and its position; line and column count from 1."""

    text: str
    line: int
    column: int

    def error(self, file: str, name: str, message: str) -> ConfigError:
        """Return an error at this position."""
        return ConfigError(file, self.line, self.column, name, message)


Row = Mapping[str, Cell]
"""Column → cell; all required columns are present, and no cell is empty."""


@dataclass(frozen=True)
class Layout:
    """Columns of a file: those that it must have, and those that it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def read_rows(path: Path | str, *layouts: Layout) -> tuple[list[Row], list[ConfigError]]:
    """Split a file into rows and errors of rows.

    Args:
        path: The CSV file, UTF-8, with a header.
        layouts: Possible columns. The file has the first layout whose required columns are all in its header.

    Raises:
        LabelErrors: The file cannot be read, or its header has an error.
    """
    file, lines = str(path), _read_lines(path)
    header, errors = _header(lines, layouts, file)
    if errors:
        raise LabelErrors(errors)
    rows: list[Row] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            cells = _cells(line, number)
        except csv.Error as error:
            errors.append(ConfigError(file, number, 1, "", f"expected values separated by commas, found {error}"))
            continue
        found = _row_mistakes(cells, header, file)
        errors += found
        if not found:
            rows.append(dict(zip(header, cells, strict=True)))
    if not rows and not errors:
        errors.append(ConfigError(file, 1, 1, "", "expected labels below the header, found none; add rows"))
    return rows, errors


def nearest(cell: Cell, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known name, or an empty text."""
    return suggestion(cell.text, known)


def _read_lines(path: Path | str) -> list[str]:
    try:
        return read_text(Path(path), "CSV file", MAX_BYTES).splitlines()
    except ConfigErrors as error:
        raise LabelErrors(error.errors) from error


def _header(lines: Sequence[str], layouts: Sequence[Layout], file: str) -> tuple[list[str], list[ConfigError]]:
    expected = f"expected a header with {' or '.join(','.join(layout.required) for layout in layouts)}"
    if not lines or not lines[0].strip():
        return [], [ConfigError(file, 1, 1, "", f"{expected}, found an empty line")]
    try:
        cells = _cells(lines[0], 1)
    except csv.Error as error:
        return [], [ConfigError(file, 1, 1, "", f"{expected}, found {error}")]
    names = [cell.text for cell in cells]
    layout = max(layouts, key=lambda one: len(set(one.required) & set(names)) / len(one.required))
    known = (*layout.required, *layout.optional)
    errors = [
        cell.error(file, "", f"expected one of {listing(known)}; found {cell.text!r}{nearest(cell, known)}")
        for cell in cells
        if cell.text not in known
    ]
    errors += [
        cell.error(file, "", f"expected each column once, found {cell.text!r} again")
        for position, cell in enumerate(cells)
        if cell.text in names[:position]
    ]
    missing = [name for name in layout.required if name not in names]
    if missing:
        errors.append(ConfigError(file, 1, 1, "", f"{expected}; {listing(missing)} is missing"))
    return names, errors


def _cells(line: str, number: int) -> list[Cell]:
    return [Cell(value.text, number, value.column) for value in csv_values(line)]


def _row_mistakes(cells: Sequence[Cell], header: Sequence[str], file: str) -> list[ConfigError]:
    if len(cells) != len(header):
        message = f"expected {len(header)} values ({listing(header)}), found {len(cells)}"
        return [ConfigError(file, cells[0].line, 1, "", message)]
    empty = "expected a name, found nothing; remove rows that are not labelled"
    return [cell.error(file, name, empty) for name, cell in zip(header, cells, strict=True) if not cell.text]
