"""Pictures that were received from an endpoint, and a record of the requests for each, in the run directory.

A record is written before a request is sent, and again after its answer; a picture is written before it is used. After
a kill, the record therefore says which requests may have been charged, and no picture is requested twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from audit.storage.files import Storage

PICTURES, REQUESTS = "pictures", "requests"
"""Folders of the run directory: a folder of pictures per prompt, and the records by the same names."""

Outcome = Literal["pending", "received", "refused", "failed"]

SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
"""First bytes of a picture → suffix of its file."""


@dataclass(frozen=True)
class PictureRecord:
    """The requests for one picture.

    Attributes:
        requests: Requests that were sent.
        unanswered: Those without an answer: a timeout, a lost connection, or a kill. They may have been charged.
        received: Pictures that were received, with an answer of success; they are charged.
        outcome: ``pending`` until there is a picture, a refusal, or no retry left.
        reason: Why there is no picture.
        file: Name of the picture's file.
        url: Address from which an answer lets the picture be fetched; empty once it is here.
        revised_prompt: The prompt that the endpoint drew instead, if it says so.
    """

    requests: int = 0
    unanswered: int = 0
    received: int = 0
    outcome: Outcome = "pending"
    reason: str = ""
    file: str = ""
    url: str = ""
    revised_prompt: str = ""


@dataclass(frozen=True)
class RequestTotals:
    """The requests of a run, over all its attempts.

    Attributes:
        requests: Requests that were sent.
        received: Pictures that were received.
        refused: Pictures that the endpoint refused to draw.
        failed: Pictures that could not be had for another reason.
        unanswered: Requests without an answer, which may have been charged.
        revised: Pictures for which the endpoint changed the prompt.
    """

    requests: int = 0
    received: int = 0
    refused: int = 0
    failed: int = 0
    unanswered: int = 0
    revised: int = 0

    @property
    def charged(self) -> int:
        """Most pictures that can have been charged."""
        return self.received + self.unanswered

    def including(self, record: PictureRecord) -> RequestTotals:
        """Return the totals with one more picture."""
        return RequestTotals(
            self.requests + record.requests,
            self.received + record.received,
            self.refused + (record.outcome == "refused"),
            self.failed + (record.outcome == "failed"),
            self.unanswered + record.unanswered,
            self.revised + bool(record.revised_prompt),
        )


class PictureStore:
    """Reads and writes the pictures and records of a run; every write is atomic.

    Args:
        storage: Files of the run directory.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def run_key(self) -> str:
        """Return a random key of this run, the same in all its attempts."""
        name = f"{REQUESTS}/key"
        if not self.storage.has(name):
            self.storage.write(name, uuid.uuid4().hex.encode())
        return self.storage.read(name).decode()

    def record(self, prompt_id: str, index: int) -> PictureRecord:
        """Return the record of a picture; an empty one if it was never requested.

        A kill after the picture was written and before its record is repaired here: the picture counts as received.
        """
        name = _record_name(prompt_id, index)
        if not self.storage.has(name):
            return PictureRecord()
        record = PictureRecord(**json.loads(self.storage.read(name)))
        file = self._orphan(prompt_id, index) if record.outcome == "pending" and record.requests else None
        if file is None:
            return record
        counted = bool(record.unanswered) and not record.url
        found = replace(record, outcome="received", file=file, url="", reason="")
        return replace(found, unanswered=record.unanswered - counted, received=max(1, record.received))

    def _orphan(self, prompt_id: str, index: int) -> str | None:
        names = (f"{PICTURES}/{prompt_id}/{index:05d}{suffix}" for suffix in SUFFIXES.values())
        return next((name for name in names if self.storage.has(name)), None)

    def write(self, prompt_id: str, index: int, record: PictureRecord) -> PictureRecord:
        """Store a record, and return it."""
        self.storage.write(_record_name(prompt_id, index), json.dumps(asdict(record)).encode())
        return record

    def keep(self, prompt_id: str, index: int, record: PictureRecord, data: bytes) -> PictureRecord:
        """Store a picture and then its record, and return the record; data of no known picture are a failure."""
        suffix = next((end for start, end in SUFFIXES.items() if data.startswith(start)), None)
        if suffix is None:
            reason = f"the answer has {len(data)} bytes that are no PNG, JPEG or WebP picture"
            return self.write(prompt_id, index, replace(record, outcome="failed", reason=reason, url=""))
        name = f"{PICTURES}/{prompt_id}/{index:05d}{suffix}"
        self.storage.write(name, data)
        return self.write(prompt_id, index, replace(record, outcome="received", reason="", file=name, url=""))

    def totals(self, prompt_ids: Iterable[str]) -> RequestTotals:
        """Add up the records of all pictures of these prompts."""
        names = (
            f"{REQUESTS}/{prompt_id}/{name}"
            for prompt_id in prompt_ids
            for name in self.storage.names(f"{REQUESTS}/{prompt_id}")
        )
        totals = RequestTotals()
        for data in self.storage.read_all(names):
            if data is not None:
                totals = totals.including(PictureRecord(**json.loads(data)))
        return totals


def _record_name(prompt_id: str, index: int) -> str:
    return f"{REQUESTS}/{prompt_id}/{index:05d}.json"
