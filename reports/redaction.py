"""Secrets stay out of whatever is shown, logged or stored: user names and passwords inside addresses."""

from __future__ import annotations

import re
from typing import Any

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#]*@")
_SECRET_QUERY = re.compile(r"(?P<key>[?&][^=&\s]*(?:token|password|secret|key|sig)[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace the userinfo and secret query values of every address in ``text`` by ``***``."""
    return _SECRET_QUERY.sub(r"\g<key>***", _USERINFO.sub(r"\g<scheme>***@", text))


def redact_tree(value: Any) -> Any:  # noqa: ANN401 - plain data of any shape goes in and comes out
    """Return plain data (dicts, lists, scalars) with every string redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(item) for item in value]
    return value
