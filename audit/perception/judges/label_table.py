"""A table of labels by hand: image → attribute → group, read from a CSV file.

Images are named by their path below a folder of pictures, or by prompt, index and arm as in ``results.parquet``. The
images that an audit keeps have such paths (``images/nurse/00000-baseline.webp``), so both name the same image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from audit.config.errors import ConfigError
from audit.config.problems import listing
from audit.perception.judges.label_rows import LabelErrors, Layout, Row, nearest, read_rows
from audit.records.work import BASELINE
from audit.storage.run_directory import IMAGES
from audit.storage.run_directory import image_name as kept_image

BY_IMAGE = Layout(required=("image", "attribute", "group"))
BY_PROMPT = Layout(required=("prompt_id", "index", "attribute", "group"), optional=("arm",))

_KEPT = re.compile(rf"{IMAGES}/([^/]+/[0-9]{{5}}-[^/]+\.webp)")
"""Path of a picture that an audit keeps, from its run directory."""

_INDEX = re.compile(r"[0-9]{1,7}")


@dataclass(frozen=True)
class LabelTable:
    """Labels of images.

    Attributes:
        labels: Name of an image (:func:`image_name`, :func:`key_name`) → attribute → group.
    """

    labels: Mapping[str, Mapping[str, str]]

    @property
    def answers(self) -> dict[str, tuple[str, ...]]:
        """Attribute → all groups that occur, in the order of the file."""
        found: dict[str, dict[str, None]] = {}
        for of_image in self.labels.values():
            for attribute, group in of_image.items():
                found.setdefault(attribute, {})[group] = None
        return {attribute: tuple(groups) for attribute, groups in found.items()}


def image_name(path: str) -> str:
    """Return the name of an image from its path: without ``./``, and without ``images/`` for one that an audit kept."""
    name = PurePosixPath(path.replace("\\", "/")).as_posix()
    kept = _KEPT.fullmatch(name)
    return kept[1] if kept is not None else name


def key_name(prompt_id: str, index: int, arm: str = BASELINE) -> str:
    """Return the name of an image of an audit: ``nurse/00000-baseline.webp``."""
    return kept_image(prompt_id, index, arm).removeprefix(f"{IMAGES}/")


def read_label_table(path: Path | str, known: Mapping[str, Sequence[str]] | None = None) -> LabelTable:
    """Read a table of labels.

    Args:
        path: The CSV file, UTF-8, with the columns ``image,attribute,group``, or ``prompt_id,index,attribute,group``
            and optionally ``arm`` (default: ``baseline``).
        known: Attribute → groups that labels of it may name. Labels of other attributes are not checked; without it,
            none are.

    Raises:
        LabelErrors: All errors found, in file order.
    """
    file = str(path)
    rows, errors = read_rows(path, BY_IMAGE, BY_PROMPT)
    labels: dict[str, dict[str, str]] = {}
    first: dict[tuple[str, str], int] = {}
    for row in rows:
        found = tuple(_row_errors(row, file, known or {}))
        errors += found
        if found:
            continue
        name, attribute = _name(row), row["attribute"].text
        line = first.setdefault((name, attribute), row["attribute"].line)
        if line != row["attribute"].line:
            message = f"expected one label of {attribute} for {name!r}, found a second; the first is in line {line}"
            errors.append(row["attribute"].error(file, "attribute", message))
        labels.setdefault(name, {})[attribute] = row["group"].text
    if errors:
        raise LabelErrors(errors)
    return LabelTable(labels)


def _row_errors(row: Row, file: str, known: Mapping[str, Sequence[str]]) -> Iterator[ConfigError]:
    index = row.get("index")
    if index is not None and not _INDEX.fullmatch(index.text):
        yield index.error(file, "index", f"expected the number of an image, found {index.text!r}; correct it")
    attribute, group = row["attribute"].text, row["group"]
    groups = known.get(attribute)
    if groups is not None and group.text not in groups:
        message = f"expected a group of {attribute} ({listing(groups)}), found {group.text!r}"
        remedy = nearest(group, groups) or "; remove the row, or choose a judge that knows the group"
        yield group.error(file, "group", message + remedy)


def _name(row: Row) -> str:
    if "image" in row:
        return image_name(row["image"].text)
    arm = row["arm"].text if "arm" in row else BASELINE
    return key_name(row["prompt_id"].text, int(row["index"].text), arm)
