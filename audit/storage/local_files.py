"""Files of a local directory with atomic writes: a temporary file is flushed to disk and then renamed."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

_TEMPORARY = ".tmp"
"""Suffix of a file that is being written; a process that was killed may leave one."""


@dataclass(frozen=True)
class LocalStorage:
    """The files under one directory; :class:`audit.storage.files.Storage` documents each method.

    Attributes:
        directory: The directory; it need not exist before the first write.
    """

    directory: Path

    def owns(self, name: str) -> bool:
        """Resolve the name with all links in it."""
        return "\0" not in name and (self.directory / name).resolve().is_relative_to(self.directory.resolve())

    def has(self, name: str) -> bool:
        """Query the file system."""
        return (self.directory / name).is_file()

    def read(self, name: str, most: int | None = None) -> bytes:
        """Read a regular file; anything else, for example a pipe that would block, counts as missing."""
        path = self.directory / name
        if path.exists() and not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Read one file after the other, on demand."""
        for name in names:
            try:
                yield self.read(name)
            except FileNotFoundError:
                yield None

    def write(self, name: str, data: bytes) -> None:
        """Write under a temporary name and rename."""
        write_atomically(self.directory / name, data)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write one file after the other."""
        for name, data in files.items():
            self.write(name, data)

    def append(self, name: str, line: str) -> None:
        """Add the line in one write at the end of the file, and flush it to the disk."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_short = path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (f"\n{line}\n" if cut_short else f"{line}\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self, name: str) -> tuple[str, ...]:
        """Read the file; a line that a crash left incomplete is included."""
        try:
            return tuple((self.directory / name).read_text(encoding="utf-8", errors="replace").splitlines())
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def delete(self, name: str) -> None:
        """Remove the file."""
        (self.directory / name).unlink(missing_ok=True)

    def names(self, folder: str) -> tuple[str, ...]:
        """List the directory, without files that are being written."""
        try:
            with os.scandir(self.directory / folder) as entries:
                return tuple(sorted(e.name for e in entries if e.is_file() and not _is_temporary(e.name)))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def folders(self) -> tuple[str, ...]:
        """List the directory."""
        try:
            with os.scandir(self.directory) as entries:
                return tuple(sorted(entry.name for entry in entries if entry.is_dir()))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def written(self, name: str) -> float:
        """Query the file system."""
        return (self.directory / name).stat().st_mtime

    def on_disk(self, name: str) -> AbstractContextManager[Path]:
        """Provide the file itself."""
        return nullcontext(self.directory / name)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` atomically to ``path``; parent directories are created.

    The temporary name is unique, so two workers can write the same shard; the last rename wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_directory(path.parent)


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(_TEMPORARY)


def _flush_directory(path: Path) -> None:
    """Make a rename durable: POSIX stores it in the directory, not in the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
