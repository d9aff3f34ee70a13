"""Makes text safe to show: escapes control characters and replaces secrets.

Secrets are recognised by their form: user names and passwords in addresses, secret query values, headers,
``password=…`` and tokens of well-known services. They are also recognised by name: the values of environment variables
that are called a secret, a token or a password are replaced everywhere.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from functools import partial
from typing import Any

HIDDEN = "***"

_NAME = r"\b[\w.-]*(?:token|password|passwd|secret|credentials?|signature|access_?key|api_?key|account_?key)"
_QUERY = r"[?&][^=&\s]*(?:token|password|secret|key|sig|credential)[^=&\s]*="
_SHAPES = (
    # The last @ before the path ends the user information, because a password can contain @.
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#]*@"), rf"\1{HIDDEN}@"),
    (re.compile(rf"({_QUERY})[^&\s\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"({_NAME}\s*=\s*[\"']?)[^\s\"'&;,{{}}()\[\]]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"({_NAME}([\"'])\s*:\s*([\"'])).*?(?=\3)", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(bearer\s+|authorization:\s*\w+\s+)[A-Za-z0-9+/._~-]{16,}=*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|hf_[A-Za-z0-9]{20,}|gh[a-z]_[A-Za-z0-9]{30,})\b"), HIDDEN),
)

_SECRET_VARIABLE = re.compile(
    r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|ACCESS_KEY|API_?KEY|ACCOUNT_KEY|SAS_", re.IGNORECASE
)
_ADDRESS_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/\s?#]*)[/?#]\S*")
_SHORTEST = 8
"""Shorter values are not replaced, because they could be everyday words."""

_ACTS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control, format (including bidirectional overrides), surrogate, line and paragraph."""


def redact(text: str) -> str:
    """Return ``text`` with all secrets replaced by ``***``."""
    return _without(secret_values(os.environ), text)


def redact_tree(value: Any) -> Any:  # noqa: ANN401 - plain data of any shape goes in and comes out
    """Return plain data (dicts, lists, scalars) with every string redacted."""
    return _on_strings(partial(_without, secret_values(os.environ)), value)


class SecretFree(logging.Formatter):
    """Formats log records as usual and redacts the result, including tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted text of a record."""
        return redact(super().format(record))


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of an environment's secret variables, longest first, so that no part of a value remains."""
    found = {
        value
        for name, value in environment.items()
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST and not os.path.exists(value)
    }
    return tuple(sorted(found, key=len, reverse=True))


def _without(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def _on_strings(change: partial[str], value: Any) -> Any:  # noqa: ANN401 - see redact_tree
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _of_key(change, str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_strings(change, item) for item in value]
    return value


def _of_key(change: partial[str], key: str, value: Any) -> Any:  # noqa: ANN401 - see redact_tree
    """Redact the value of a key; only the host of a webhook is kept, because its path can be a secret."""
    if isinstance(value, str) and key.lower().endswith("webhook"):
        return _ADDRESS_PATH.sub(rf"\1/{HIDDEN}", change(value))
    return _on_strings(change, value)


def printable(text: str) -> str:
    """Return ``text`` in one line with control characters as escapes, so that it cannot control a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if unicodedata.category(character) in _ACTS else character for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
