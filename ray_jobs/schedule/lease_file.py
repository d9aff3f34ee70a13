"""Atomic text updates of a file on disk, under a lock of the operating system."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.storage.local_files import write_atomically


class LeaseFile:
    """The file, with a lock file (``flock``) beside it that is held for milliseconds.

    Args:
        path: The file; its directory is created if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = path.with_name(f".{path.name}.lock")

    def change(self, decide: Callable[[str | None], str | None]) -> None:
        """Replace the text by ``decide(text)``; the text is None if there is none. An exception leaves it unchanged."""
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
