"""The reference of config keys, from the JSON Schema of ``AuditConfig``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from audit.config.schema import file_schema
from docs_site.markdown import NOTICE, code, table

Schema = Mapping[str, Any]

_INTRODUCTION = """
A config is one YAML file. A key without a default must be given; every other key may be left out. An unknown key is an
error, and `difflens-audit validate` names the nearest known one. `configs/schema.json` is the same reference as JSON
Schema: an editor with a YAML language server completes keys and checks values with it.
"""


_REPEATED = ("mitigations[].parts[]", "models.<name>")
"""Sections with the keys of sections that the page has already."""


def config_page() -> str:
    """Return a page with every key, its type, its default and its meaning."""
    schema = file_schema()
    lines = ["# Config keys", "", NOTICE, _INTRODUCTION, "## Top level", ""]
    lines += _table("", schema)
    # A section that several methods share, such as mitigations[].if_needed, is shown once.
    titled = {_title(path, section): (path, section) for path, section in _sections("", schema, schema)}
    for title, (path, section) in titled.items():
        lines += [
            f"## {title}",
            "",
            str(section.get("description", "")).replace("``", "`"),
            "",
        ]
        lines += _table(path, section)
    return "\n".join(lines)


def _title(path: str, section: Schema) -> str:
    """Return the heading of a section; the methods of a mitigation share a path."""
    method = section.get("properties", {}).get("method", {}).get("const")
    if method is not None:
        return f"{path}, method {method}"
    return code(path) if "<" in path else path


def _sections(path: str, section: Schema, whole: Schema) -> Iterator[tuple[str, Schema]]:
    """Walk the sections below this one, each with its dotted path; ``[]`` marks a list, ``<name>`` a free key."""
    for key, value in section.get("properties", {}).items():
        for suffix, found in _below(value, whole):
            own = f"{path}.{key}{suffix}".lstrip(".")
            if own in _REPEATED:
                continue
            yield own, found
            yield from _sections(own, found, whole)


def _below(value: Schema, whole: Schema) -> Iterator[tuple[str, Schema]]:
    if "$ref" in value:
        yield "", whole["$defs"][value["$ref"].rsplit("/", 1)[-1]]
    for kind in (*value.get("oneOf", ()), *value.get("anyOf", ())):
        yield from _below(kind, whole)
    if "items" in value and isinstance(value["items"], Mapping):
        yield from ((f"[]{suffix}", found) for suffix, found in _below(value["items"], whole))
    for free in value.get("patternProperties", {}).values():
        yield from ((f".<name>{suffix}", found) for suffix, found in _below(free, whole))


def _table(path: str, section: Schema) -> list[str]:
    required = section.get("required", ())
    rows = (
        (
            code(f"{path}.{key}".lstrip(".")),
            _kind(value),
            "required" if key in required else _default(value.get("default")),
            value.get("description", "") or _pointer(f"{path}.{key}".lstrip("."), value),
        )
        for key, value in section.get("properties", {}).items()
    )
    return table(("key", "type", "default", "meaning"), rows)


def _pointer(path: str, value: Schema) -> str:
    return f"A section, see [{path}](#{path.replace('.', '')})." if "$ref" in value else ""


def _default(default: Any) -> str:  # noqa: ANN401 - whatever a default may be
    """Return a default as YAML flow text; that of a whole section stands in the section's own table."""
    if isinstance(default, Mapping) and default and any(not isinstance(v, list) for v in default.values()):
        return "those of the section"
    return "none" if default is None else code(json.dumps(default, ensure_ascii=False))


def _kind(value: Schema) -> str:
    """Return the type of a value in words."""
    if "$ref" in value:
        return "section"
    if "const" in value:
        return code(str(value["const"]))
    if "enum" in value:
        return " or ".join(code(str(item)) for item in value["enum"])
    kinds = (*value.get("oneOf", ()), *value.get("anyOf", ()))
    if kinds:
        return " or ".join(dict.fromkeys(_kind(kind) for kind in kinds))
    return _container(value)


def _container(value: Schema) -> str:
    kind = str(value.get("type", "any"))
    if kind == "array" and isinstance(value.get("items"), Mapping):
        return f"list of {_kind(value['items'])}"
    names = {"object": "mapping", "null": "none", "boolean": "true or false", "array": "list", "string": "text"}
    return names.get(kind, kind) + _limits(value)


def _limits(value: Schema) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {value[name]:g}" for name, sign in words.items() if name in value and abs(value[name]) < 1e9]
    return f", {', '.join(found)}" if found else ""
