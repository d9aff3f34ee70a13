"""The files under a prefix of an object store, through fsspec: S3 and what speaks like it, Google and Azure storage.

A put of one object is whole or not there, so nothing is renamed. A request that fails in a way that may pass is made
again, with growing pauses, a bounded number of times; the clients' own repetitions are switched off where that is
possible, so that the bound is one. Credentials and endpoints come from the environment, as each client documents it,
and no message repeats them.
"""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from audit.storage.outside.safe_text import redact
from audit.storage.place import ObjectPath

LOG = logging.getLogger(__name__)

TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 16.0
"""Seconds; a pause is twice the one before it, shortened at random by up to a half so that workers do not come back
together. All pauses of one request together are at most 32 s."""

PUT_SECONDS, PUT_BYTES_PER_SECOND = 60.0, 500_000.0
"""A put may take so long, and longer by its size. The client's own bound on a server that says nothing does not hold
while it waits for leave to send (``Expect: 100-continue``)."""

LANES = 16
"""Requests at a time where several files are read or written."""

PROBE = "difflens-audit.probe"

_NOT_THERE = (FileNotFoundError, FileExistsError)
_REFUSED = (
    errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EISDIR,
    errno.ENOTDIR, errno.EREMCHG,
)  # fmt: skip
"""What the clients' errors say where the same request would be refused again."""

_CLIENT_MODULES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure")
"""Packages whose own exceptions come through fsspec as they are."""

_NO_OBSERVERS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
_NEVER = (*_NO_OBSERVERS, "ParamValidationError", "InvalidRegionError", "UnknownServiceError", "ConfigParseError")
"""Exceptions of the clients, by name, that no repetition mends."""

_S3_OPTIONS: Mapping[str, Any] = {
    "max_concurrency": 1,  # more would ask for the size of every object before reading it
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    },
}


@dataclass(frozen=True)
class Client:
    """What reaches one kind of object store.

    Attributes:
        package: Python package that fsspec needs for it, empty where it needs none.
        options: Options of its fsspec file system.
        creates: Whether it can put an object only where there is none, as one step.
        shared: Whether other processes see what one writes.
    """

    package: str
    options: Mapping[str, Any] = field(default_factory=dict)
    creates: bool = True
    shared: bool = True


CLIENTS: Mapping[str, Client] = {
    "s3": Client("s3fs", _S3_OPTIONS),
    "gs": Client("gcsfs"),
    "abfs": Client("adlfs", creates=False),
    "memory": Client("", shared=False),
}

T = TypeVar("T")


class StorageError(OSError):
    """An object store did not do its part; the message says what was wanted, what was found and what to do."""


@dataclass(frozen=True)
class ObjectStore:
    """The files under one address; see :class:`audit.storage.files.Storage` for what each method promises.

    Attributes:
        root: The address.
    """

    root: ObjectPath

    def owns(self, name: str) -> bool:
        """Look at the name alone: an object store has no links."""
        return not any(part in ("", ".", "..") for part in name.split("/")) and name.isprintable()

    def has(self, name: str) -> bool:
        """Ask for the first byte: one request, where fsspec's own question for what is not there would list as well."""
        try:
            self.read(name, most=1)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, most: int | None = None) -> bytes:
        """Get the object in one request."""
        part = {} if most is None else {"start": 0, "end": most}
        try:
            data: bytes = self._asked(f"give {name}", lambda files: files.cat_file(self._key(name), **part))
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self.root / name)) from error
        return data

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Get some objects ahead of the one that is asked for, never more than ``LANES``."""
        ahead: deque[Future[bytes | None]] = deque()
        with ThreadPoolExecutor(LANES) as pool:
            try:
                for name in names:
                    ahead.append(pool.submit(self._read_or_none, name))
                    if len(ahead) == LANES:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def write(self, name: str, data: bytes) -> None:
        """Put the object."""
        try:
            self._asked(f"take {name}", lambda files: _put(files, self._key(name), data, "overwrite"))
        except FileNotFoundError as error:
            raise StorageError(self._no_bucket()) from error

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Put up to ``LANES`` objects at a time."""
        if len(files) < 2:
            for name, data in files.items():
                self.write(name, data)
            return
        with ThreadPoolExecutor(min(LANES, len(files))) as pool:
            for _ in pool.map(self.write, files, files.values()):
                pass

    def create(self, name: str, data: bytes) -> bool:
        """Put the object if there is none under this name, as one step; tell whether it is there by this call.

        Raises:
            StorageError: If the store cannot promise that.
        """
        if not CLIENTS[self.root.store].creates:
            raise StorageError(
                f"expected a store that can put an object only where there is none, found {self.root}, which is not "
                "known to; use s3://, gs:// or a local path here"
            )
        try:
            self._asked(f"take {name}", lambda files: _put(files, self._key(name), data, "create"))
        except FileExistsError:
            return self._read_or_none(name) == data  # ours, where the answer to an earlier try was lost
        except FileNotFoundError as error:
            raise StorageError(self._no_bucket()) from error
        return True

    def append(self, name: str, line: str) -> None:
        """Put the line as an object of its own in a folder of that name: an object store appends to nothing."""
        self.write(f"{name}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", line.encode())

    def lines(self, name: str) -> tuple[str, ...]:
        """Read the objects in the order of their names, which begin with the time."""
        found = self.read_all(f"{name}/{entry}" for entry in self.names(name))
        return tuple(data.decode(errors="replace") for data in found if data is not None)

    def delete(self, name: str) -> None:
        """Remove the object."""
        with suppress(FileNotFoundError):
            self._asked(f"remove {name}", lambda files: files.rm_file(self._key(name)))

    def names(self, folder: str) -> tuple[str, ...]:
        """List the prefix, a thousand objects a request, and ask for none of them by itself."""
        return self._listed(folder, "file")

    def folders(self) -> tuple[str, ...]:
        """List the prefix."""
        return self._listed("", "directory")

    def written(self, name: str) -> float:
        """Ask for the object's time."""
        seconds: float = self._asked(f"tell of {name}", lambda files: files.modified(self._key(name))).timestamp()
        return seconds

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        """Lend a copy, which is gone afterwards."""
        with TemporaryDirectory() as directory:
            path = Path(directory) / name.rpartition("/")[2]
            path.write_bytes(self.read(name))
            yield path

    def obstacle(self) -> str | None:
        """Return what keeps results from being kept here, None where nothing does; found out by trying it."""
        if not CLIENTS[self.root.store].shared:
            return f"expected a store that workers see, found {self.root}, which is one process's own; choose another"
        try:
            self.write(PROBE, b"written to find out whether results can be kept here\n")
            self.names("")
            self.delete(PROBE)
        except StorageError as error:
            return str(error)
        return None

    def _key(self, name: str) -> str:
        return f"{self.root.key}/{name}" if name else self.root.key

    def _read_or_none(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _listed(self, folder: str, kind: str) -> tuple[str, ...]:
        entries = self._pages(folder) if self.root.store == "s3" else self._whole_listing(folder)
        return tuple(sorted(key.rstrip("/").rpartition("/")[2] for key, found in entries if found == kind))

    def _pages(self, folder: str) -> Iterator[tuple[str, str]]:
        """Ask page by page: a hundred pages in one request of fsspec would fail with any one of them."""
        bucket, _, prefix = self._key(folder).partition("/")
        asked = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "Delimiter": "/"}
        more = True
        while more:
            page = self._asked(f"list {folder or 'its files'}", partial(_one_page, asked=asked))
            yield from ((entry["Key"], "file") for entry in page.get("Contents", ()))
            yield from ((entry["Prefix"], "directory") for entry in page.get("CommonPrefixes", ()))
            more = bool(page.get("IsTruncated"))
            asked["ContinuationToken"] = page.get("NextContinuationToken", "")

    def _whole_listing(self, folder: str) -> Iterator[tuple[str, str]]:
        try:
            found = self._asked(f"list {folder or 'its files'}", lambda files: files.ls(self._key(folder), detail=True))
        except FileNotFoundError:
            return
        yield from ((entry["name"], entry["type"]) for entry in found)

    def _asked(self, wanted: str, request: Callable[[Any], T]) -> T:
        """Make a request, again where its failure may pass.

        Raises:
            FileNotFoundError: If the store says so; also where there is no bucket.
            FileExistsError: If the store says so.
            StorageError: If it refuses, or fails as often as it may.
        """
        files = file_system(self.root.store)
        for attempt in range(1, TRIES + 1):
            try:
                return request(files)
            except Exception as error:
                if isinstance(error, _NOT_THERE) or not _is_of_a_store(error):
                    raise
                if not _may_pass(error):
                    raise StorageError(self._refusal(wanted, error)) from error
                if attempt == TRIES:
                    raise StorageError(self._silence(wanted, error)) from error
                LOG.info("%s: try %d to %s failed: %s", self.root, attempt, wanted, _reason(error))
            time.sleep(pause(attempt))
        raise AssertionError("the last try returns or raises")

    def _no_bucket(self) -> str:
        bucket = self.root.key.partition("/")[0]
        return f"expected the bucket {bucket!r} of {self.root}, found none; make it, or correct output"

    def _refusal(self, wanted: str, error: Exception) -> str:
        found = f"expected {self.root} to {wanted}, found"
        if type(error).__name__ in _NO_OBSERVERS:
            return f"{found} no credentials; give them through the environment, as its client documents it"
        if isinstance(error, PermissionError):
            return f"{found} access denied ({_reason(error)}); it must be allowed to read, list, write and delete there"
        return f"{found} a refusal ({_reason(error)}); correct the address or the store's settings"

    def _silence(self, wanted: str, error: Exception) -> str:
        return (
            f"expected {self.root} to {wanted}, found no success in {TRIES} tries, last {_reason(error)}; what was "
            "finished is kept, run again when the store is well"
        )


