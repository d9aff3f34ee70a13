"""A single-holder lease for a schedule, which expires if its holder dies.

The lease is a JSON text with its owner and its expiry. It is read and changed atomically: on a disk under a lock
(:mod:`ray_jobs.schedule.lease_file`), in an object store by numbered versions (:mod:`ray_jobs.schedule.lease_chain`).
Two processes can therefore never both acquire it. The owner renews it while it works. The clocks of machines that share
the storage must agree within a few seconds.
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
"""Duration of a lease without renewal. It is renewed three times in this period."""


class LeaseHeldError(RuntimeError):
    """Another process holds the lease."""


class LeaseLostError(RuntimeError):
    """The lease expired before it was renewed, and another process took it."""


@dataclass(frozen=True)
class Holder:
    """Content of the lease.

    Attributes:
        owner: The holder as text: process and machine.
        token: Identifies one acquisition of the lease.
        expires: ISO 8601 in UTC.
    """

    owner: str
    token: str
    expires: str


class Changeable(Protocol):
    """A text that can be read and changed atomically."""

    def change(self, decide: Callable[[str | None], str | None]) -> None:
        """Replace the text by ``decide(text)``; the text is None if there is none. An exception leaves it unchanged."""
        ...


class Lease:
    """The lease of one directory.

    Args:
        directory: Its directory, created if it is missing.
        seconds: Duration without renewal.
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
        """Time after which the owner must renew it."""
        return self._lasts.total_seconds() / 3

    @property
    def seconds_left(self) -> float:
        """Time until expiry without renewal; 0 or negative if it has expired or was released."""
        if self._own is None:
            return 0.0
        return (datetime.fromisoformat(self._own.expires) - self._clock()).total_seconds()

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Acquire the lease, and release it at the end.

        Raises:
            LeaseHeldError: If another process holds it.
        """
        self.take()
        try:
            yield self
        finally:
            self.give_back()

    def take(self) -> None:
        """Acquire the lease if it is free or expired.

        Raises:
            LeaseHeldError: If another process holds it.
        """
        own = self._renewed(uuid.uuid4().hex)

        def taken(text: str | None) -> str:
            holder = _holder(text)
            if holder is not None and datetime.fromisoformat(holder.expires) > self._clock():
                raise LeaseHeldError(
                    f"expected a free lease, found {self._place} held by {holder.owner} until {holder.expires}; wait "
                    "until it is released or expires"
                )
            return _text(own)

        self._text.change(taken)
        self._own = own

    def renew(self) -> None:
        """Extend the expiry.

        Raises:
            LeaseLostError: If another process acquired it.
        """
        if self._own is None:
            raise LeaseLostError(f"expected to hold {self._place}, found that it was never acquired, or released")
        own = self._renewed(self._own.token)

        def renewed(text: str | None) -> str:
            holder = _holder(text)
            if holder is None or holder.token != own.token:
                now = "no process" if holder is None else holder.owner
                raise LeaseLostError(f"expected to hold {self._place}, found it held by {now}")
            return _text(own)

        self._text.change(renewed)
        self._own = own

    def give_back(self) -> None:
        """Release the lease; a lease that another process has acquired is not changed."""
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
    """Return the holder; None if the lease is free, or if the text is not a lease."""
    try:
        holder = Holder(**json.loads(text or ""))
        return holder if datetime.fromisoformat(holder.expires).tzinfo else None
    except (TypeError, ValueError):
        return None
