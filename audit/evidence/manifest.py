"""The manifest of an evidence bundle: sha256 and size of every file, and the key that signed it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from audit.evidence.archive import BundleError
from audit.storage.outside.json_object import json_object

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
FORMAT = "difflens-audit evidence 1"

_OWN = (MANIFEST, SIGNATURE)
"""Files that the manifest does not list: itself, and its signature."""


def manifest_bytes(run_id: str, made: str, files: Mapping[str, bytes], raw_key: bytes | None) -> bytes:
    """Return the manifest of files.

    Args:
        run_id: Name of the run.
        made: When the bundle was made, ISO 8601 in UTC.
        files: Name → content.
        raw_key: Public key that signs the manifest, None if it is not signed.
    """
    listed = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in sorted(files.items())}
    signed = None if raw_key is None else {"algorithm": "Ed25519", "public_key": base64.b64encode(raw_key).decode()}
    data = {"format": FORMAT, "run_id": run_id, "made": made, "signature": signed, "files": listed}
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def read_manifest(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the manifest of a bundle's files.

    Raises:
        BundleError: If there is none, or it is not one of these.
    """
    expected = f"{MANIFEST}: expected the manifest of an evidence bundle"
    if MANIFEST not in files:
        raise BundleError(f"{expected}, found no such file; this is another archive")
    try:
        data = json_object(files[MANIFEST], expected)
    except ValueError as error:
        raise BundleError(str(error)) from error
    entries = data.get("files")
    if data.get("format") != FORMAT or not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise BundleError(f"{expected} in the format {FORMAT!r}, found another one; use the release that made it")
    return data


def public_key_of(manifest: Mapping[str, Any]) -> bytes | None:
    """Return the key that a manifest says it is signed with; None if it says that it is not signed.

    Raises:
        BundleError: If what it says is no key.
    """
    signed = manifest.get("signature")
    if signed is None:
        return None
    try:
        raw = base64.b64decode(signed["public_key"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{MANIFEST}: expected a public key under signature, found none") from error
    return raw


def differences_from(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield how files differ from their manifest: missing, added, or with other content."""
    listed: Mapping[str, Mapping[str, Any]] = manifest["files"]
    signed = manifest.get("signature") is not None
    for name in files:
        if name not in listed and name != MANIFEST and not (signed and name == SIGNATURE):
            yield f"{name} was added"
    for name, entry in listed.items():
        if name in _OWN:
            yield f"{name} is listed, which no manifest does"
        elif name not in files:
            yield f"{name} is missing"
        elif len(files[name]) != entry["bytes"] or _sha256(files[name]) != entry["sha256"]:
            yield f"{name} has other content (another sha256)"


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
