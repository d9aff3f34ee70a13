"""Compares the rows of two runs of the same audit, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.results.replay.recorded import KEY
from audit.storage.rows import CLIP_D, probability_column

Result = Literal["identical", "within", "different", "missing", "extra"]
"""``within`` the tolerance; ``missing`` in the replay; ``extra`` if only the replay has the row."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

TOLERANCES: Mapping[str, float] = {"probability": 0.01, "cosine": 0.001, "psnr": 0.05, "lpips": 0.001}
"""Largest difference of a value that other kernels of the same formula may make: probabilities and scores; cosines of
embeddings; PSNR in dB; LPIPS distance. They are several times what a replay with other vector instructions showed; see
docs/decisions/0059-a-replay-is-a-run-of-its-own.md."""

_QUALITY = {"clip_i": "cosine", "clip_t": "cosine", "dino_i": "cosine", "psnr": "psnr", "lpips": "lpips"}


def tolerance_of(column: str) -> float:
    """Return the tolerance of a column of floating-point numbers."""
    cosine = column.startswith(f"{CLIP_D}_")
    return TOLERANCES["cosine" if cosine else _QUALITY.get(column, "probability")]


@dataclass(frozen=True)
class LargestDifference:
    """The largest difference in one column.

    Attributes:
        column: The column.
        value: Absolute difference.
        key: Arm, prompt and index of the image.
    """

    column: str
    value: float
    key: tuple[str, str, int]


@dataclass(frozen=True)
class ComparedRow:
    """One image of one arm.

    Attributes:
        arm: The arm.
        prompt_id: The prompt.
        index: The image.
        result: Whether it is the same.
        relabelled: Whether its status, or its most probable group of an attribute, differs.
        columns: Columns that differ.
    """

    arm: str
    prompt_id: str
    index: int
    result: Result
    relabelled: bool = False
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparedRows:
    """All rows of two runs.

    Attributes:
        rows: One for each image and arm, sorted by key.
        largest: Largest difference of each column of numbers that differs anywhere.
        not_compared: Columns that only one of the runs has, or that later releases added to the first.
    """

    rows: tuple[ComparedRow, ...]
    largest: tuple[LargestDifference, ...]
    not_compared: tuple[str, ...]

    def count(self, result: Result, arm: str | None = None) -> int:
        """Return the number of rows with a result, of one arm or of all."""
        return sum(row.result == result and arm in (None, row.arm) for row in self.rows)

    @property
    def relabelled(self) -> int:
        """The number of rows with another status or another most probable group."""
        return sum(row.relabelled for row in self.rows)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms."""
        return tuple(dict.fromkeys(row.arm for row in self.rows))


def compare_rows(
    was: pa.Table, here: pa.Table, attributes: Mapping[str, Sequence[str]], *, tolerant: bool
) -> ComparedRows:
    """Compare two tables of rows by the key of the image.

    Args:
        was: Rows of the first run.
        here: Rows of the replay; both as :func:`audit.storage.rows.results_schema` describes them.
        attributes: Attribute → groups.
        tolerant: Whether differences up to the tolerance of a column count as ``within``. A status and a label may then
            differ where values within the tolerance are on two sides of a threshold.
    """
    places = [{key: row for row, key in enumerate(_keys(table))} for table in (was, here)]
    common = [key for key in places[0] if key in places[1]]
    old, new = (table.take([at[key] for key in common]) for table, at in zip((was, here), places, strict=True))
    both = [name for name in old.schema.names if name in new.schema.names and name not in KEY]
    names = [name for name in both if not _is_later(name, old, new)]
    columns = {name: _compared(old[name], new[name]) for name in names}
    relabelled = _relabelled(old, new, attributes)
    rows = [*_rows(common, columns, relabelled, tolerant=tolerant)]
    rows += [ComparedRow(*key, "missing") for key in places[0] if key not in places[1]]
    rows += [ComparedRow(*key, "extra") for key in places[1] if key not in places[0]]
    return ComparedRows(
        rows=tuple(sorted(rows, key=lambda row: (row.arm, row.prompt_id, row.index))),
        largest=tuple(_largest(common, columns)),
        not_compared=tuple(sorted((set(was.schema.names) ^ set(here.schema.names)) | (set(both) - set(names)))),
    )


def _is_later(name: str, was: pa.Table, here: pa.Table) -> bool:
    """Return whether the first run is older than a column, and a later release wrote its rows again with nulls."""
    empty = was[name].null_count == was.num_rows
    return name.startswith(f"{CLIP_D}_") and empty and here[name].null_count < here.num_rows


def _keys(table: pa.Table) -> list[tuple[str, str, int]]:
    return list(zip(*(table[name].to_pylist() for name in KEY), strict=True))


def _compared(old: pa.ChunkedArray, new: pa.ChunkedArray) -> Floats:
    """Return the absolute differences of two columns, shape (n,); infinite where values that are no numbers differ."""
    if pa.types.is_floating(old.type) and pa.types.is_floating(new.type):
        first, second = (_numbers(column) for column in (old, new))
        equal = (first == second) | (np.isnan(first) & np.isnan(second))
        return np.where(equal, 0.0, np.nan_to_num(np.abs(first - second), nan=np.inf))
    equal = np.array([one == other for one, other in zip(old.to_pylist(), new.to_pylist(), strict=True)], dtype=bool)
    return np.where(equal, 0.0, np.inf)


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Return a column as numbers, NaN where it is null."""
    values: Floats = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    return values


