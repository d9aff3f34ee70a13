"""Writes a benchmark as a page, as Markdown and as Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audit.results.benchmark.rows import MethodRow
from audit.results.benchmark.steered import Figure, GroupInArm
from audit.storage.files import storage_of
from audit.storage.place import Place
from reports.benchmark.findings import Findings
from reports.benchmark.page import notices, render, title
from reports.benchmark.published import NOTE, TABLES
from reports.benchmark.sweep import sweep_figures
from reports.benchmark.tables import (
    BEST,
    agreement_table,
    cost_table,
    effect_table,
    model_tables,
    path_table,
    quality_table,
)
from reports.figures.arms.clip_d import ASSUMED
from reports.figures.charts import Table

PAGE, MARKDOWN, PARQUET = "benchmark.html", "benchmark.md", "benchmark.parquet"

_FIGURES = (
    "before", "after", "worst_before", "worst", "shift", "own_shift", "own_flips", "flips",
    "clip_i", "clip_t", "kid", "fid", "shown",
    "psnr_outside", "lpips_outside", "dino_outside", "distance", "outside", "unlike_prompt", "unlike_all", "faces_lost",
)  # fmt: skip
_ENDS = tuple(field.name for field in fields(Figure))


def write_files(findings: Findings, place: Place) -> Place:
    """Write the three files, each atomically, and return the place of the page.

    Args:
        findings: What to write.
        place: Directory of the benchmark.
    """
    storage = storage_of(place)
    storage.write(PARQUET, parquet(findings))
    storage.write(MARKDOWN, markdown(findings).encode())
    storage.write(PAGE, render(findings).encode())
    return place / PAGE


def parquet(findings: Findings) -> bytes:
    """Return one row for each model, attribute and method; a figure has columns for its value and its interval."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([flat_row(row) for row in findings.rows], schema=schema()), buffer)
    return buffer.getvalue()


def flat_row(row: MethodRow) -> dict[str, Any]:
    """Return a row as plain data without nesting."""
    plain = {name: value for name, value in vars(row).items() if name not in (*_FIGURES, "cost", "balanced", "groups")}
    figures = {
        name if end == "value" else f"{name}_{end}": None if figure is None else getattr(figure, end)
        for name in _FIGURES
        for figure in [getattr(row, name)]
        for end in _ENDS
    }
    groups = [asdict(one) for one in row.groups]
    return {**plain, "balanced": "+".join(row.balanced), **figures, "groups": groups, **asdict(row.cost)}


def schema() -> pa.Schema:
    """Return the schema of the Parquet file."""
    text = ("model", "balanced", "attribute", "arm", "method", "run", "worst_prompt", "shifted", "network", "control")
    figures = [name if end == "value" else f"{name}_{end}" for name in _FIGURES for end in _ENDS]
    return pa.schema(
        [
            *((name, pa.string()) for name in text),
            ("held_out", pa.bool_()),
            ("prompts", pa.int32()),
            *((name, pa.float64()) for name in (*figures, "calls", "fit_seconds")),
            ("groups", pa.list_(_of_groups())),
            *((name, pa.int64()) for name in ("fit_images", "fit_steps", "search_images", "lens_images")),
        ]
    )


def _of_groups() -> pa.StructType:
    """Return the type of :class:`audit.results.benchmark.steered.GroupInArm`."""
    figure = pa.struct([(end, pa.float64()) for end in _ENDS])
    types = {"group": pa.string(), "target": pa.float64()}
    return pa.struct([(field.name, types.get(field.name, figure)) for field in fields(GroupInArm)])


def markdown(findings: Findings) -> str:
    """Return the tables of the page as Markdown."""
    return "\n".join(_lines(findings)) + "\n"


def _lines(findings: Findings) -> Iterator[str]:
    yield from (f"# Benchmark {_cell(findings.name)}: {title(findings)}", "")
    yield from (f"{_cell(notice)}\n" for notice in notices(findings))
    yield (
        f"{BEST} marks the best figure of a column if its interval is separate from those of all other methods. "
        "A method that changes no image is named, and never marked."
    )
    for table in model_tables(findings):
        yield from _table(table)
    for part in findings.parts:
        yield from ("", f"## {_cell(part.title)}")
        for table in (effect_table(part), quality_table(part), path_table(part), cost_table(part)):
            yield from _table(table)
        sweep = [figure.table for figure in sweep_figures(part, "")]
        for table in sweep:
            yield from _table(table)
        yield from ("", _cell(ASSUMED)) if sweep else ()
    if findings.agreements:
        yield from ("", "## Rankings", *_table(agreement_table(findings.agreements)))
    yield from ("", "## Published figures", "", NOTE)
    for table in TABLES:
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield from ("", f"{_cell(table.caption)}", "")
    yield f"| {' | '.join(map(_cell, table.columns))} |"
    yield f"| {' | '.join(['---'] * len(table.columns))} |"
    for row in table.rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    """Escape what Markdown or HTML would read as more than text."""
    for character in "\\|<>`":
        text = text.replace(character, f"&#{ord(character)};")
    return " ".join(text.splitlines())
