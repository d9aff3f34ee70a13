"""Reads the JSON file of a stored result back into a record, with one message for whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from audit.storage.files import storage_of
from audit.storage.outside.json_object import json_object
from audit.storage.place import Place

T = TypeVar("T")


def read_result(place: Place, name: str, of_data: Callable[[Mapping[str, Any]], T], what: str, command: str) -> T:
    """Read a result that a command stored.

    Args:
        place: Its directory, or its address in an object store.
        name: Name of the file.
        of_data: Turns plain data into the record.
        what: What is expected, for messages: ``an exploration``.
        command: Command that makes it: ``difflens-audit explore``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, incomplete, or of another format.
    """
    storage = storage_of(place)
    if not storage.has(name):
        raise FileNotFoundError(f"expected {what} in {place}, found no {name}; run {command}")
    at = f"{place / name}: expected {what}"
    data = json_object(storage.read(name), at)
    try:
        return of_data(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{at}, found something else ({error}); delete it and run {command}") from error
