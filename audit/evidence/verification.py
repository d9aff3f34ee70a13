"""Verifies an evidence bundle: the archive, every checksum, the signature, the protocol and the draw of the samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.evidence.adherence import KEY
from audit.evidence.archive import BundleError, read_archive
from audit.evidence.keys import TrustedKey, is_signed, key_name, trusted_key
from audit.evidence.manifest import MANIFEST, SIGNATURE, differences_from, public_key_of, read_manifest
from audit.evidence.protocol import Protocol, ProtocolError
from audit.evidence.samples import SAMPLES, wrong_draws
from audit.storage.outside.json_object import json_object
from audit.storage.run_directory import AUDIT, PROTOCOL

MOST_LISTED = 20
"""Differences that a message names."""


@dataclass(frozen=True)
class Verified:
    """What is known of a bundle that was found whole.

    Attributes:
        run_id: Name of the run.
        made: When the bundle was made, as it says itself.
        files: Number of files that the manifest lists.
        bytes: Their size.
        signed_by: Name of the key that signed the manifest, None if it is not signed.
        trusted: Whether this is the key that the reader named.
        key_until: When the certificate of this key ends, ISO 8601; None without a certificate.
        valid_until: Until when the auditor declared the audit valid; None without a date.
    """

    run_id: str
    made: str
    files: int
    bytes: int
    signed_by: str | None
    trusted: bool
    key_until: str | None
    valid_until: str | None


def verify(bundle: Path, public_key: Path | None = None) -> Verified:
    """Verify a bundle.

    Args:
        bundle: The archive.
        public_key: Public key or certificate of the auditor; None if the reader has none.

    Raises:
        BundleError: If anything in the bundle is not as it was made, or another key signed it.
        KeyFileError: If the key cannot be read or is not valid today.
    """
    trusted = None if public_key is None else trusted_key(public_key)
    files = read_archive(bundle)
    manifest = read_manifest(files)
    signed_by = _signer(manifest, files, trusted)
    found = [*differences_from(manifest, files)]
    found = found or [*_inner_faults(files)]
    if found:
        more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
        raise BundleError(
            f"{bundle}: expected the files of its {MANIFEST}, found: {'; '.join(found[:MOST_LISTED])}{more}. The "
            "bundle was changed after it was made; ask the auditor for it again"
        )
    config = _object(files, AUDIT).get("config") or {}
    return Verified(
        run_id=str(manifest.get("run_id")),
        made=str(manifest.get("made")),
        files=len(manifest["files"]),
        bytes=sum(entry["bytes"] for entry in manifest["files"].values()),
        signed_by=None if signed_by is None else key_name(signed_by),
        trusted=trusted is not None,
        key_until=None if trusted is None or trusted.until is None else trusted.until.isoformat(),
        valid_until=(config.get("statement") or {}).get("valid_until"),
    )


def _signer(manifest: Mapping[str, Any], files: Mapping[str, bytes], trusted: TrustedKey | None) -> bytes | None:
    """Return the key that signed the manifest.

    Raises:
        BundleError: If the signature is missing, is not valid, or is not by the trusted key.
    """
    raw = public_key_of(manifest)
    if raw is None:
        if trusted is not None:
            raise BundleError(
                f"expected a signature by the key {key_name(trusted.raw)}, found a bundle without a signature; ask the "
                "auditor for a signed one"
            )
        return None
    if trusted is not None and raw != trusted.raw:
        raise BundleError(
            f"expected a signature by the key {key_name(trusted.raw)}, found one by {key_name(raw)}; the bundle is "
            "from another person, or the auditor has another key"
        )
    if SIGNATURE not in files:
        raise BundleError(f"expected {SIGNATURE} beside a signed {MANIFEST}, found none; ask the auditor for it again")
    if not is_signed(raw, files[MANIFEST], files[SIGNATURE]):
        raise BundleError(
            f"{SIGNATURE}: expected the signature of {MANIFEST} by {key_name(raw)}, found another one; the manifest or "
            "the signature was changed"
        )
    return raw


def _inner_faults(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield what contradicts itself in a bundle whose checksums are right."""
    result = _object(files, AUDIT)
    yield from _protocol_faults(files, ((result.get("provenance") or {}).get(KEY) or {}).get("sha256"))
    record = _object(files, SAMPLES)
    try:
        wrong = wrong_draws(record)
    except ValueError as error:
        raise BundleError(str(error)) from error
    for prompt in wrong:
        yield f"the samples of {prompt} are not those that the rule draws"
    if not result.get("run_id") == record.get("run_id") == _object(files, MANIFEST).get("run_id"):
        yield f"{AUDIT}, {SAMPLES} and {MANIFEST} name different runs"


def _protocol_faults(files: Mapping[str, bytes], registered: str | None) -> Iterator[str]:
    """Yield how the protocol is not the one with the checksum that the result was compared with."""
    if PROTOCOL not in files:
        if registered is not None:
            yield f"{PROTOCOL} is missing, though {AUDIT} was compared with one"
        return
    try:
        known = Protocol.of_bytes(files[PROTOCOL], PROTOCOL).sha256
    except ProtocolError as error:
        yield str(error)
        return
    if known != registered:
        yield f"{PROTOCOL} is not the protocol that {AUDIT} was compared with"


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    expected = f"{name}: expected a file that difflens-audit bundle writes"
    if name not in files:
        raise BundleError(f"{expected}, found none; this is another archive")
    try:
        return json_object(files[name], expected)
    except ValueError as error:
        raise BundleError(str(error)) from error