def _relabelled(old: pa.Table, new: pa.Table, attributes: Mapping[str, Sequence[str]]) -> Mask:
    """Mark rows whose status differs, or whose most probable group of an attribute does, shape (n,)."""
    changed = _compared(old["status"], new["status"]) > 0
    for attribute, groups in attributes.items():
        names = [probability_column(attribute, group) for group in groups]
        if all(_is_number(table, name) for table in (old, new) for name in names):
            changed |= _labels(old, names) != _labels(new, names)
    return changed


def _is_number(table: pa.Table, name: str) -> bool:
    return name in table.schema.names and pa.types.is_floating(table.schema.field(name).type)


def _labels(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the position of the most probable group, −1 where nothing was perceived."""
    values = np.stack([_numbers(table[name]) for name in names], axis=1)
    labels: NDArray[np.int64] = np.where(np.isnan(values).any(axis=1), -1, np.nan_to_num(values).argmax(axis=1))
    return labels


def _rows(
    keys: Sequence[tuple[str, str, int]], columns: Mapping[str, Floats], relabelled: Mask, *, tolerant: bool
) -> list[ComparedRow]:
    by_value = {name: found for name, found in columns.items() if name != "status"}
    limits = {name: tolerance_of(name) if tolerant else 0.0 for name in by_value}
    beyond = np.zeros(len(keys), dtype=bool)
    for name, found in by_value.items():
        beyond |= found > limits[name]
    if not tolerant and "status" in columns:
        beyond |= columns["status"] > 0
    differs = {name: np.flatnonzero(found > 0) for name, found in columns.items()}
    named: dict[int, list[str]] = {}
    for name, places in differs.items():
        for place in places.tolist():
            named.setdefault(place, []).append(name)
    rows = []
    for place, key in enumerate(keys):
        result: Result = "different" if beyond[place] else "within" if place in named else "identical"
        rows.append(ComparedRow(*key, result, bool(relabelled[place]), tuple(named.get(place, ()))))
    return rows


def _largest(keys: Sequence[tuple[str, str, int]], columns: Mapping[str, Floats]) -> list[LargestDifference]:
    """Return the largest finite difference of each column of numbers that differs, the columns in order."""
    found = []
    for name, values in columns.items():
        finite = np.where(np.isfinite(values), values, 0.0)
        if len(finite) and finite.max() > 0:
            place = int(finite.argmax())
            found.append(LargestDifference(name, float(finite[place]), keys[place]))
    return found


def as_table_row(row: ComparedRow) -> dict[str, Any]:
    """Return a row for a table."""
    return {
        "arm": row.arm,
        "prompt_id": row.prompt_id,
        "index": row.index,
        "result": row.result,
        "relabelled": row.relabelled,
        "columns": " ".join(row.columns),
    }
