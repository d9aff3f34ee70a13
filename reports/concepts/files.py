"""Writes concepts over time as a page and as JSON, reads them back, and turns them into frames.

>>> from reports.concepts.files import concept_frames, read_concepts
>>> found = read_concepts("runs/concepts/occupations-3f9a12")
>>> concept_frames(found)["layout"].query("reader == 'placed'")
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from audit.records.estimates import Estimate
from audit.records.inside.concepts import Concepts
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from audit.storage.stored_result import read_result
from reports.concepts.page import render

PAGE, RESULT = "concepts.html", "concepts.json"

_STAGE_COLUMNS = ["kind", "concept", "stage", "strength", "measure", "value", "low", "high", "n"]
"""Columns of the edits, which may be none."""


def write_files(found: Concepts, place: Place) -> Place:
    """Write page and JSON, each atomically, and return the place of the page.

    Args:
        found: The result.
        place: Its directory.
    """
    storage = storage_of(place)
    storage.write(RESULT, (json.dumps(found.as_data(), indent=1) + "\n").encode())
    storage.write(PAGE, render(found).encode())
    return place / PAGE


def read_concepts(directory: str) -> Concepts:
    """Read a result from its directory, or from its address in an object store.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is damaged, or of another format.
    """
    return read_result(place_of(directory), RESULT, Concepts.of_data, "concepts", "difflens-audit concepts")


def concept_frames(found: Concepts) -> dict[str, pd.DataFrame]:
    """Return one frame for each kind of row.

    Returns:
        ``layout`` (reader, block, half, step, part, value, low, high; the part ``mean`` is the mean over parts, and
        ``over_prior``, ``over_prompt`` and ``over_forecast`` are differences of that mean), ``dictionaries`` (block,
        half, stage, latents, dead, cohesion, separability, step, explained), ``followed`` (block, part, step,
        with_last) and ``stages`` (kind, concept, stage, strength, measure, value, low, high, n).
    """
    layout = [
        {"reader": one.reader, "block": one.block, "half": one.half, "step": one.step, "part": part}
        | _numbers(estimate)
        for one in found.layout
        for part, estimate in {
            "mean": one.mean,
            "over_prior": one.over_prior,
            "over_prompt": one.over_prompt,
            "over_forecast": one.over_forecast,
            **one.parts,
        }.items()
        if estimate is not None
    ]
    dictionaries = [
        {name: getattr(one, name) for name in ("block", "half", "stage", "latents", "dead", "cohesion", "separability")}
        | {"step": step, "explained": explained}
        for one in found.dictionaries
        for step, explained in one.explained.items()
    ]
    followed = [
        {"block": one.block, "part": one.part, "step": step, "with_last": value}
        for one in found.followed
        for step, value in one.with_last.items()
    ]
    stages = [
        {"kind": one.kind, "concept": one.concept, "stage": one.stage, "strength": one.strength, "measure": name}
        | _numbers(estimate)
        for one in (found.stages.figures if found.stages is not None else ())
        for name, estimate in (
            ("success", one.success),
            *((m, getattr(one, m)) for m in ("clip", "similarity", "distance")),
        )
        if estimate is not None
    ]
    rows = {"layout": layout, "dictionaries": dictionaries, "followed": followed, "stages": stages}
    return {
        name: pd.DataFrame(each, columns=_STAGE_COLUMNS if name == "stages" else None) for name, each in rows.items()
    }


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
