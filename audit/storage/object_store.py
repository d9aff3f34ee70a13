"""Files under a prefix of an object store, through fsspec: S3 and compatible stores, Google and Azure storage.

Writing one object is atomic, so no rename is needed. A request with a transient error is retried a limited number of
times, with growing pauses. The clients' own retries are switched off if possible, so that they do not multiply.
Credentials and endpoints are read from the environment, as documented by each client, and never appear in messages.
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
"""Seconds. Each pause is twice the previous one, shortened at random by up to a half, so that workers do not retry at
the same time. All pauses of one request add up to at most 32 s."""

PUT_SECONDS, PUT_BYTES_PER_SECOND = 60.0, 500_000.0
"""Time limit of a put: a base in seconds and a rate for its size. The client's own read timeout does not apply while it
waits for permission to send (``Expect: 100-continue``)."""

LANES = 16
"""Number of parallel requests when several files are read or written."""

PROBE = "difflens-audit.probe"

_ANSWERS = (FileNotFoundError, FileExistsError)
_REFUSED = (
    errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EISDIR,
    errno.ENOTDIR, errno.EREMCHG,
)  # fmt: skip
"""Error numbers of requests that would be refused again."""

_CLIENT_MODULES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure")
"""Packages whose exceptions fsspec passes on unchanged."""

_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
_PERMANENT = (*_NO_CREDENTIALS, "ParamValidationError", "InvalidRegionError", "UnknownServiceError", "ConfigParseError")
"""Exceptions of the clients, by name, for which a retry is useless."""

_S3_OPTIONS: Mapping[str, Any] = {
    "max_concurrency": 1,  # with more, s3fs would request the size of every object before reading it
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    },
}


@dataclass(frozen=True)
class Client:
    """The client of one kind of object store.

    Attributes:
        package: Python package that fsspec needs for it; empty if it needs none.
        options: Options of its fsspec file system.
        creates: Whether it can create an object atomically only if the object does not exist.
        shared: Whether other processes see the objects that one process writes.
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
    """A request to an object store failed; the message says what was expected, what was found and what to do."""


