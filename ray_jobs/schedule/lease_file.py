"""A text on a disk that one process at a time changes, under a lock of the operating system."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.storage.local_files import write_atomically


class LeaseFile:
    """The file, and beside it the one that is locked (``flock``), for milliseconds at a time.

    Args:
        path: The file; its directory is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = path.with_name(f".{path.name}.lock")

    def change(self, decide: Callable[[str | None], str | None]) -> None:
        """Replace the text by what ``decide`` makes of it, None where there is none; what it raises changes nothing."""
        with self._locked():
            before = self._read()
            text = decide(before)
            if text is None:
                self._path.unlink(missing_ok=True)
            elif text != before:
                write_atomically(self._path, text.encode())

    def _read(self) -> str | None:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._guard.parent.mkdir(parents=True, exist_ok=True)
        with self._guard.open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield
