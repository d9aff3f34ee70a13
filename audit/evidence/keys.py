"""Reads Ed25519 keys and certificates from PEM files, signs with them and verifies.

A bare public key has no date. A certificate (X.509, also a self-signed one) gives the key a period of validity, and a
signature is accepted only within it: when a signature was made cannot be proved by the signature itself.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSWORD_VARIABLE = "DIFFLENS_KEY_PASSWORD"  # noqa: S105 - the name of a variable, not its value
ALGORITHM = "Ed25519"

_MAX_BYTES = 100_000
_SIGNATURE_BYTES = 64


class KeyFileError(ValueError):
    """A file has no key that can be used, or a key is not valid today."""


@dataclass(frozen=True)
class TrustedKey:
    """A public key that the reader trusts.

    Attributes:
        raw: Its 32 bytes.
        until: Last moment of its certificate, None for a key without a date.
    """

    raw: bytes
    until: datetime | None = None


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key in PEM; the password of an encrypted one is in ``DIFFLENS_KEY_PASSWORD``.

    Raises:
        KeyFileError: If the file has no such key, or cannot be decrypted.
    """
    expected = f"{path}: expected a private Ed25519 key in PEM"
    data, password = _content(path, expected), os.environ.get(PASSWORD_VARIABLE)
    try:
        key = serialization.load_pem_private_key(data, password.encode() if password else None)
    except TypeError as error:  # a password without encryption, or encryption without a password
        found = "a key without encryption" if password else "an encrypted key"
        remedy = f"unset {PASSWORD_VARIABLE}" if password else f"set {PASSWORD_VARIABLE}"
        raise KeyFileError(f"{expected}, found {found}; {remedy}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{expected}, found none that can be read; check the file and its password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{expected}, found another kind of key; make one with: openssl genpkey -algorithm ed25519")
    return key


def trusted_key(path: Path, now: datetime | None = None) -> TrustedKey:
    """Read a public key or a certificate in PEM.

    Args:
        path: The file.
        now: Time at which a certificate must be valid; None for the present.

    Raises:
        KeyFileError: If the file has no Ed25519 key, or its certificate is not valid at that time.
    """
    expected = f"{path}: expected a public Ed25519 key or its certificate in PEM"
    data = _content(path, expected)
    try:
        if b"BEGIN CERTIFICATE" in data:
            return _certified(x509.load_pem_x509_certificate(data), path, now or datetime.now(UTC))
        key = serialization.load_pem_public_key(data)
    except KeyFileError:
        raise
    except (ValueError, UnsupportedAlgorithm) as error:
        private = " (this looks like a private key, keep it secret)" * (b"PRIVATE KEY" in data)
        raise KeyFileError(f"{expected}, found none that can be read{private}; check the file") from error
    return TrustedKey(_raw(key, expected))


def _certified(certificate: x509.Certificate, path: Path, now: datetime) -> TrustedKey:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise KeyFileError(
            f"{path}: expected a key that is valid today, found one that expired on {ends:%Y-%m-%d}; a signature does "
            "not prove when it was made, so ask the auditor to sign again with a valid key"
        )
    if now < begins:
        raise KeyFileError(
            f"{path}: expected a key that is valid today, found one that is valid from {begins:%Y-%m-%d}; check the "
            "clock of this machine"
        )
    return TrustedKey(_raw(certificate.public_key(), f"{path}: expected a certificate of an Ed25519 key"), ends)


def _raw(key: object, expected: str) -> bytes:
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{expected}, found another kind of key; use the key that belongs to the signature")
    return key.public_bytes_raw()


def _content(path: Path, expected: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise KeyFileError(f"{expected}, found no readable file ({error.strerror}); check the path") from error


def sign(key: Ed25519PrivateKey, data: bytes) -> bytes:
    """Return the detached signature of data: one line of base64."""
    return base64.b64encode(key.sign(data)) + b"\n"


def is_signed(raw_key: bytes, data: bytes, signature: bytes) -> bool:
    """Return whether ``signature``, from :func:`sign`, is that of the data by a key of 32 bytes."""
    try:
        decoded = base64.b64decode(signature.removesuffix(b"\n"), validate=True)
        if len(decoded) != _SIGNATURE_BYTES or base64.b64encode(decoded) + b"\n" != signature:
            return False
        Ed25519PublicKey.from_public_bytes(raw_key).verify(decoded, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_name(raw_key: bytes) -> str:
    """Return the name of a key for people: the sha256 of its 32 bytes."""
    return f"sha256:{hashlib.sha256(raw_key).hexdigest()}"
