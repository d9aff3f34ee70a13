"""Holds what an ``audit.json`` says against its committed schema: a run may come from somebody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

SCHEMA = "audit.schema.json"


def first_mistake(data: Mapping[str, Any]) -> str | None:
    """Say where ``data`` differs from the schema, or from itself, and how; None where all is well.

    A compiled validator says whether it differs, quickly for ten thousand prompts too; only a file that does is read
    once more by ``jsonschema``, which finds the mistake that explains the others.
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
    """Find an attribute whose groups are not the same in every row, which no schema can say."""
    groups: dict[str, list[str]] = {}
    for section in ("results", "overall", "changes"):
        for row in data[section]:
            for found in (row["shares"], row.get("bounds"), (row.get("corrected") or {}).get("shares")):
                known = groups.setdefault(row["attribute"], sorted(found)) if found else []
                if found and known != sorted(found):
                    return f"{section}: the groups {sorted(found)} of {row['attribute']} beside {known}"
    return None
