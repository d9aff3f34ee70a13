"""Local paths and object-store addresses behind one path interface.

Both kinds of place have ``/``, ``name``, ``parent``, ``absolute`` and a text. Neither reads or writes files;
:mod:`audit.storage.files` does that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

OBJECT_STORES = ("s3", "gs", "abfs", "memory")
"""Kinds of object store, by the scheme of their addresses; ``memory`` exists only within its process."""

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_SQLITE = re.compile(r"sqlite(\+pysqlite)?:///(?P<path>[^?]*)(\?.*)?", re.DOTALL)
_MORE_THAN_A_NAME = re.compile(r"[@?#\\\s\x00-\x1f\x7f]")


class PlaceError(ValueError):
    """The text is not a path or address that this project can use."""


@dataclass(frozen=True)
class ObjectPath:
    """An address in an object store, for example ``s3://bucket/runs``.

    Attributes:
        store: Kind of object store, one of ``OBJECT_STORES``.
        key: Bucket and key, separated by ``/``, without ``/`` at the start or end.
    """

    store: str
    key: str

    def __truediv__(self, name: str) -> ObjectPath:
        """Return the address of ``name`` under this one."""
        return ObjectPath(self.store, f"{self.key}/{name}")

    def __str__(self) -> str:
        """Return the address as :func:`place_of` reads it."""
        return f"{self.store}://{self.key}"

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """The address without its last part; a bucket is its own parent, like the root of a file system."""
        above = self.key.rpartition("/")[0]
        return ObjectPath(self.store, above) if above else self

    def absolute(self) -> Self:
        """Return the address itself, which is always absolute."""
        return self


Place = Path | ObjectPath


def place_of(text: str) -> Place:
    """Parse a place: a path, ``file:///path``, ``s3://bucket/key``, ``gs://…`` or ``abfs://…``.

    Raises:
        PlaceError: If the address has another scheme, or more than a bucket and a key. Credentials belong in the
            environment and not in an address. The message does not repeat anything that could be secret.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return Path(text)
    scheme, rest = match["scheme"], match["rest"]
    if scheme == "file":
        return _local(rest)
    if scheme not in OBJECT_STORES:
        known = ", ".join((*OBJECT_STORES[:-1], "file"))
        raise PlaceError(f"expected a path or an address with {known}, found one with {scheme!r}; choose another place")
    if _MORE_THAN_A_NAME.search(rest):
        raise PlaceError(
            f"expected {scheme}://bucket/key and nothing more, found an address with '@', '?', '#' or a space in it; "
            "set credentials in the environment"
        )
    key = rest.rstrip("/")
    if not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise PlaceError(
            f"expected {scheme}://bucket/key, found {text!r}; name the bucket, and leave out empty parts, '.' and '..'"
        )
    return ObjectPath(scheme, key)


def sqlite_uri(file: Path) -> str:
    """Return the URI of a SQLite database for SQLAlchemy and MLflow, for any characters in its path.

    If the path needs escapes, the URI names the driver too; otherwise MLflow would also create the escaped directory.
    """
    path = str(file).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of an SQLAlchemy URI, None if it names no SQLite file."""
    match = _SQLITE.fullmatch(uri)
    return Path(unquote(match["path"])) if match and match["path"] else None


def _local(rest: str) -> Path:
    if not rest.startswith("/"):
        raise PlaceError("expected file:/// and an absolute path, found file:// and a host; choose another place")
    return Path(rest)
