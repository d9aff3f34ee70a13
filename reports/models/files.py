"""Writes a comparison of models: the page, JSON, and two flat tables as Parquet and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audit.records.estimates import Estimate
from audit.results.models.compare import write_models
from audit.results.models.records import Difference, ModelComparison
from audit.storage.place import Place
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import inert
from reports.models.page import render

PAGE, FIGURES, DIFFERENCES = "models.html", "figures", "differences"

_TEXT = ("model", "arm", "prompt_id", "attribute", "group", "figure")
FIGURE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXT),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        *((name, pa.int64()) for name in ("n", "best_place", "last_place")),
    ]
)
"""Columns of ``figures``: one row for each figure of one model; a figure of no prompt or group has none there."""

DIFFERENCE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("first", "second", "arm", "prompt_id", "attribute", "group", "figure")),
        *((name, pa.float64()) for name in ("first_value", "second_value", "difference", "low", "high")),
        *((name, pa.float64()) for name in ("deciding_low", "deciding_high", "level", "p_value")),
        ("established", pa.bool_()),
        ("n", pa.int64()),
    ]
)
"""Columns of ``differences``: one row for each tested difference, first − second."""


def write_files(comparison: ModelComparison, place: Place, *, linked: bool = True) -> Place:
    """Write all files, each atomically, and return the place of the page.

    Args:
        comparison: The comparison.
        place: Its directory.
        linked: Whether the directory is two levels below that of the runs.
    """
    directory = RunDirectory(place)
    for name, rows, schema in (
        (FIGURES, list(figure_rows(comparison)), FIGURE_SCHEMA),
        (DIFFERENCES, list(map(difference_row, comparison.differences)), DIFFERENCE_SCHEMA),
    ):
        directory.write_bytes(f"{name}.parquet", parquet(rows, schema))
        directory.write_bytes(f"{name}.csv", comma_separated(rows, schema).encode())
    write_models(directory, comparison)
    return directory.write_bytes(PAGE, render(comparison, linked=linked).encode())


def figure_rows(comparison: ModelComparison) -> Iterator[dict[str, Any]]:
    """Yield a flat row for each figure of each model."""
    for found in comparison.discrepancies:
        base = {"model": found.model, "arm": found.arm, "attribute": found.attribute}
        places = {"best_place": found.best_place, "last_place": found.last_place}
        yield base | {"figure": "discrepancy_mean"} | _ends(found.mean) | places
        yield base | {"figure": "discrepancy_worst", "prompt_id": found.worst_prompt} | _ends(found.worst)
    for share in comparison.shares:
        where = {"prompt_id": share.prompt_id, "attribute": share.attribute, "group": share.group}
        yield {"model": share.model, "arm": share.arm, "figure": "share"} | where | _ends(share.share)
    for figure in comparison.figures:
        yield {name: getattr(figure, name) for name in ("model", "arm", "figure", "value", "low", "high", "n")}
    for cost in comparison.costs:
        counts = {"images": cost.images, "failed": cost.failed, "seconds_per_image": cost.seconds_per_image}
        for name, value in counts.items():
            if value is not None:
                yield {"model": cost.model, "figure": name, "value": float(value)}
        if cost.unclassified is not None:
            yield {"model": cost.model, "figure": "unclassified"} | _ends(cost.unclassified)


def difference_row(found: Difference) -> dict[str, Any]:
    """Return a difference as a flat row; ``low`` and ``high`` are its 95 % interval alone."""
    names = ("first", "second", "arm", "prompt_id", "attribute", "group", "first_value", "second_value", "level")
    return {
        **{name: getattr(found, name) for name in names},
        "figure": "share" if found.group else "mean_squared_discrepancy",
        "difference": found.difference.value,
        "low": found.difference.low,
        "high": found.difference.high,
        "n": found.difference.n,
        "deciding_low": found.low,
        "deciding_high": found.high,
        "p_value": found.p_value,
        "established": found.established,
    }


def parquet(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> bytes:
    """Return flat rows as Parquet."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
    return buffer.getvalue()


def comma_separated(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> str:
    """Return flat rows as CSV; a text that a spreadsheet would run is made harmless."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(schema.names)
    for row in rows:
        values = (row.get(name) for name in schema.names)
        writer.writerow([inert(value) if isinstance(value, str) else value for value in values])
    return text.getvalue()


def _ends(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
