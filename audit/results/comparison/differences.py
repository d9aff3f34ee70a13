"""Differences between two structures of plain data, and a hash of plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One path with two values.

    Attributes:
        path: Dotted path, for example ``sampling.steps`` or ``mitigations.balanced.strength``.
        first: The value in the first structure, None if it has none.
        second: The value in the second structure, None if it has none.
    """

    path: str
    first: Any
    second: Any


def differences(first: Any, second: Any, path: str = "") -> tuple[Difference, ...]:  # noqa: ANN401 - JSON values
    """Return all paths at which two JSON values differ, in the order of the first.

    Mappings are compared key by key, and lists by name if all items have different ``name`` values. Any other list is
    one value. A missing key equals a null value, because an older file does not have newer keys.
    """
    old, new = _by_name(first), _by_name(second)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return tuple(
            difference
            for name in names
            for difference in differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        )
    return () if old == new else (Difference(path, first, second),)


def plain_hash(data: Mapping[str, Any]) -> str:
    """Return a hash of 12 hexadecimal digits that does not depend on the order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _by_name(value: Any) -> Any:  # noqa: ANN401 - JSON values
    """Convert a list of named items to a mapping, so that an inserted item does not make all later items differ."""
    if not isinstance(value, (list, tuple)):
        return value
    items = list(value)
    if not items or not all(isinstance(item, Mapping) and "name" in item for item in items):
        return items
    named = {str(item["name"]): item for item in items}
    return named if len(named) == len(items) else items