def pause(attempt: int) -> float:
    """Return how many seconds to wait after a try that failed, counted from 1."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)) * SystemRandom().uniform(0.5, 1.0)


@lru_cache
def file_system(store: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """Return fsspec's file system for a kind of store, one for the process, whose listings are never remembered.

    Raises:
        StorageError: If its package is not installed.
    """
    import fsspec

    client = CLIENTS[store]
    try:
        if client.package:
            import_module(client.package)
    except ImportError as error:
        wanted = "'difflens-audit[s3]'" if store == "s3" else client.package
        raise StorageError(
            f"expected {client.package} for addresses with {store}://, found none ({error}); install it with: pip "
            f"install {wanted}"
        ) from error
    files = fsspec.filesystem(store, use_listings_cache=False, skip_instance_cache=True, **client.options)
    if store == "s3":
        files.retries = 1  # s3fs would repeat some failures by itself
    return files


def _one_page(files: Any, asked: Mapping[str, str]) -> dict[str, Any]:  # noqa: ANN401 - fsspec has no types
    page: dict[str, Any] = files.call_s3("list_objects_v2", **asked)
    return page


def _put(files: Any, key: str, data: bytes, mode: str) -> None:  # noqa: ANN401 - fsspec has no types
    bound = {"timeout": PUT_SECONDS + len(data) / PUT_BYTES_PER_SECOND} if files.async_impl else {}
    # The word for a mode is left out where it is the usual one: not every file system knows it.
    files.pipe_file(key, data, **bound, **({"mode": mode} if mode == "create" else {}))


def _is_of_a_store(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENT_MODULES


def _may_pass(error: Exception) -> bool:
    if isinstance(error, PermissionError) or type(error).__name__ in _NEVER:
        return False
    return not (isinstance(error, OSError) and error.errno in _REFUSED)


def _reason(error: Exception) -> str:
    """Say in one line, without secrets, what went wrong, and by what name the store knows it."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return redact(f"{code}: {text}" if code and code not in text else text or type(error).__name__)
