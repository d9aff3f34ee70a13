"""Takes secrets and home directories out of plain data that leaves the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.storage.outside.safe_text import redact_tree, secret_values

HOME = "~"
"""Replacement for the path of a home directory."""

_BEGINS, _ENDS = r"(?<![\w.~-])", r"(?=[/\\\s\"']|$)"
_USERS = re.compile(rf"(?:{_BEGINS}/(?:home|Users)/|\b[A-Za-z]:[\\/]Users[\\/])[^/\\\s\"':;,]+|{_BEGINS}/root{_ENDS}")


def private_tree(value: Any) -> Any:  # noqa: ANN401 - plain data of any shape goes in and comes out
    """Return plain data (dicts, lists, scalars) without secrets, and with ``~`` for every home directory.

    The result does not change if the function is applied again.
    """
    own = str(Path.home())
    return _without_homes(redact_tree(value), own if len(own) > 1 else None)


def _without_homes(value: Any, own: str | None) -> Any:  # noqa: ANN401 - see private_tree
    if isinstance(value, str):
        known = value if own is None else re.sub(f"{_BEGINS}{re.escape(own)}{_ENDS}", HOME, value)
        return _USERS.sub(HOME, known)
    if isinstance(value, Mapping):
        return {key: _without_homes(item, own) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_homes(item, own) for item in value]
    return value


def leaks(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of files that contain the value of a secret variable of this environment."""
    secrets = [value.encode() for value in secret_values(os.environ)]
    return tuple(name for name, data in files.items() if any(secret in data for secret in secrets))
