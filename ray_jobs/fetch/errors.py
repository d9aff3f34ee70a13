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
        UnreachableError: The hub does not answer.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The bases are the errors of the library's HTTP client, which is another one in each of its major versions.
    silent: tuple[type[BaseException], ...] = (HfHubHTTPError, *HfHubHTTPError.__bases__, OfflineModeIsEnabled, OSError)
    try:
        yield
    except GatedRepoError as error:
        message = f"{key}: expected access to {source!r}, found a model whose licence must be accepted first"
        raise FetchError(f"{message}; accept it on its page, then log in: hf auth login") from error
    except RevisionNotFoundError as error:
        raise FetchError(f"{key}: expected a revision of {source!r}, found none; correct the revision") from error
    except RepositoryNotFoundError as error:
        message = f"{key}: expected a repository on the hub, found none called {source!r} that you may read"
        raise FetchError(f"{message}; correct the name, or log in: hf auth login") from error
    except LocalEntryNotFoundError as error:
        raise UnreachableError(_silent(key, source, error)) from error
    except EntryNotFoundError as error:
        raise FetchError(f"{key}: expected a file of {source!r}, found none ({_first_line(error)})") from error
    except silent as error:
        if isinstance(error, OSError) and error.errno in LOCAL_FAULTS:
            raise
        raise UnreachableError(_silent(key, source, error)) from error


def _silent(key: str, source: str, error: BaseException) -> str:
    return (
        f"{key}: expected to download {source!r}, found no answer of the hub or one that was cut "
        f"({_first_line(error)}); check the connection and HF_ENDPOINT, then repeat the command: it continues"
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
