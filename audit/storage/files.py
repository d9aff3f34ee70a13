"""What reads and writes whole files in a place, whether that is a directory or a prefix in an object store.

Names are relative to the place and parted by ``/``. A file is whole under its name or it is not there.
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

    Whatever is promised here, a store that does not answer, or refuses, raises
    :class:`audit.storage.object_store.StorageError`, and a disk an ``OSError``.
    """

    def owns(self, name: str) -> bool:
        """Tell whether a name means something of this place, and leads out of it neither by itself nor by a link."""
        ...

    def has(self, name: str) -> bool:
        """Tell whether there is such a file, without listing others."""
        ...

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return what a file holds, only its first ``most`` bytes where that is given.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        ...

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield what files hold in the order of their names, None for one that is not there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is either as it was before, or whole; an older one is replaced."""
        ...

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write several files, in whatever order; each is whole or as it was before."""
        ...

    def append(self, name: str, line: str) -> None:
        """Add a line to a journal; lines of two processes that append at once do not mix."""
        ...

    def lines(self, name: str) -> tuple[str, ...]:
        """Return the lines of a journal in the order in which they were added, none where there is no journal."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names of the files that lie in a folder itself, without the folder; none where there is none."""
        ...

    def folders(self) -> tuple[str, ...]:
        """Return the names of the folders that lie in the place itself."""
        ...

    def written(self, name: str) -> float:
        """Return when a file was written, in seconds since 1970.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        ...

    def on_disk(self, name: str) -> AbstractContextManager[Path]:
        """Lend a local file of the same last name with the same content, for those who read nothing else."""
        ...


def storage_of(place: Place) -> Storage:
    """Return what reads and writes in a place."""
    return LocalStorage(place) if isinstance(place, Path) else ObjectStore(place)
