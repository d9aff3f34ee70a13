"""The clause map, read from its file, and how much of what each clause asks for a result holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

BUNDLE = "bundle:"
"""Start of a path that is the name of a file in every bundle."""

Coverage = Literal["covered", "partly covered", "absent"]


@dataclass(frozen=True)
class Source:
    """A text with clauses.

    Attributes:
        title: Its title.
        date: Its date.
        basis: How it was read when the map was made.
    """

    title: str
    date: str
    basis: str


@dataclass(frozen=True)
class Clause:
    """One clause.

    Attributes:
        source: The text that it is in.
        clause: Its number or name.
        asks: What it asks for, in our words.
        paths: Where a result has it: keys of audit.json, with ``[]`` for any element of a list, or ``bundle:NAME``.
    """

    source: Source
    clause: str
    asks: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ClauseMap:
    """The map.

    Attributes:
        version: Counts its changes.
        dated: When it was made.
        clauses: The clauses.
    """

    version: int
    dated: str
    clauses: tuple[Clause, ...]


@dataclass(frozen=True)
class Covered:
    """A clause, and what of it a result holds.

    Attributes:
        clause: The clause.
        found: Its paths that the result has.
        coverage: Whether these are all, some or none.
    """

    clause: Clause
    found: tuple[str, ...]
    coverage: Coverage


@cache
def clause_map() -> ClauseMap:
    """Return the map that is part of the package, read from its file once."""
    plain = yaml.safe_load((files(__package__) / "clauses.yaml").read_text(encoding="utf-8"))
    sources = {key: Source(one["title"], str(one["date"]), one["basis"]) for key, one in plain["sources"].items()}
    clauses = (
        Clause(sources[one["source"]], one["clause"], one["asks"], tuple(one["paths"])) for one in plain["clauses"]
    )
    return ClauseMap(plain["version"], str(plain["dated"]), tuple(clauses))


def covered(mapped: ClauseMap, audit: Mapping[str, Any]) -> tuple[Covered, ...]:
    """Return for each clause what a result holds of it.

    Args:
        mapped: The map.
        audit: Content of audit.json. Files of a bundle count as held, because every bundle has them.
    """
    rows = []
    for clause in mapped.clauses:
        found = tuple(path for path in clause.paths if path.startswith(BUNDLE) or has(audit, path))
        coverage: Coverage = "absent" if not found else "covered" if found == clause.paths else "partly covered"
        rows.append(Covered(clause, found, coverage))
    return tuple(rows)


def has(audit: Mapping[str, Any], path: str) -> bool:
    """Whether a result has a value at a path that says something: neither null nor empty."""
    return any(value is not None and value not in ("", [], {}) for value in _values(audit, path.split(".")))


def _values(data: Any, keys: list[str]) -> Iterator[Any]:  # noqa: ANN401 - JSON values
    if not keys:
        yield data
        return
    key, rest = keys[0], keys[1:]
    value = data.get(key.removesuffix("[]")) if isinstance(data, Mapping) else None
    if not key.endswith("[]"):
        yield from _values(value, rest)
    elif isinstance(value, list):
        for element in value:
            yield from _values(element, rest)
