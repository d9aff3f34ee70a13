"""A lease: one process at a time works for a schedule, and one that died without a word is followed after a while.

The lease is a JSON file that names its owner and when it expires. Reading and writing it happen under a lock of the
operating system (``flock``) on a file beside it, held for milliseconds, so two processes can never both find it free.
The owner renews it while it works. Machines that share the directory must agree on the time to a few seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit.store import write_atomically

LEASE = "lease.json"

SECONDS = 120.0
"""How long a lease lasts without being renewed. It is renewed three times as often."""


class LeaseHeldError(RuntimeError):
    """Another process holds the lease."""


class LeaseLostError(RuntimeError):
    """The lease expired before it was renewed, and another process took it."""


@dataclass(frozen=True)
class Holder:
    """What the file says.

    Attributes:
        owner: Who holds it, in words: user, machine and process.
        token: Tells this taking of the lease from every other.
        expires: ISO 8601 in UTC.
    """

    owner: str
    token: str
    expires: str


class Lease:
    """The lease in one directory.

    Args:
        directory: Where the file lies; it is made where it is missing.
        seconds: How long it lasts without being renewed.
        clock: Returns the time in UTC.
    """

    def __init__(self, directory: Path, seconds: float = SECONDS, clock: Callable[[], datetime] | None = None) -> None:
        self._path = directory / LEASE
        self._guard = directory / f".{LEASE}.lock"
        self._lasts = timedelta(seconds=seconds)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._own: Holder | None = None

    @property
    def renew_seconds(self) -> float:
        """How long the owner may wait before it renews."""
        return self._lasts.total_seconds() / 3

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Take the lease, and give it back at the end.

        Raises:
            LeaseHeldError: If another process holds it.
        """
        self.take()
        try:
            yield self
        finally:
            self.give_back()

    def take(self) -> None:
        """Take the lease if it is free or expired.

        Raises:
            LeaseHeldError: If another process holds it.
        """
        with self._locked():
            holder = self._read()
            if holder is not None and datetime.fromisoformat(holder.expires) > self._clock():
                raise LeaseHeldError(
                    f"expected a free lease, found {self._path} held by {holder.owner} until {holder.expires}; wait "
                    "for it to end"
                )
            self._write(uuid.uuid4().hex)

    def renew(self) -> None:
        """Put the expiry off.

        Raises:
            LeaseLostError: If another process took it meanwhile.
        """
        with self._locked():
            self._write(self._still_own().token)

    def give_back(self) -> None:
        """Free the lease; one that another process took meanwhile stays as it is."""
        with self._locked():
            holder = self._read()
            if self._own is not None and holder is not None and holder.token == self._own.token:
                self._path.unlink()
            self._own = None

    def _still_own(self) -> Holder:
        holder = self._read()
        if self._own is None or holder is None or holder.token != self._own.token:
            now = "nobody" if holder is None else holder.owner
            raise LeaseLostError(f"expected to hold {self._path}, found it held by {now}")
        return self._own

    def _write(self, token: str) -> None:
        expires = (self._clock() + self._lasts).isoformat()
        self._own = Holder(f"process {os.getpid()} on {socket.gethostname()}", token, expires)
        write_atomically(self._path, (json.dumps(asdict(self._own), indent=2) + "\n").encode())

    def _read(self) -> Holder | None:
        """Return who holds it; None where nobody does, or where the file is not one of a lease."""
        try:
            holder = Holder(**json.loads(self._path.read_text(encoding="utf-8")))
            return holder if datetime.fromisoformat(holder.expires).tzinfo else None
        except (FileNotFoundError, TypeError, ValueError):
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._guard.parent.mkdir(parents=True, exist_ok=True)
        with self._guard.open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield
