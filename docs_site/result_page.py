"""The reference of what a run directory holds, from the committed JSON Schemas of a result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from docs_site.markdown import NOTICE, code, table

Schema = Mapping[str, Any]

_INTRODUCTION = """
`audit.json` is the result for programs. `results.parquet` has one row per image and arm. Both follow a committed
schema; `difflens-audit report`, `compare` and `sync` check it before they read a run. In Python, prefer
[`reports.frames`](python.md): it returns the same figures as pandas frames.
"""


def result_page() -> str:
    """Return a page with every field of ``audit.json`` and every column of ``results.parquet``."""
    audit, rows = _schema("audit.schema.json"), _schema("results.schema.json")
    lines = ["# Result files", "", NOTICE, _INTRODUCTION, "## audit.json", ""]
    lines += table(("field", "type", "meaning"), _fields(audit, audit))
    for name, definition in audit["$defs"].items():
        if "properties" in _merged(definition, audit):
            lines += [f"### {name}", "", str(definition.get("description", "")), ""]
            lines += table(("field", "type", "meaning"), _fields(definition, audit))
    lines += ["## results.parquet", "", str(rows["description"]), ""]
    lines += table(("column", "type", "meaning"), [*_fields(rows, rows), *_pattern_columns(rows)])
    return "\n".join(lines)


def _schema(name: str) -> Schema:
    text = resources.files("reports").joinpath("schemas", name).read_text(encoding="utf-8")
    found: Schema = json.loads(text)
    return found


def _merged(definition: Schema, whole: Schema) -> dict[str, Any]:
    """Return a definition with the properties of what it extends (``allOf``, ``$ref``)."""
    properties: dict[str, Any] = {}
    for part in definition.get("allOf", ()):
        properties |= _merged(_resolved(part, whole), whole).get("properties", {})
    if "$ref" in definition:
        properties |= _merged(_resolved(definition, whole), whole).get("properties", {})
    properties |= definition.get("properties", {})
    return {**definition, "properties": properties} if properties else dict(definition)


def _resolved(part: Schema, whole: Schema) -> Schema:
    found: Schema = whole["$defs"][part["$ref"].rsplit("/", 1)[-1]] if "$ref" in part else part
    return found


def _fields(definition: Schema, whole: Schema) -> Iterator[tuple[str, str, str]]:
    for name, value in _merged(definition, whole).get("properties", {}).items():
        yield code(name), _kind(value, whole), str(value.get("description", "") if isinstance(value, Mapping) else "")


def _pattern_columns(rows: Schema) -> Iterator[tuple[str, str, str]]:
    for value in rows["patternProperties"].values():
        name, _, meaning = str(value["description"]).partition(": ")
        yield code(name), _kind(value, rows), meaning


def _kind(value: Any, whole: Schema) -> str:  # noqa: ANN401 - a schema may also be true or false
    if not isinstance(value, Mapping):
        return "any"
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        has_fields = "properties" in _merged(whole["$defs"][name], whole)
        return f"[{name}](#{name.lower()})" if has_fields else _kind(whole["$defs"][name], whole)
    kinds = (*value.get("oneOf", ()), *value.get("anyOf", ()))
    if kinds:
        return " or ".join(dict.fromkeys(_kind(kind, whole) for kind in kinds))
    if "const" in value or "enum" in value:
        return " or ".join(code(str(item)) for item in value.get("enum", (value.get("const"),)))
    return _container(value, whole)


def _container(value: Schema, whole: Schema) -> str:
    kind = value.get("type", "any")
    if kind == "array":
        return f"list of {_kind(value.get('items', True), whole)}"
    if kind == "object" and isinstance(value.get("additionalProperties"), Mapping):
        return f"mapping to {_kind(value['additionalProperties'], whole)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
