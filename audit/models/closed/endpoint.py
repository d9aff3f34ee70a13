"""One request to an OpenAI-compatible ``images/generations`` endpoint, and what its answer means.

The client's own retries are switched off, so that every request is counted by the caller.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit.config.kinds.closed import endpoint_name
from audit.config.sections import ModelConfig
from audit.storage.outside.safe_text import HIDDEN, printable, redact

if TYPE_CHECKING:
    from openai import APIStatusError

MAX_PICTURE_BYTES = 64 * 1024**2
"""Size limit of a picture that is fetched from an address."""

PASSES = frozenset({408, 409, 425, 429, *range(500, 600)})
"""Status codes of errors that may pass."""

_REFUSAL = re.compile(r"content.?policy|content.?filter|moderation|safety|responsible.?ai|policy.?violation", re.I)
"""Words by which endpoints say that they refuse a prompt; each has codes of its own."""

_NO_KEY = "no key is needed"
_MOST_CHARACTERS = 300


class EndpointError(RuntimeError):
    """The endpoint refuses every request of this audit: key, model or parameters are wrong."""


class PassingError(RuntimeError):
    """A request failed and may succeed later.

    Attributes:
        answered: Whether the endpoint answered, or was not reached; otherwise the request may have been charged.
        wait_seconds: How long the endpoint asks to wait, None if it does not say.
    """

    def __init__(self, reason: str, *, answered: bool, wait_seconds: float | None = None) -> None:
        """Keep what the caller needs to retry."""
        super().__init__(reason)
        self.answered, self.wait_seconds = answered, wait_seconds


class RefusedPromptError(RuntimeError):
    """The endpoint refuses to draw this prompt."""


@dataclass(frozen=True)
class Answer:
    """An answer of success.

    Attributes:
        data: The picture's bytes; empty if it has to be fetched.
        url: Where to fetch it; empty if the bytes are here.
        revised_prompt: The prompt that was drawn instead, if the endpoint says so.
    """

    data: bytes
    url: str
    revised_prompt: str


class Endpoint:
    """Sends requests for one image each.

    Args:
        model: Section ``model`` with ``source: api``.

    Raises:
        ValueError: The client is not installed, or the key is not in the environment.
    """

    def __init__(self, model: ModelConfig) -> None:
        try:
            from openai import OpenAI
        except ModuleNotFoundError as error:
            raise ValueError("expected the package openai, found none; pip install 'difflens-audit[api]'") from error
        self._model, self._key = model, _key_of(model.api_key_env)
        self._timeout = model.limits.timeout_seconds
        self.name = endpoint_name(model.base_url or "")
        self._client = OpenAI(base_url=model.base_url, api_key=self._key, max_retries=0, timeout=self._timeout)

    def draw(self, text: str, request_id: str) -> Answer:
        """Request one image of a prompt.

        Args:
            text: The prompt.
            request_id: The same for every request for this image; endpoints that know ``Idempotency-Key`` charge once.

        Raises:
            PassingError: The request may succeed later.
            RefusedPromptError: The endpoint refuses the prompt.
            EndpointError: The endpoint would refuse every request.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        try:
            response = self._client.images.generate(
                model=self._model.model,
                prompt=text,
                n=1,
                size=self._model.size,
                extra_body=dict(self._model.parameters) or None,
                extra_headers={"Idempotency-Key": request_id},
            )
        except APITimeoutError as error:
            raise PassingError(f"no answer within {self._timeout:g} seconds", answered=_not_sent(error)) from None
        except APIConnectionError as error:
            reason = self._safe(f"no connection ({error.__cause__ or error})")
            raise PassingError(reason, answered=_not_sent(error)) from None
        except APIStatusError as error:
            raise self._meaning(error) from None  # the cause holds the request, and so the key
        except (OpenAIError, ValueError) as error:
            raise PassingError(self._safe(f"an answer that cannot be read ({error})"), answered=False) from None
        return self._answer(response)

    def _answer(self, response: Any) -> Answer:  # noqa: ANN401 - the client does not check what an endpoint sends
        first = next(iter(getattr(response, "data", None) or ()), None)
        coded, url = getattr(first, "b64_json", None), getattr(first, "url", None)
        revised = self._safe(str(getattr(first, "revised_prompt", None) or ""))
        if isinstance(coded, str) and coded:
            try:
                return Answer(base64.b64decode(coded, validate=True), "", revised)
            except (ValueError, binascii.Error):
                return Answer(b"", "", revised)
        return Answer(b"", url if isinstance(url, str) else "", revised)

    def _meaning(self, error: APIStatusError) -> Exception:
        """Classify an answer with an error."""
        said = self._safe(_message(error))
        if error.status_code in PASSES and not _is_spent(error):
            return PassingError(f"{error.status_code}: {said}", answered=True, wait_seconds=_wait(error))
        words = " ".join(str(part) for part in (error.code, error.type, said))
        if error.status_code in (400, 403, 422, 451) and _REFUSAL.search(words):
            return RefusedPromptError(f"{error.status_code}: {said}")
        return EndpointError(
            f"{self.name} refuses requests with {error.status_code}: {said}; check the key in "
            f"{self._model.api_key_env}, model.model, model.size, model.parameters and the account"
        )

    def fetch(self, url: str) -> bytes:
        """Fetch a picture that an answer names; no key is sent.

        Raises:
            PassingError: It cannot be fetched now.
        """
        if not url.lower().startswith(("https://", "http://")):
            raise PassingError("the answer names no http address", answered=True)
        try:
            with urllib.request.urlopen(url, timeout=self._timeout) as response:  # noqa: S310 - http, see above
                data: bytes = response.read(MAX_PICTURE_BYTES + 1)
        except (OSError, ValueError) as error:  # HTTPError is an OSError; its message can hold no address
            code = f"status {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
            raise PassingError(f"the picture cannot be fetched ({code})", answered=True) from None
        if len(data) > MAX_PICTURE_BYTES:
            return b""
        return data

    def _safe(self, text: str) -> str:
        """Return one short line without the key."""
        hidden = text.replace(self._key, HIDDEN) if self._key != _NO_KEY else text
        return printable(redact(" ".join(hidden.split())))[:_MOST_CHARACTERS]


def _key_of(variable: str | None) -> str:
    if variable is None:
        return _NO_KEY
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"expected a key in the environment variable {variable}, found none; set it where the workers run, or set "
            "model.api_key_env: null if the endpoint needs no key"
        )
    return key


def _message(error: APIStatusError) -> str:
    body = error.body
    if isinstance(body, Mapping) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error)


def _not_sent(error: Exception) -> bool:
    """Return whether no connection was made; compared by name, since the client has used two HTTP libraries."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")


def _is_spent(error: APIStatusError) -> bool:
    """Return whether a 429 says that the account has no credit left, which no waiting changes."""
    return error.status_code == 429 and "insufficient_quota" in f"{error.code} {error.type}"


def _wait(error: APIStatusError) -> float | None:
    """Return the seconds of the header ``Retry-After``; a date there is ignored."""
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 3600 else None  # also false for NaN
