"""Checks whether the output can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from audit.config.problems import Problem
from audit.storage.object_store import ObjectStore
from audit.storage.place import ObjectPath, Place, place_of


def check_output(output: str) -> Iterator[Problem]:
    """Find an output that cannot be written.

    Args:
        output: Path or address of the directory of runs.

    Yields:
        Problems, each with its place in the config.
    """
    obstacle = unwritable(place_of(output))
    if obstacle:
        yield Problem(("output",), obstacle)


def unwritable(directory: Place) -> str | None:
    """Return why a directory cannot be made or written to, None if it can.

    The permissions of a local directory are checked. In an object store a small object is written and deleted.
    """
    if isinstance(directory, ObjectPath):
        return ObjectStore(directory).obstacle()
    nearest = next((path for path in (directory, *directory.absolute().parents) if path.exists()), Path("/"))
    if not nearest.is_dir():
        return f"expected a directory, found the file {nearest}; choose another place"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"expected a directory that can be written to, found {nearest}, which cannot; choose another place"
    return None
