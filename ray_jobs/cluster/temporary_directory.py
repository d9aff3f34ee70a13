"""Checks the directory for temporary files, in which Ray creates sockets with a limited path length."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from audit.preflight.output import unwritable

SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a Unix socket (``sun_path`` in unix(7), without its final zero)."""

_SESSION = "ray/session_2026-01-05_03-00-00_000000_{pid}/sockets/plasma_store"
"""Length that Ray appends to the directory: the longest path of its sockets (``ray/_private/node.py``)."""


def unusable_temporary_directory(environment: Mapping[str, str]) -> str | None:
    """Return why Ray could not start with the directory in the environment, None if it can.

    Ray uses ``RAY_TMPDIR``, then ``TMPDIR``, then ``/tmp``.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if environment.get(name)), None)
    if variable is None:
        return None
    directory = environment[variable]
    remedy = "set RAY_TMPDIR to another directory, for example RAY_TMPDIR=/tmp"
    if not os.path.isabs(directory):
        return f"expected an absolute path in {variable}, found {directory!r}; {remedy}"
    room = SOCKET_BYTES - len(os.sep) - len(_SESSION.format(pid=os.getpid()))
    length = len(os.fsencode(directory.rstrip(os.sep)))
    if length > room:
        return (
            f"expected at most {room} bytes in {variable}, found {length} ({directory}): paths of Ray's sockets in it "
            f"are limited to {SOCKET_BYTES} bytes; {remedy}"
        )
    try:
        obstacle = unwritable(Path(directory))
    except OSError as error:  # a name too long for the file system, or a circle of links
        obstacle = f"expected a readable directory, found {directory} ({error.strerror})"
    return None if obstacle is None else f"{variable}: {obstacle}; {remedy}"
