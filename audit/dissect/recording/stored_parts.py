"""Which parts of a recording are stored completely: their headers, read without a model or a tensor.

A part is a folder. Its header is written last, so a part with a header was recorded to its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.dissect.recording.plan import Part, RecordingPlan, Stream
from audit.storage.files import storage_of
from audit.storage.place import Place

PART_FILE = "part.json"
"""Header of a part: its files with their sizes, and the streams that they hold."""


def missing_parts(plan: RecordingPlan, place: Place) -> list[Part]:
    """Return the parts of a plan that are not stored, are damaged, or lack a stream.

    Args:
        plan: What is recorded.
        place: Directory or address of the recording.
    """
    names = [f"{part.id}/{PART_FILE}" for part in plan.parts]
    headers = storage_of(place).read_all(names)
    return [
        part
        for part, header in zip(plan.parts, headers, strict=True)
        if header is None or not _is_whole(header, place / part.id, plan)
    ]


def streams_of(header: Mapping[str, Any]) -> dict[Stream, tuple[int, int, int]]:
    """Return the streams of a part with the shapes (C, H, W) of their maps.

    Raises:
        KeyError: The header has no streams.
        TypeError: The header has another form.
        ValueError: A shape is not that of a map.
    """
    found = {}
    for entry in header["streams"]:
        channels, height, width = (int(side) for side in entry["shape"])
        found[Stream(str(entry["hookpoint"]), bool(entry["whole_map"]), int(entry["sae_steps"]))] = (
            channels,
            height,
            width,
        )
    return found


def _is_whole(header: bytes, place: Place, plan: RecordingPlan) -> bool:
    try:
        plain = json.loads(header)
        wanted, files = set(plan.streams) <= streams_of(plain).keys(), dict(plain["files"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return wanted and all(_has(place, name, size) for name, size in files.items())


def _has(place: Place, name: str, size: int) -> bool:
    """Whether a file has its size; those of an object store are written as a whole."""
    if not isinstance(place, Path):
        return True
    return (place / name).is_file() and (place / name).stat().st_size == size