@dataclass(frozen=True)
class ObjectStore:
    """The files under one address; :class:`audit.storage.files.Storage` documents each method.

    Attributes:
        root: The address.
    """

    root: ObjectPath

    def owns(self, name: str) -> bool:
        """Check only the name, because an object store has no links."""
        return not any(part in ("", ".", "..") for part in name.split("/")) and name.isprintable()

    def has(self, name: str) -> bool:
        """Read the first byte, in one request; fsspec's ``exists`` would also list the prefix of a missing object."""
        try:
            self.read(name, most=1)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, most: int | None = None) -> bytes:
        """Get the object in one request."""
        part = {} if most is None else {"start": 0, "end": most}
        try:
            data: bytes = self._request(f"read {name}", lambda files: files.cat_file(self._key(name), **part))
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self.root / name)) from error
        return data

    def read_all(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Read up to ``LANES`` objects ahead."""
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
            self._request(f"write {name}", lambda files: _put(files, self._key(name), data, "overwrite"))
        except FileNotFoundError as error:
            raise StorageError(self._no_bucket()) from error

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Put up to ``LANES`` objects in parallel."""
        if len(files) < 2:
            for name, data in files.items():
                self.write(name, data)
            return
        with ThreadPoolExecutor(min(LANES, len(files))) as pool:
            for _ in pool.map(self.write, files, files.values()):
                pass

    def create(self, name: str, data: bytes) -> bool:
        """Create the object atomically if it does not exist; return whether this call created it.

        Raises:
            StorageError: If the store does not support this.
        """
        if not CLIENTS[self.root.store].creates:
            raise StorageError(
                f"expected a store that can create an object only if it does not exist, found {self.root}, which does "
                "not support this; use s3://, gs:// or a local path here"
            )
        try:
            self._request(f"write {name}", lambda files: _put(files, self._key(name), data, "create"))
        except FileExistsError:
            return self._read_or_none(name) == data  # created by this call if the answer to an earlier attempt was lost
        except FileNotFoundError as error:
            raise StorageError(self._no_bucket()) from error
        return True

    def append(self, name: str, line: str) -> None:
        """Put the line as a separate object in a folder of that name, because an object store cannot append."""
        self.write(f"{name}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", line.encode())

    def lines(self, name: str) -> tuple[str, ...]:
        """Read the objects in the order of their names, which start with the time."""
        found = self.read_all(f"{name}/{entry}" for entry in self.names(name))
        return tuple(data.decode(errors="replace") for data in found if data is not None)

    def delete(self, name: str) -> None:
        """Remove the object."""
        with suppress(FileNotFoundError):
            self._request(f"remove {name}", lambda files: files.rm_file(self._key(name)))

    def names(self, folder: str) -> tuple[str, ...]:
        """List the prefix, a thousand objects per request, without a request for any single object."""
        return self._listed(folder, "file")

    def folders(self) -> tuple[str, ...]:
        """List the prefix."""
        return self._listed("", "directory")

    def written(self, name: str) -> float:
        """Request the object's modification time."""
        when = self._request(f"read the time of {name}", lambda files: files.modified(self._key(name)))
        seconds: float = when.timestamp()
        return seconds

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        """Provide a temporary copy."""
        with TemporaryDirectory() as directory:
            path = Path(directory) / name.rpartition("/")[2]
            path.write_bytes(self.read(name))
            yield path

    def obstacle(self) -> str | None:
        """Write, list and delete a test object; return a message if that fails, None otherwise."""
        if not CLIENTS[self.root.store].shared:
            return (
                f"expected a store that all workers can access, found {self.root}, which only one process can; choose "
                "another"
            )
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
        """Request page by page, so that a failure repeats one page and not the whole listing."""
        bucket, _, prefix = self._key(folder).partition("/")
        query = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "Delimiter": "/"}
        more = True
        while more:
            page = self._request(f"list {folder or 'the files'}", partial(_one_page, query=query))
            yield from ((entry["Key"], "file") for entry in page.get("Contents", ()))
            yield from ((entry["Prefix"], "directory") for entry in page.get("CommonPrefixes", ()))
            more = bool(page.get("IsTruncated"))
            query["ContinuationToken"] = page.get("NextContinuationToken", "")

    def _whole_listing(self, folder: str) -> Iterator[tuple[str, str]]:
        try:
            found = self._request(
                f"list {folder or 'the files'}", lambda files: files.ls(self._key(folder), detail=True)
            )
        except FileNotFoundError:
            return
        yield from ((entry["name"], entry["type"]) for entry in found)

    def _request(self, action: str, request: Callable[[Any], T]) -> T:
        """Make a request; retry it after a transient error.

        Raises:
            FileNotFoundError: If the object or the bucket does not exist.
            FileExistsError: If the object to create exists.
            StorageError: If the store refuses, or all attempts fail.
        """
        files = file_system(self.root.store)
        for attempt in range(1, TRIES + 1):
            try:
                return request(files)
            except Exception as error:
                if isinstance(error, _ANSWERS) or not _is_store_error(error):
                    raise
                if not _is_transient(error):
                    raise StorageError(self._refused(action, error)) from error
                if attempt == TRIES:
                    raise StorageError(self._exhausted(action, error)) from error
                LOG.info("%s: attempt %d to %s failed: %s", self.root, attempt, action, _reason(error))
            time.sleep(pause(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _no_bucket(self) -> str:
        bucket = self.root.key.partition("/")[0]
        return f"expected the bucket {bucket!r} of {self.root}, found none; create it, or correct output"

    def _refused(self, action: str, error: Exception) -> str:
        found = f"expected to {action} in {self.root}, found"
        if type(error).__name__ in _NO_CREDENTIALS:
            return f"{found} no credentials; set them in the environment, as the client of the store documents"
        if isinstance(error, PermissionError):
            return f"{found} access denied ({_reason(error)}); allow this user to read, list, write and delete there"
        return f"{found} a refusal ({_reason(error)}); correct the address or the store's settings"

    def _exhausted(self, action: str, error: Exception) -> str:
        return (
            f"expected to {action} in {self.root}, found {TRIES} failed attempts, the last with {_reason(error)}; "
            "finished work is kept, run again when the store is available"
        )


def pause(attempt: int) -> float:
    """Return the seconds to wait after a failed attempt, counted from 1."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)) * SystemRandom().uniform(0.5, 1.0)


@lru_cache
def file_system(store: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """Return fsspec's file system for a kind of store, one per process and without a cache of listings.

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
        files.retries = 1  # s3fs would retry some failures itself
    return files


def _one_page(files: Any, query: Mapping[str, str]) -> dict[str, Any]:  # noqa: ANN401 - fsspec has no types
    page: dict[str, Any] = files.call_s3("list_objects_v2", **query)
    return page


def _put(files: Any, key: str, data: bytes, mode: str) -> None:  # noqa: ANN401 - fsspec has no types
    bound = {"timeout": PUT_SECONDS + len(data) / PUT_BYTES_PER_SECOND} if files.async_impl else {}
    # The default mode is not passed, because not every file system has this argument.
    files.pipe_file(key, data, **bound, **({"mode": mode} if mode == "create" else {}))


def _is_store_error(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENT_MODULES


def _is_transient(error: Exception) -> bool:
    if isinstance(error, PermissionError) or type(error).__name__ in _PERMANENT:
        return False
    return not (isinstance(error, OSError) and error.errno in _REFUSED)


def _reason(error: Exception) -> str:
    """Describe an error in one line, without secrets, with the error code of the store."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return redact(f"{code}: {text}" if code and code not in text else text or type(error).__name__)
