"""Errors of a download, by what the user can do about them.

A source that cannot be reached is a fault of the infrastructure: the same command may work later. Content that is not
what the publisher says it is, or that does not exist, stays wrong until the config or the file is replaced.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

LOCAL_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""Codes of errors of this machine's disk."""


class FetchError(ValueError):
    """Something that a config needs does not exist, or has other content than its publisher states."""


class UnreachableError(OSError):
    """The hub or another server does not answer."""


@contextmanager
def on_this_disk(key: str) -> Iterator[None]:
    """Convert errors of this machine's disk, but not a full disk, which is reported as such.

    Args:
        key: Key of the config, or the option, that the work is for.

    Raises:
        FetchError: Something cannot be read or written.
    """
    try:
        yield
    except UnreachableError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"{key}: expected files that can be read and a directory that can be written to"
        raise FetchError(f"{message}, found: {str(error)[:300]}; correct the permissions or the path") from error


@contextmanager
def described(key: str, source: str) -> Iterator[None]:
    """Convert the errors of the hub's library to messages that name the key of the config.

    Args:
        key: Key of the config.
        source: Hub id.

    Raises:
        FetchError: There is no such repository, revision or file; or it must be accepted on its page first.
        UnreachableError: The hub does not answer, or something else answers in its place.
    """
    from huggingface_hub.errors import HfHubHTTPError

    # The bases are the errors of the library's HTTP client, which is another one in each of its major versions. The
    # last three are what it raises for an answer that is not a hub's, for example the page of a proxy.
    client = HfHubHTTPError.__bases__
    expected: tuple[type[BaseException], ...] = (*client, HfHubHTTPError, OSError, ValueError, KeyError, TypeError)
    try:
        yield
    except expected as error:
        if isinstance(error, OSError) and error.errno in LOCAL_FAULTS:
            raise
        mistake = _mistake(source, error)
        if mistake is not None:
            raise FetchError(f"{key}: {mistake}") from error
        raise UnreachableError(
            f"{key}: expected to download {source!r}, found no answer of the hub, or another one than a hub's "
            f"({_first_line(error)}); check the connection and HF_ENDPOINT, then repeat the command: it continues"
        ) from error


def _mistake(source: str, error: BaseException) -> str | None:
    """Return what is wrong with a hub id or with access to it; None if the hub did not say that something is."""
    from huggingface_hub import errors

    found: dict[type[Exception], str] = {
        errors.HFValidationError: f"expected a hub id (owner/name), found {source!r}; correct it",
        errors.GatedRepoError: f"expected access to {source!r}, found a model whose licence must be accepted first; "
        "accept it on its page, then log in: hf auth login",
        errors.RevisionNotFoundError: f"expected a revision of {source!r}, found none; correct the revision",
        errors.RepositoryNotFoundError: f"expected a repository on the hub, found none called {source!r} that you may "
        "read; correct the name, or log in: hf auth login",
        errors.RemoteEntryNotFoundError: f"expected a file of {source!r}, found none ({_first_line(error)})",
    }
    return next((text for kind, text in found.items() if isinstance(error, kind)), None)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
