"""Posts JSON to an address, signed so that the receiver can tell it from a forgery and from a replay.

The signature is HMAC-SHA256 over ``<timestamp>.<body>`` with the shared secret, as in the webhooks of Stripe and Slack.
A receiver computes it again, compares in constant time, and refuses timestamps older than a few minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry, Timeout

ID_HEADER = "X-Difflens-Id"
TIMESTAMP_HEADER = "X-Difflens-Timestamp"
SIGNATURE_HEADER = "X-Difflens-Signature"

SECONDS_PER_TRY = 10.0

RETRIES = Retry(
    total=4,
    backoff_factor=1.0,  # waits 0, 2, 4 and 8 s before the tries after the first
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    allowed_methods=None,  # a POST too: the id lets the receiver drop a repetition
    redirect=0,  # a signed alert goes where the config says and nowhere else
    respect_retry_after_header=False,  # a server may not hold the schedule up for as long as it likes
    raise_on_status=False,
)


class Undelivered(RuntimeError):
    """The receiver did not take the post; the message holds neither the secret nor the address's path."""


@dataclass(frozen=True)
class Webhook:
    """Where to post, and what to sign with.

    Attributes:
        url: An https address, or http on this machine; not shown, since a path can be a secret itself.
        secret: Shared with the receiver; never shown.
        retries: How often and at what distance to try.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    retries: Retry = RETRIES

    def post(self, event_id: str, data: Mapping[str, Any]) -> None:
        """Post ``data`` as JSON.

        Raises:
            Undelivered: If the receiver could not be reached, or answered anything but 2xx.
        """
        body = json.dumps(data, ensure_ascii=False, sort_keys=True).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            ID_HEADER: event_id,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self.secret, timestamp, body),
        }
        try:
            with (
                _without_log(),
                urllib3.PoolManager(retries=self.retries, timeout=Timeout(total=SECONDS_PER_TRY)) as pool,
            ):
                answer = pool.request("POST", self.url, body=body, headers=headers, redirect=False)
        except HTTPError as error:
            kind = type(error.reason if isinstance(error, MaxRetryError) and error.reason else error).__name__
            raise Undelivered(f"expected {self._host} to take a post, found it out of reach ({kind})") from None
        if not 200 <= answer.status < 300:
            raise Undelivered(f"expected {self._host} to take a post, found the answer {answer.status}")

    @property
    def _host(self) -> str:
        """The address without path and query, which can be secrets themselves."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep urllib3 from logging the address's path at each try."""
    logs = [logging.getLogger(name) for name in ("urllib3.connectionpool", "urllib3.util.retry")]
    before = [log.disabled for log in logs]
    for log in logs:
        log.disabled = True
    try:
        yield
    finally:
        for log, disabled in zip(logs, before, strict=True):
            log.disabled = disabled


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return ``sha256=<hex>`` over ``<timestamp>.<body>``."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"
