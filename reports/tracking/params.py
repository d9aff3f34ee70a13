"""The settings that determine an audit's results, as MLflow parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audit.records.result import AuditResult
from audit.storage.outside.safe_text import redact_tree
from audit.storage.run_directory import decisive

if TYPE_CHECKING:
    pass

MAX_PARAMS = 100
MAX_PARAM_LENGTH = 6000
"""MLflow's limits: parameters per batch, and characters per value."""


def audit_params(result: AuditResult) -> dict[str, str]:
    """Flatten the settings that determine the results to at most ``MAX_PARAMS`` parameters, without secrets."""
    return dict(list(flattened(decisive(result.config)).items())[:MAX_PARAMS])


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as parameters with dotted names, redacted and cut to ``MAX_PARAM_LENGTH``."""
    flat: dict[str, str] = {}
    for key, item in redact_tree(dict(value)).items():
        name = key_of(f"{prefix}{key}")
        if isinstance(item, Mapping):
            flat |= flattened(item, f"{name}.")
        else:
            flat[name] = str(item)[:MAX_PARAM_LENGTH]
    return flat


def key_of(text: str) -> str:
    """Keep the characters that MLflow allows in the name of a metric or parameter."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)
