"""Reads untrusted JSON: one object of limited size and depth, by default with finite numbers of at most 64 bits."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 256 * 1024**2
"""Size limit of a document; the result of an audit of ten thousand prompts needs a tenth of it."""

_INTEGER_DIGITS = 20
"""Sign and digits of a 64-bit integer."""


def read_json_object(path: Path, kind: str, max_bytes: int = MAX_BYTES, *, any_number: bool = False) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: The file.
        kind: What is expected, for messages: ``lens.json of a lens``.
        max_bytes: Size limit of the file.
        any_number: See :func:`json_object`.

    Raises:
        ValueError: The file cannot be read, or does not contain such an object; the message names the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(
            f"{path}: expected {kind}, found no readable file ({error.strerror}); check the path"
        ) from error
    return json_object(data, f"{path}: expected {kind}", max_bytes, any_number=any_number)


def json_object(data: bytes, expected: str, max_bytes: int = MAX_BYTES, *, any_number: bool = False) -> dict[str, Any]:
    """Return the JSON object in ``data``.

    Args:
        data: UTF-8 text.
        expected: First part of a message: ``runs/a/audit.json: expected the result of an audit``.
        max_bytes: Size limit of ``data``.
        any_number: Whether ``-Infinity``, ``NaN`` and whole numbers of more than 64 bits are accepted. Configs that
            diffusers and transformers write contain them: the lower limit of a clipped variance, a tokenizer without a
            limit.

    Raises:
        ValueError: ``data`` is not a JSON object, is too large or too deep, or contains a non-finite number.
    """
    if len(data) > max_bytes:
        raise ValueError(f"{expected}, found more than {max_bytes} bytes; is this the right file?")
    parse = partial(json.loads, parse_int=_integer, parse_float=_number, parse_constant=_no_number)
    try:
        found = json.loads(data) if any_number else parse(data)
    except RecursionError as error:
        raise ValueError(f"{expected}, found hundreds of levels of nesting; is this the right file?") from error
    except ValueError as error:
        raise ValueError(f"{expected}, found invalid JSON ({error}); create the file again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{expected}, found a {type(found).__name__} instead of an object; create the file again")
    return found


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")
