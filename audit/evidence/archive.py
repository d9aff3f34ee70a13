"""The archive of an evidence bundle: a ZIP file whose bytes follow from the names and contents of its files alone.

Files are stored without compression, because the output of a compressor depends on its version. So a reader can make
the archive again from its files, and any byte that differs is a change.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

MAX_BYTES = 1_900_000_000
"""Largest archive; the layout of larger ones would differ."""

_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_UNIX = 3

_UNREADABLE = (zipfile.BadZipFile, struct.error, EOFError, LookupError, NotImplementedError, OSError, RuntimeError)


class BundleError(ValueError):
    """A bundle cannot be made, or is not what it says."""


def archive_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of files, in the order of their names.

    Raises:
        BundleError: If the files are too large for one archive.
    """
    size = sum(len(data) + 2 * len(name) + 200 for name, data in files.items())
    if size > MAX_BYTES:
        raise BundleError(f"expected at most {MAX_BYTES:,} bytes in a bundle, found {size:,}; lower report.max_mb")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = _UNIX, _MODE << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the files of an archive, after every byte of it was compared with the archive that its files make.

    Raises:
        BundleError: If the file is no whole archive, or has a member that :func:`archive_bytes` would not write.
    """
    data = _content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            faults = tuple(_faults(archive, len(data)))
            if faults:
                raise BundleError(f"{path}: expected the archive of an evidence bundle, found {'; '.join(faults)}")
            files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except BundleError:
        raise
    except (*_UNREADABLE, ValueError, OverflowError) as error:
        raise BundleError(
            f"{path}: expected a whole archive, found one that is cut, damaged or no ZIP file ({error}); get it again"
        ) from error
    if archive_bytes(files) != data:
        raise BundleError(
            f"{path}: expected an archive as difflens-audit bundle writes it, found other bytes between its files (a "
            "time, an order, a comment or an addition); the archive was changed or packed again"
        )
    return files


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{path}: expected a bundle, found no readable file ({error.strerror}); check the path"
        raise BundleError(message) from error
    if len(data) > MAX_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_BYTES:,} bytes, found more; is this the right file?")
    return data


def _faults(archive: zipfile.ZipFile, size: int) -> Iterator[str]:
    """Yield what no member may be; nothing is read or unpacked for it."""
    seen: set[str] = set()
    if sum(entry.file_size for entry in archive.infolist()) > size:
        yield "files that claim to be larger than all of it"
    for entry in archive.infolist():
        name, mode = entry.filename, entry.external_attr >> 16
        if entry.orig_filename != name or not is_inside(name):
            yield f"a name that points outside of it ({entry.orig_filename!r})"
        if name in seen:
            yield f"the name {name!r} twice"
        seen.add(name)
        if stat.S_ISLNK(mode):
            yield f"a link ({name!r})"
        elif entry.is_dir() or not stat.S_ISREG(mode):
            yield f"something that is no plain file ({name!r})"
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            yield f"a compressed or encrypted file ({name!r})"


def is_inside(name: str) -> bool:
    """Return whether a name stays inside a folder that an archive is unpacked to, on any system."""
    path = PurePosixPath(name)
    odd = not name or "\\" in name or ":" in name or any(ord(character) < 32 for character in name)
    return not odd and not path.is_absolute() and ".." not in path.parts and str(path) == name
