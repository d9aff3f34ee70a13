"""The JSON Schema of a config. Editors complete and check YAML files with it; messages list its keys.

``python -m audit.config.schema > configs/schema.json`` writes the committed copy.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter

from audit.config.fields import MOST_MODELS, OF_ONE_MODEL, ShortName
from audit.config.problems import Location
from audit.config.settings import AuditConfig


@cache
def config_schema(section: type[BaseModel] = AuditConfig) -> Mapping[str, Any]:
    """Return the JSON Schema of a file, by default of ``AuditConfig``."""
    schema = section.model_json_schema()
    if "JointConfig" in schema["$defs"]:
        _let_parts_be_unnamed(schema["$defs"])
    return schema


@cache
def file_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of an audit's file, which can have several models under ``models``."""
    schema = copy.deepcopy(dict(config_schema()))
    shared, entry = schema["properties"], schema["$defs"]["ModelConfig"]
    schema["$defs"]["ModelEntry"] = entry | {
        "title": "ModelEntry",
        "description": "One of several models: the keys of ``model``, and what depends on its architecture.",
        "properties": entry["properties"] | {name: shared[name] for name in OF_ONE_MODEL},
    }
    name = TypeAdapter(ShortName).json_schema()
    shared["models"] = {
        "description": "Several models instead of ``model``, by name. Each is an audit of its own, with the same "
        "seeds, prompts and judge, and the models are then compared. An entry has the keys of ``model``; beside "
        "them it can have ``sampling`` and ``lens``, whose keys replace the shared ones, and ``mitigations``.",
        "type": "object",
        "minProperties": 2,
        "maxProperties": MOST_MODELS,
        "patternProperties": {name["pattern"]: {"$ref": "#/$defs/ModelEntry"}},
        "propertyNames": {"maxLength": name["maxLength"]},
        "additionalProperties": False,
    }
    return schema | {"not": {"required": ["model", "models"]}}


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
    schema = file_schema() if section is AuditConfig else config_schema(section)
    here: Mapping[str, Any] = schema
    for depth, step in enumerate(location):
        here = here["items"] if isinstance(step, int) else _below(here, step)
        # Only one type of a union has keys, except for the methods of a mitigation.
        kinds = [kind for kind in (*here.get("oneOf", ()), *here.get("anyOf", ())) if "$ref" in kind] or [here]
        named = [_resolved(schema, kind) for kind in kinds]
        wanted = "joint" if location[depth + 1 : depth + 2] == ("parts",) else method
        here = next((kind for kind in named if _method(kind) == wanted), named[0])
    return tuple(here["properties"])


def _let_parts_be_unnamed(sections: dict[str, Any]) -> None:
    """Let a part of a joint arm lack its name, which follows from the arm and the attribute."""
    items = sections["JointConfig"]["properties"]["parts"]["items"]
    items.pop("discriminator", None)
    for part in items["oneOf"]:
        whole = sections[part["$ref"].rsplit("/", 1)[-1]]
        name = f"{whole['title']}Part"
        sections[name] = whole | {"title": name, "required": [key for key in whole["required"] if key != "name"]}
        part["$ref"] = f"#/$defs/{name}"


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
    json.dump(file_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
