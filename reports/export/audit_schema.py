"""Validates ``audit.json`` against its schema; a run directory can come from another party."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCHEMA = "audit.schema.json"


def first_mistake(data: Mapping[str, Any]) -> str | None:
    """Return the first violation of the schema or of consistent groups, with its location; None if ``data`` is valid.

    A compiled validator decides quickly, also for ten thousand prompts. Only an invalid file is validated again with
    ``jsonschema``, which selects the error that explains the others best.
    """
    import jsonschema_rs

    schema = json.loads(resources.files("reports").joinpath("schemas", SCHEMA).read_text(encoding="utf-8"))
    if jsonschema_rs.Draft202012Validator(schema).is_valid(data):
        return _other_groups(data)
    return _best_match(schema, data)


def _best_match(schema: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(data))
    return f"{error.json_path.removeprefix('$.')}: {error.message:.300}" if error else "what it does not allow"


def _other_groups(data: Mapping[str, Any]) -> str | None:
    """Find an attribute whose groups differ between rows; JSON Schema cannot express this rule."""
    groups: dict[str, list[str]] = {}
    for section in ("results", "overall", "changes"):
        for row in data[section]:
            for found in (row["shares"], row.get("bounds"), (row.get("corrected") or {}).get("shares")):
                known = groups.setdefault(row["attribute"], sorted(found)) if found else []
                if found and known != sorted(found):
                    return f"{section}: the groups {sorted(found)} of {row['attribute']} in one row, {known} in another"
    return None
