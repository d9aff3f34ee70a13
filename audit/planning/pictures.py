"""Reads which pictures an audit of existing pictures uses: a folder per prompt, or a CSV manifest.

Only names and the manifest are read here, no picture. All errors are reported together, those of a manifest with line
and column.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from audit.config.document.text import read_text
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.problems import listing, suggestion
from audit.storage.outside.csv_line import Value, csv_values
from audit.storage.outside.picture_folder import SUFFIXES, picture_folder
from audit.storage.outside.safe_text import printable

if TYPE_CHECKING:
    from audit.config.sections import ModelConfig

REQUIRED, OPTIONAL = ("path", "prompt"), ("occupation", "seed")

MAX_BYTES = 200_000_000
"""Size limit of a manifest, enough for a million pictures."""

MAX_TEXT = 500
"""Characters of a prompt or an occupation, as in a config."""

SEEDS = range(2**63)


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        path: Its file.
        name: Its path relative to the folder or to the manifest, the same on every machine.
        seed: The seed that it was made from, None if it is not known.
        line: Its line in the manifest, None in a folder.
    """

    path: Path
    name: str
    seed: int | None = None
    line: int | None = None


@dataclass(frozen=True)
class PictureGroup:
    """The pictures of one prompt.

    Attributes:
        occupation: Name of the prompt.
        text: Text of the prompt; None if only the occupation is known.
        pictures: Its pictures; the position of a picture is its index.
    """

    occupation: str
    text: str | None
    pictures: tuple[Picture, ...]


class PictureErrors(ConfigErrors):
    """All errors of a manifest or a folder of pictures."""

    subject = "pictures"


def picture_groups(model: ModelConfig) -> tuple[PictureGroup, ...]:
    """Return the pictures of every prompt, in the order of the manifest or of the folders' names.

    Args:
        model: Section ``model`` with ``source: images``.

    Raises:
        PictureErrors: All errors found; pictures themselves are not read.
    """
    if model.folder is not None:
        return _groups_of_folder(Path(model.folder))
    path = Path(model.manifest or "")
    try:
        status = path.stat()
    except OSError as error:
        message = f"expected a readable CSV file, found none ({error.strerror}); check the path"
        raise PictureErrors([ConfigError(str(path), None, None, "", message)]) from error
    return _groups_of_manifest(path, status.st_mtime_ns, status.st_size)


def _groups_of_folder(directory: Path) -> tuple[PictureGroup, ...]:
    if not directory.is_dir():
        raise _folder_errors(directory, ["expected a directory with a folder per prompt, found none; check the path"])
    found = picture_folder(directory)
    messages = [f"expected pictures that can be read, found {one.path}: {one.reason}" for one in found.unusable]
    by_folder: dict[str, list[Path]] = {}
    for path in found.pictures:
        by_folder.setdefault(path.relative_to(directory).parts[0], []).append(path)
    groups = {}
    for name, paths in sorted(by_folder.items()):
        if paths == [directory / name]:
            messages.append(f"expected a folder per prompt, found the picture {name} beside them; move it into one")
            continue
        occupation = " ".join(name.replace("_", " ").replace("-", " ").split())
        if occupation in groups:
            messages.append(f"expected one folder for each occupation, found a second for {occupation!r}: {name}")
        pictures = tuple(Picture(path, path.relative_to(directory).as_posix()) for path in paths)
        groups[occupation] = PictureGroup(occupation, None, pictures)
    messages += [
        f"expected pictures in every folder, found none in {name}; add some, or remove the folder"
        for name in _folders(directory)
        if name not in by_folder
    ]
    if not groups and not messages:
        kinds = listing(sorted(SUFFIXES))
        messages.append(f"expected a folder per prompt with pictures ({kinds}) in it, found none; add some")
    messages += [f"expected a name of printable text, found {name!r}; rename it" for name in groups if _unfit(name)]
    if messages:
        raise _folder_errors(directory, messages)
    return tuple(groups.values())


