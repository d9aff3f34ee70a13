"""Single files and directories of a bundle: downloads from an address, copies from this machine, and checksums."""

from __future__ import annotations

import bz2
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from audit.storage.provenance import sha256_of
from ray_jobs.fetch.errors import FetchError, UnreachableError

_SECONDS = 60.0
"""A server that sends nothing for this time counts as unreachable."""

_HIDDEN = (".cache", ".git", "__pycache__")
"""Directories that are not copied."""


def download(key: str, url: str, target: Path, sha256: str | None) -> None:
    """Download a file, unless it is already there; it gets its name only when it is complete and right.

    A file that is published as ``.bz2`` is decompressed.

    Args:
        key: Key of the config, for messages.
        url: Address.
        target: File to write.
        sha256: Checksum, or its first digits; None if it is not known.

    Raises:
        FetchError: The server has no such file, or one with other content.
        UnreachableError: The server does not answer, or the transfer was cut.
    """
    if target.is_file() and sha256 is not None and sha256_of(target).startswith(sha256):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        _receive(key, url, partial)
        if url.endswith(".bz2"):
            _decompress(key, url, partial)
        check_sha256(key, partial, sha256, url)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _receive(key: str, url: str, partial: Path) -> None:
    request = Request(url, headers={"User-Agent": "difflens-audit"})  # noqa: S310 - https, from our own table
    try:
        with urlopen(request, timeout=_SECONDS) as answer, partial.open("wb") as file:  # noqa: S310 - as above
            shutil.copyfileobj(answer, file, 1 << 20)
            promised = answer.headers.get("Content-Length")
    except HTTPError as error:
        if error.code in (404, 410):
            raise FetchError(f"{key}: expected a file at {url}, found none; download it by other means") from error
        raise UnreachableError(f"{key}: expected {url}, found the answer {error.code}; try again later") from error
    except (OSError, HTTPException) as error:
        raise UnreachableError(f"{key}: expected {url}, found no answer ({error}); check the connection") from error
    found = partial.stat().st_size
    if promised is not None and int(promised) != found:
        raise UnreachableError(
            f"{key}: expected {int(promised):,} bytes from {url}, found {found:,}, because the transfer was cut; "
            "repeat the command"
        )


def _decompress(key: str, url: str, partial: Path) -> None:
    plain = partial.with_suffix(".plain")
    try:
        with bz2.open(partial) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        plain.replace(partial)
    except (OSError, EOFError) as error:
        raise FetchError(f"{key}: expected a file compressed with bzip2 at {url}, found another ({error})") from error
    finally:
        plain.unlink(missing_ok=True)


def check_sha256(key: str, path: Path, sha256: str | None, source: str) -> None:
    """Compare a file with its published checksum.

    Args:
        key: Key of the config, for messages.
        path: The file.
        sha256: Checksum, or its first digits; None if it is not known.
        source: Where the file is from, for messages.

    Raises:
        FetchError: It has other content.
    """
    if sha256 is None:
        return
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise FetchError(
            f"{key}: expected the published content of {source} (sha256 {sha256[:12]}…), found sha256 {found[:12]}… "
            f"and {path.stat().st_size:,} bytes; the file was cut or exchanged, so it is not used"
        )


def copy(source: Path, target: Path) -> None:
    """Copy a file or directory of this machine into a bundle, in place of an earlier copy; links are followed."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_HIDDEN))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
