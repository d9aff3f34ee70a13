"""What identifies a closed model: a hash of its pictures, or the address of an endpoint. Torch is not imported."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from audit.config.kinds.closed import endpoint_name
from audit.config.sections import ModelConfig
from audit.planning.pictures import PictureGroup, picture_groups

UNKNOWN_WEIGHTS = "weights:unknown"
"""End of the fingerprint of an endpoint."""


def pictures_fingerprint(model: ModelConfig) -> str:
    """Hash prompts, relative paths, seeds and bytes of all pictures; every copy of them has the same fingerprint.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Raises:
        PictureErrors: The manifest or the folder has errors.
        OSError: A picture cannot be opened.
    """
    groups = picture_groups(model)
    return _fingerprint(groups, tuple(_written(picture.path) for group in groups for picture in group.pictures))


def endpoint_fingerprint(model: ModelConfig) -> str:
    """Return address, model, and a hash of size and parameters; the weights behind an endpoint are unknown."""
    asked = json.dumps({"size": model.size, "parameters": model.parameters}, sort_keys=True)
    digits = hashlib.sha256(asked.encode()).hexdigest()[:12]
    return f"{endpoint_name(model.base_url or '')} {model.model} parameters:{digits} {UNKNOWN_WEIGHTS}"


def _written(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2)
def _fingerprint(groups: tuple[PictureGroup, ...], _written: tuple[tuple[int, int], ...]) -> str:
    """Hash the pictures; modification times and sizes are there for the cache."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        digests = threads.map(_digest, (picture.path for group in groups for picture in group.pictures))
        lines = [
            f"{group.occupation}\0{group.text or ''}\0{picture.name}\0{picture.seed}\0{next(digests)}\n"
            for group in groups
            for picture in group.pictures
        ]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
