"""The storage interface: atomic reads and writes of whole files in a directory or under an object-store prefix.

Names are relative to the place and use ``/`` as separator. A file exists completely under its name, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from audit.storage.local_files import LocalStorage
from audit.storage.object_store import ObjectStore
from audit.storage.place import Place


class Storage(Protocol):
    """The files of one place.

    Every method can raise :class:`audit.storage.object_store.StorageError` if an object store does not answer or
    refuses, and ``OSError`` for a local disk.
    """

    def owns(self, name: str) -> bool:
        """Return whether a name refers to something inside this place, also after links are resolved."""
        ...

    def has(self, name: str) -> bool:
        """Return whether the file exists, without listing others."""
        ...

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return the content of a file, or its first ``most`` bytes.

        Raises:
            FileNotFoundError: If the file does not exist.
        """
        ...

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield the contents of files in the order of ``names``, None for a missing file."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file atomically."""
        ...

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write several files in any order, each of them atomically."""
        ...

    def append(self, name: str, line: str) -> None:
        """Append a line to a journal; lines that two processes append at the same time do not mix."""
        ...

    def lines(self, name: str) -> tuple[str, ...]:
        """Return the lines of a journal in the order in which they were added; empty if there is no journal."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file if it exists."""
        ...

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names of the complete files directly in a folder, relative to it; empty if there are none."""
        ...

    def folders(self) -> tuple[str, ...]:
        """Return the names of the folders directly in the place."""
        ...

    def written(self, name: str) -> float:
        """Return the modification time of a file, in seconds since 1970.

        Raises:
            FileNotFoundError: If the file does not exist.
        """
        ...

    def on_disk(self, name: str) -> AbstractContextManager[Path]:
        """Provide a local file with the same base name and content, for code that reads only local files."""
        ...


def storage_of(place: Place) -> Storage:
    """Return the storage for a place."""
    return LocalStorage(place) if isinstance(place, Path) else ObjectStore(place)
