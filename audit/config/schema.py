"""The JSON Schema of a config. Editors complete and check YAML files with it; messages list its keys.

``python -m audit.config.schema > configs/schema.json`` writes the committed copy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from audit.config.problems import Location
from audit.config.settings import AuditConfig


@cache
def config_schema(section: type[BaseModel] = AuditConfig) -> Mapping[str, Any]:
    """Return the JSON Schema of a file, by default of ``AuditConfig``."""
    return section.model_json_schema()


def known_keys(
    location: Location, method: str | None = None, section: type[BaseModel] = AuditConfig
) -> tuple[str, ...]:
    """Return the keys that a config may have at a location.

    Args:
        location: The location.
        method: Method of the mitigation at this location; each method has different keys.
        section: What the whole file is.

    Raises:
        KeyError: If no value at this location can have keys.
    """
    schema = config_schema(section)
    here: Mapping[str, Any] = schema
    for step in location:
        here = here["items"] if isinstance(step, int) else _below(here, step)
        # Only one type of a union has keys, except for the methods of a mitigation.
        kinds = [kind for kind in (*here.get("oneOf", ()), *here.get("anyOf", ())) if "$ref" in kind] or [here]
        named = [_resolved(schema, kind) for kind in kinds]
        here = next((kind for kind in named if _method(kind) == method), named[0])
    return tuple(here["properties"])


def _resolved(schema: Mapping[str, Any], here: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema["$defs"][here["$ref"].rsplit("/", 1)[-1]] if "$ref" in here else here
    return found


def _method(section: Mapping[str, Any]) -> str | None:
    name: str | None = section.get("properties", {}).get("method", {}).get("const")
    return name


def _below(here: Mapping[str, Any], step: str) -> Mapping[str, Any]:
    """Return the schema under a key: a known key, or any key of a mapping whose names the user chooses."""
    found: Mapping[str, Any] = here.get("properties", {}).get(step) or next(iter(here["patternProperties"].values()))
    return found


if __name__ == "__main__":
    json.dump(config_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