def _folders(directory: Path) -> list[str]:
    """Return the names of the folders in a directory, without hidden ones and those of archives and file servers."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[0] not in "._@$")


def _folder_errors(directory: Path, messages: Sequence[str]) -> PictureErrors:
    return PictureErrors([ConfigError(str(directory), None, None, "", message) for message in messages])


@lru_cache(maxsize=4)
def _groups_of_manifest(path: Path, _written: int, _size: int) -> tuple[PictureGroup, ...]:
    """Read a manifest; modification time and size are there for the cache."""
    try:
        lines = read_text(path, "CSV file", MAX_BYTES).splitlines()
    except ConfigErrors as error:
        raise PictureErrors(error.errors) from error
    reading = _Reading(path)
    header = reading.header(lines[0] if lines else "")
    for number, line in enumerate(lines[1:] if header else (), start=2):
        if line.strip():
            reading.take(number, line, header)
    if header and not reading.groups and not reading.errors:
        reading.note(1, 1, "", "expected pictures below the header, found none; add rows")
    if reading.errors:
        raise PictureErrors(reading.errors)
    return tuple(
        PictureGroup(occupation, reading.texts[occupation][0], tuple(pictures))
        for occupation, pictures in reading.groups.items()
    )


@dataclass
class _Reading:
    """What was read from a manifest so far.

    Attributes:
        path: The manifest.
        errors: Its errors so far.
        groups: Occupation → its pictures.
        texts: Occupation → the text of its prompt and the line that gave it first.
        lines: Name of a picture → the line that named it first.
    """

    path: Path
    errors: list[ConfigError] = field(default_factory=list)
    groups: dict[str, list[Picture]] = field(default_factory=dict)
    texts: dict[str, tuple[str, int]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def note(self, line: int, column: int, where: str, message: str) -> None:
        """Record an error."""
        self.errors.append(ConfigError(str(self.path), line, column, where, message))

    def header(self, line: str) -> tuple[str, ...]:
        """Return the columns; empty if the header has an error."""
        expected = f"expected a header with {','.join(REQUIRED)} and optionally {','.join(OPTIONAL)}"
        cells = self._cells(1, line, expected)
        names, known = tuple(cell.text for cell in cells), (*REQUIRED, *OPTIONAL)
        for position, cell in enumerate(cells):
            if cell.text not in known:
                hint = suggestion(cell.text, known) or "; remove it"
                self.note(1, cell.column, "", f"{expected}, found {cell.text!r}{hint}")
            elif cell.text in names[:position]:
                self.note(1, cell.column, "", f"expected each column once, found {cell.text!r} again; remove one")
        missing = [name for name in REQUIRED if name not in names]
        if missing and not self.errors:
            self.note(1, 1, "", f"{expected}, found no {listing(missing)}; add it")
        return () if self.errors else names

    def _cells(self, number: int, line: str, expected: str) -> list[Value]:
        try:
            return csv_values(line) if line.strip() else []
        except csv.Error as error:
            self.note(number, 1, "", f"{expected}, found {error}; correct the line")
            return []

    def take(self, number: int, line: str, header: Sequence[str]) -> None:
        """Read one row."""
        before = len(self.errors)
        cells = self._cells(number, line, "expected values separated by commas")
        if cells and len(cells) != len(header):
            expected = f"expected {len(header)} values ({listing(header)}), found {len(cells)}"
            self.note(number, 1, "", f"{expected}; put a value with a comma in double quotes")
        if len(self.errors) > before:
            return
        row = dict(zip(header, cells, strict=True))
        for column, message in self._mistakes(number, row):
            self.note(number, row[column].column, column, message)
        if len(self.errors) > before:
            return
        seed = row["seed"].text if "seed" in row else ""
        name = row["path"].text
        picture = Picture(self.path.parent / name, name, int(seed) if seed else None, number)
        self.groups.setdefault(_occupation(row), []).append(picture)

    def _mistakes(self, number: int, row: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
        """Yield column and message of each error in a row."""
        yield from self._mistaken_path(number, row["path"].text)
        for column in ("prompt", "occupation"):
            text = row[column].text if column in row else "none"
            if _unfit(text):
                yield column, f"expected 1 to {MAX_TEXT} printable characters, found {text[:60]!r}; correct it"
        seed = row["seed"].text if "seed" in row else ""
        if seed and not (seed.isascii() and seed.isdecimal() and len(seed) < 20 and int(seed) in SEEDS):
            yield "seed", f"expected a whole number from 0 to 2^63 - 1, or nothing, found {seed[:40]!r}; correct it"
        text, first = self.texts.setdefault(_occupation(row), (row["prompt"].text, number))
        if text != row["prompt"].text:
            where = f"the prompt of {_occupation(row)!r} in line {first} is {text!r}"
            yield "prompt", f"expected one prompt for each occupation, found {row['prompt'].text!r}; {where}"

    def _mistaken_path(self, number: int, name: str) -> Iterator[tuple[str, str]]:
        path, kinds = self.path.parent / name, listing(sorted(SUFFIXES))
        first = self.lines.setdefault(os.path.normpath(name), number)
        if not name:
            yield "path", "expected the path of a picture, found nothing; remove the row, or name a file"
        elif first != number:
            yield "path", f"expected each picture once, found {name!r} again; the first is in line {first}"
        elif path.suffix.lower() not in SUFFIXES:
            yield "path", f"expected a picture ({kinds}), found {name!r}; save it as PNG"
        elif not _is_file(path):
            yield "path", f"expected a picture, found no file at {path}; paths start from the directory of this file"


def _occupation(row: Mapping[str, Value]) -> str:
    return row.get("occupation", row["prompt"]).text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with a null character
        return False


def _unfit(text: str) -> bool:
    return not text or len(text) > MAX_TEXT or printable(text) != text
