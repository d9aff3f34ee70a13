"""Posts JSON to an address, with a signature against forged and replayed messages.

The signature is HMAC-SHA256 over ``<timestamp>.<body>`` with the shared secret, as in the webhooks of Stripe and Slack.
A receiver computes it again, compares in constant time, and refuses timestamps that are older than a few minutes.
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
    backoff_factor=1.0,  # waits 0, 2, 4 and 8 s before the retries
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    allowed_methods=None,  # retry POST too: the id lets the receiver drop a repetition
    redirect=0,  # send a signed alert only to the address in the config
    respect_retry_after_header=False,  # a server must not delay the schedule arbitrarily
    raise_on_status=False,
)


class Undelivered(RuntimeError):
    """The receiver did not accept the post. The message contains neither the secret nor the path of the address."""


@dataclass(frozen=True)
class Webhook:
    """Address and secret of a webhook.

    Attributes:
        url: An https address, or http on this machine; never shown, since its path can be a secret.
        secret: Shared with the receiver; never shown.
        retries: Number and delays of retries.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    retries: Retry = RETRIES

    def post(self, event_id: str, data: Mapping[str, Any]) -> None:
        """Post ``data`` as JSON.

        Raises:
            Undelivered: If the receiver could not be reached, or its answer was not 2xx.
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
            raise Undelivered(f"expected {self._host} to accept a post, found it unreachable ({kind})") from None
        if not 200 <= answer.status < 300:
            raise Undelivered(f"expected {self._host} to accept a post, found the answer {answer.status}")

    @property
    def _host(self) -> str:
        """The address without path and query, which can be secrets."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@contextmanager
def _without_log() -> Iterator[None]:
    """Prevent urllib3 from logging the address's path at each attempt."""
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
