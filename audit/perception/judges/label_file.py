"""Reads hand labels of images from a CSV file and counts them into confusion matrices of the judge.

The file has one row for each image and attribute, ``attribute,truth,perceived``, so an image can be labelled for only
some attributes. All errors of the file are reported together, with their lines and columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from audit.config.errors import ConfigError
from audit.config.problems import listing
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.perception.judges.confusion_file import ANSWERS
from audit.perception.judges.label_rows import LabelErrors, Layout, Row, nearest, read_rows

LAYOUT = Layout(required=("attribute", "truth", "perceived"), optional=("image",))

Known = Mapping[str, Sequence[str]]
"""Attribute → groups."""


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
    rows, errors = read_rows(path, LAYOUT)
    known = _groups_named(rows) if attributes is None else _with_others(attributes, others or {}, rows)
    errors += _mistaken_names(rows, known, file)
    errors += _repeated(rows, file)
    # A missing label may be in a row that was removed because of another error.
    if not errors:
        errors += _missing(rows, known, file)
    if errors:
        raise LabelErrors(errors)
    return {attribute: _matrix(rows, attribute, known[attribute]) for attribute in known if _labels(rows, attribute)}


def _groups_named(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Return the groups that occur both as a truth and as an answer, by attribute in the order of the file."""
    truths: dict[str, set[str]] = {}
    answers: dict[str, set[str]] = {}
    for row in rows:
        truths.setdefault(row["attribute"].text, set()).add(row["truth"].text)
        answers.setdefault(row["attribute"].text, set()).add(row["perceived"].text)
    return {attribute: tuple(sorted(truths[attribute] & answers[attribute])) for attribute in truths}


def _with_others(attributes: Known, others: Known, rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Add the other groups that occur in labels to the groups of each attribute."""
    named: dict[str, set[str]] = {}
    for row in rows:
        named.setdefault(row["attribute"].text, set()).update((row["truth"].text, row["perceived"].text))
    return {
        name: (*groups, *(g for g in others.get(name, ()) if g not in groups and g in named.get(name, ())))
        for name, groups in attributes.items()
    }


def _mistaken_names(rows: Iterable[Row], known: Known, file: str) -> Iterator[ConfigError]:
    """Find all occurrences of unknown attributes and groups."""
    for row in rows:
        attribute = row["attribute"]
        if attribute.text not in known or attribute.text == ANSWERS:
            choice = [name for name in known if name != ANSWERS]
            message = f"expected an attribute ({listing(choice)}), found {attribute.text!r}{nearest(attribute, choice)}"
            yield attribute.error(file, "attribute", message)
            continue
        groups = known[attribute.text]
        for column in ("truth", "perceived"):
            cell = row[column]
            if cell.text not in groups:
                expected = (
                    f"expected a group of {attribute.text} ({listing(groups) or 'none occurs as truth and as answer'})"
                )
                message = f"{expected}, found {cell.text!r}{nearest(cell, groups)}"
                yield cell.error(file, column, message)


def _repeated(rows: Iterable[Row], file: str) -> Iterator[ConfigError]:
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
            yield image.error(file, "image", message)


def _missing(rows: Sequence[Row], known: Known, file: str) -> Iterator[ConfigError]:
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


def _labels(rows: Iterable[Row], attribute: str) -> list[tuple[str, str]]:
    """Return (truth, perceived) of every image that was labelled for ``attribute``."""
    return [(row["truth"].text, row["perceived"].text) for row in rows if row["attribute"].text == attribute]


def _matrix(rows: Iterable[Row], attribute: str, groups: Sequence[str]) -> ConfusionMatrix:
    counts = Counter(_labels(rows, attribute))
    return ConfusionMatrix.of(groups, [[counts[truth, perceived] for perceived in groups] for truth in groups])
