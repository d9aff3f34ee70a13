"""Manifests of offline bundles: size and sha256 of every file, and the check that a bundle is still as it was made.

``difflens-audit fetch`` writes a manifest. Every check of a config compares the files that the config names in a bundle
with it, because a file that was cut or exchanged on the way to another machine can still have valid headers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from audit.config.problems import Problem
from audit.models.files.pipeline_files import some
from audit.preflight.weights.needs import Need, Origin
from audit.storage.outside.json_object import read_json_object
from audit.storage.provenance import sha256_of

MANIFEST, FORMAT = "manifest.json", "difflens-audit bundle 1"

FILES = "files"
"""Directory of a bundle with everything that is recorded; what lies beside it is the user's own."""

_MAX_BYTES = 64 * 1024**2
_AGAIN = "copy the bundle again, or run difflens-audit fetch again"


def write_manifest(root: Path, sources: Iterable[Mapping[str, Any]]) -> None:
    """Record every file of a bundle.

    Args:
        root: Directory of the bundle.
        sources: For each key of the config its source, the commit on the hub, licence, and path in the bundle.
    """
    paths = sorted(path for path in (root / FILES).rglob("*") if path.is_file())
    files = {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths
    }
    text = json.dumps({"format": FORMAT, "sources": list(sources), "files": files}, indent=1, ensure_ascii=False)
    (root / MANIFEST).write_text(text + "\n", encoding="utf-8")


def check_bundles(needs: Iterable[Need]) -> Iterator[Problem]:
    """Find files of bundles that are missing, cut, exchanged or added since the bundle was made.

    Files outside of a bundle are not looked at.
    """
    for need in needs:
        path = Path(os.path.abspath(need.source))  # without ".."; links are not followed
        root = bundle_around(path) if need.origin is Origin.PATH else None
        if root is None:
            continue
        try:
            changed = tuple(_changes(root, path.relative_to(root).as_posix()))
        except ValueError as error:
            yield Problem(need.location, f"{error}; {_AGAIN}")
            continue
        if changed:
            message = f"expected the files of {root / MANIFEST}, found {some(changed)}; {_AGAIN}"
            yield Problem(need.location, message)


def bundle_around(path: Path) -> Path | None:
    """Return the directory of the bundle whose recorded files a path is among; None if there is none."""
    for directory in path.parents:
        inside = path.is_relative_to(directory / FILES)
        if inside and (directory / MANIFEST).is_file() and _says_bundle(directory / MANIFEST):
            return directory
    return None


def _says_bundle(manifest: Path) -> bool:
    """Return whether a file called manifest.json is one of these; many programs write files of that name."""
    with manifest.open("rb") as file:
        return FORMAT.encode() in file.read(200)


def _changes(root: Path, name: str) -> Iterator[str]:
    """Yield how the files under a path differ from the manifest.

    Raises:
        ValueError: The manifest cannot be read.
    """
    recorded = read_json_object(root / MANIFEST, "the manifest of a bundle", _MAX_BYTES).get("files")
    if not isinstance(recorded, dict) or not all(map(_is_entry, recorded.values())):
        raise ValueError(f"{root / MANIFEST}: expected the files of a bundle, found none")
    own = {key: entry for key, entry in recorded.items() if key == name or key.startswith(f"{name}/")}
    if not own:
        yield f"no entry for {name}"
    for key, entry in own.items():
        yield from _change(root / key, key, entry)
    here = (path.relative_to(root).as_posix() for path in sorted((root / name).rglob("*")) if path.is_file())
    yield from (f"{key}, which is not in it" for key in here if key not in own)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


def _change(path: Path, key: str, entry: Mapping[str, Any]) -> Iterator[str]:
    if not path.is_file():
        yield f"no {key}"
        return
    status = path.stat()
    if status.st_size != entry["bytes"]:
        yield f"{key} with {status.st_size:,} bytes instead of {entry['bytes']:,}"
    elif _sha256(path, status.st_size, status.st_mtime_ns) != entry["sha256"]:
        yield f"{key} with other content (another sha256)"


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Return the checksum, once per process; size and time of the last change make a changed file another entry."""
    return sha256_of(path)
