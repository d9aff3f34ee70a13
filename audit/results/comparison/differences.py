"""Where two pieces of plain data differ, and what a config hashes to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One place with two values.

    Attributes:
        path: Dotted, for example ``sampling.steps`` or ``mitigations.balanced.strength``.
        first: The value in the first, None where it has none.
        second: The value in the second, likewise.
    """

    path: str
    first: Any
    second: Any


def differences(first: Any, second: Any, path: str = "") -> tuple[Difference, ...]:  # noqa: ANN401 - JSON values
    """Return every place where two JSON values differ, in the order of the first.

    Mappings are entered, and so are lists whose items all have a ``name`` of their own; any other list is one value. A
    key that is absent equals one that is null: an older file does not know what a newer one leaves empty.
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
    """Return 12 hexadecimal digits that are the same for equal plain data, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _by_name(value: Any) -> Any:  # noqa: ANN401 - JSON values
    """Turn a list of named items into a mapping, so that one more item does not make all after it differ."""
    if not isinstance(value, (list, tuple)):
        return value
    items = list(value)
    if not items or not all(isinstance(item, Mapping) and "name" in item for item in items):
        return items
    named = {str(item["name"]): item for item in items}
    return named if len(named) == len(items) else items
