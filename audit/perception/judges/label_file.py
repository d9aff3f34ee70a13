"""Reads hand labels of images from a CSV file and counts them into confusion matrices of the judge.

The file has one row for each image and attribute, ``attribute,truth,perceived``, so an image can be labelled for only
some attributes. All errors of the file are reported together, with their lines and columns.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.config.document.text import read_text
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.problems import listing, suggestion
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.perception.judges.confusion_file import ANSWERS
from audit.storage.outside.csv_line import csv_values

REQUIRED = ("attribute", "truth", "perceived")
OPTIONAL = ("image",)

Known = Mapping[str, Sequence[str]]
"""Attribute → groups."""


MAX_BYTES = 20_000_000
"""Size limit of the file, enough for some hundred thousand labels."""


class LabelErrors(ConfigErrors):
    """All errors of a file of labels."""

    subject = "labels"


@dataclass(frozen=True)
class _Cell:
    """A value and its position; line and column count from 1."""

    text: str
    line: int
    column: int


_Row = Mapping[str, _Cell]
"""Column → cell; all required columns are present, and no cell is empty."""


def read_labels(
    path: Path | str, attributes: Known | None = None, others: Known | None = None
) -> dict[str, ConfusionMatrix]:
    """Read labels and count them, for each attribute in the file.

    Args:
        path: The CSV file, UTF-8, with a header.
        attributes: Attribute → groups that the labels may name. Without it, the groups are those in the file, in
            alphabetical order. Each must then occur both as a truth and as an answer; otherwise it counts as a typing
            error.
        others: Attribute → groups that the judge knows in addition to those of ``attributes``. A label may name them
            too: "adult" is a valid label if a config audits only "young" and "old".

    Raises:
        LabelErrors: All errors found, in file order.
    """
    file = str(path)
    lines = _read_lines(path)
    rows, errors = _rows(lines, file)
    if rows is None:
        raise LabelErrors(errors)
    known = _groups_named(rows) if attributes is None else _with_others(attributes, others or {}, rows)
    errors += _mistaken_names(rows, known, file)
    errors += _repeated(rows, file)
    # A missing label may be in a row that was removed because of another error.
    if not errors:
        errors += _missing(rows, known, file)
    if errors:
        raise LabelErrors(errors)
    return {attribute: _matrix(rows, attribute, known[attribute]) for attribute in known if _labels(rows, attribute)}


def _read_lines(path: Path | str) -> list[str]:
    try:
        return read_text(Path(path), "CSV file", MAX_BYTES).splitlines()
    except ConfigErrors as error:
        raise LabelErrors(error.errors) from error


def _rows(lines: Sequence[str], file: str) -> tuple[list[_Row] | None, list[ConfigError]]:
    """Split lines into rows and errors; the rows are None if the header has an error."""
    header, errors = _header(lines, file)
    if errors:
        return None, errors
    rows: list[_Row] = []
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


def _header(lines: Sequence[str], file: str) -> tuple[list[str], list[ConfigError]]:
    expected = f"expected a header with {','.join(REQUIRED)}"
    if not lines or not lines[0].strip():
        return [], [ConfigError(file, 1, 1, "", f"{expected}, found an empty line")]
    try:
        cells = _cells(lines[0], 1)
    except csv.Error as error:
        return [], [ConfigError(file, 1, 1, "", f"{expected}, found {error}")]
    names = [cell.text for cell in cells]
    known = (*REQUIRED, *OPTIONAL)
    errors = [
        ConfigError(
            file, 1, cell.column, "", f"expected one of {listing(known)}; found {cell.text!r}{_nearest(cell, known)}"
        )
        for cell in cells
        if cell.text not in known
    ]
    errors += [
        ConfigError(file, 1, cell.column, "", f"expected each column once, found {cell.text!r} again")
        for position, cell in enumerate(cells)
        if cell.text in names[:position]
    ]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        errors.append(ConfigError(file, 1, 1, "", f"{expected}; {listing(missing)} is missing"))
    return names, errors


def _cells(line: str, number: int) -> list[_Cell]:
    return [_Cell(value.text, number, value.column) for value in csv_values(line)]


def _row_mistakes(cells: Sequence[_Cell], header: Sequence[str], file: str) -> list[ConfigError]:
    if len(cells) != len(header):
        message = f"expected {len(header)} values ({listing(header)}), found {len(cells)}"
        return [ConfigError(file, cells[0].line, 1, "", message)]
    return [
        ConfigError(
            file, cell.line, cell.column, name, "expected a name, found nothing; remove rows that are not labelled"
        )
        for name, cell in zip(header, cells, strict=True)
        if not cell.text
    ]


def _groups_named(rows: Iterable[_Row]) -> dict[str, tuple[str, ...]]:
    """Return the groups that occur both as a truth and as an answer, by attribute in the order of the file."""
    truths: dict[str, set[str]] = {}
    answers: dict[str, set[str]] = {}
    for row in rows:
        truths.setdefault(row["attribute"].text, set()).add(row["truth"].text)
        answers.setdefault(row["attribute"].text, set()).add(row["perceived"].text)
    return {attribute: tuple(sorted(truths[attribute] & answers[attribute])) for attribute in truths}


def _with_others(attributes: Known, others: Known, rows: Iterable[_Row]) -> dict[str, tuple[str, ...]]:
    """Add the other groups that occur in labels to the groups of each attribute."""
    named: dict[str, set[str]] = {}
    for row in rows:
        named.setdefault(row["attribute"].text, set()).update((row["truth"].text, row["perceived"].text))
    return {
        name: (*groups, *(g for g in others.get(name, ()) if g not in groups and g in named.get(name, ())))
        for name, groups in attributes.items()
    }


def _mistaken_names(rows: Iterable[_Row], known: Known, file: str) -> Iterator[ConfigError]:
    """Find all occurrences of unknown attributes and groups."""
    for row in rows:
        attribute = row["attribute"]
        if attribute.text not in known or attribute.text == ANSWERS:
            choice = [name for name in known if name != ANSWERS]
            message = (
                f"expected an attribute ({listing(choice)}), found {attribute.text!r}{_nearest(attribute, choice)}"
            )
            yield ConfigError(file, attribute.line, attribute.column, "attribute", message)
            continue
        groups = known[attribute.text]
        for column in ("truth", "perceived"):
            cell = row[column]
            if cell.text not in groups:
                expected = (
                    f"expected a group of {attribute.text} ({listing(groups) or 'none occurs as truth and as answer'})"
                )
                message = f"{expected}, found {cell.text!r}{_nearest(cell, groups)}"
                yield ConfigError(file, cell.line, cell.column, column, message)


def _repeated(rows: Iterable[_Row], file: str) -> Iterator[ConfigError]:
    """Find images with two labels for one attribute, which would count twice."""
    first: dict[tuple[str, str], int] = {}
    for row in rows:
        if "image" not in row:
            return
        image = row["image"]
        line = first.setdefault((image.text, row["attribute"].text), image.line)
        if line != image.line:
            message = (
                f"expected one label of {row['attribute'].text} for {image.text!r}, found a second; the first is in "
                f"line {line}"
            )
            yield ConfigError(file, image.line, image.column, "image", message)


def _missing(rows: Sequence[_Row], known: Known, file: str) -> Iterator[ConfigError]:
    """Find groups without a label, whose row of the matrix would be empty."""
    for attribute in {row["attribute"].text: None for row in rows}:
        groups = known[attribute]
        if len(groups) < 2:
            message = f"expected at least 2 groups of {attribute}, found {listing(groups)}; label images of another one"
            yield ConfigError(file, None, None, "", message)
        truths = {truth for truth, _ in _labels(rows, attribute)}
        for group in groups:
            if group not in truths:
                message = f"expected images whose {attribute} is {group}, found none; label about 200 of them"
                yield ConfigError(file, None, None, "", message)


def _labels(rows: Iterable[_Row], attribute: str) -> list[tuple[str, str]]:
    """Return (truth, perceived) of every image that was labelled for ``attribute``."""
    return [(row["truth"].text, row["perceived"].text) for row in rows if row["attribute"].text == attribute]


def _matrix(rows: Iterable[_Row], attribute: str, groups: Sequence[str]) -> ConfusionMatrix:
    counts = Counter(_labels(rows, attribute))
    return ConfusionMatrix.of(groups, [[counts[truth, perceived] for perceived in groups] for truth in groups])


def _nearest(cell: _Cell, known: Iterable[str]) -> str:
    return suggestion(cell.text, known)
