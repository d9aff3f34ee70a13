"""A lease: one process at a time works for a schedule, and one that died without a word is followed after a while.

The lease is a JSON text that names its owner and when it expires. It is read and changed as one step, on a disk under a
lock (:mod:`ray_jobs.schedule.lease_file`), in an object store by numbered versions
(:mod:`ray_jobs.schedule.lease_chain`), so two processes can never both find it free. The owner renews it while it
works. Machines that share the place must agree on the time to a few seconds.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from audit.storage.place import Place
from ray_jobs.schedule.lease_chain import LeaseChain
from ray_jobs.schedule.lease_file import LeaseFile

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
        owner: Who holds it, in words: process and machine.
        token: Tells this taking of the lease from every other.
        expires: ISO 8601 in UTC.
    """

    owner: str
    token: str
    expires: str


class Changeable(Protocol):
    """A text that is read and changed as one step."""

    def change(self, decide: Callable[[str | None], str | None]) -> None:
        """Replace the text by what ``decide`` makes of it, None where there is none; what it raises changes nothing."""
        ...


class Lease:
    """The lease in one directory.

    Args:
        directory: Where it lies; a directory is made where it is missing.
        seconds: How long it lasts without being renewed.
        clock: Returns the time in UTC.
    """

    def __init__(self, directory: Place, seconds: float = SECONDS, clock: Callable[[], datetime] | None = None) -> None:
        self._place = directory / LEASE
        place = self._place
        self._text: Changeable = LeaseFile(place) if isinstance(place, Path) else LeaseChain(place)
        self._lasts = timedelta(seconds=seconds)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._own: Holder | None = None

    @property
    def renew_seconds(self) -> float:
        """How long the owner may wait before it renews."""
        return self._lasts.total_seconds() / 3

    @property
    def seconds_left(self) -> float:
        """How long the lease lasts from now unless it is renewed; not above 0 once it expired or was given back."""
        if self._own is None:
            return 0.0
        return (datetime.fromisoformat(self._own.expires) - self._clock()).total_seconds()

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
        own = self._renewed(uuid.uuid4().hex)

        def taken(text: str | None) -> str:
            holder = _holder(text)
            if holder is not None and datetime.fromisoformat(holder.expires) > self._clock():
                raise LeaseHeldError(
                    f"expected a free lease, found {self._place} held by {holder.owner} until {holder.expires}; wait "
                    "for it to end"
                )
            return _text(own)

        self._text.change(taken)
        self._own = own

    def renew(self) -> None:
        """Put the expiry off.

        Raises:
            LeaseLostError: If another process took it meanwhile.
        """
        if self._own is None:
            raise LeaseLostError(f"expected to hold {self._place}, found that it was never taken, or given back")
        own = self._renewed(self._own.token)

        def renewed(text: str | None) -> str:
            holder = _holder(text)
            if holder is None or holder.token != own.token:
                now = "nobody" if holder is None else holder.owner
                raise LeaseLostError(f"expected to hold {self._place}, found it held by {now}")
            return _text(own)

        self._text.change(renewed)
        self._own = own

    def give_back(self) -> None:
        """Free the lease; one that another process took meanwhile stays as it is."""
        own, self._own = self._own, None

        def freed(text: str | None) -> str | None:
            holder = _holder(text)
            return None if own is not None and holder is not None and holder.token == own.token else text

        self._text.change(freed)

    def _renewed(self, token: str) -> Holder:
        expires = (self._clock() + self._lasts).isoformat()
        return Holder(f"process {os.getpid()} on {socket.gethostname()}", token, expires)


def _text(holder: Holder) -> str:
    return json.dumps(asdict(holder), indent=2) + "\n"


def _holder(text: str | None) -> Holder | None:
    """Return who holds it; None where nobody does, or where the text is not one of a lease."""
    try:
        holder = Holder(**json.loads(text or ""))
        return holder if datetime.fromisoformat(holder.expires).tzinfo else None
    except (TypeError, ValueError):
        return None
