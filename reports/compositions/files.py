"""Writes compositions as a page, JSON and Parquet, reads them back, and turns them into frames.

>>> from reports.compositions.files import composition_frames, read_compositions
>>> found = read_compositions("runs/compositions/pairs-3f9a12")
>>> composition_frames(found)["company"].query("found")
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from audit.records.estimates import Estimate
from audit.records.inside.compositions import (
    Alike,
    AloneImages,
    Company,
    Compositions,
    JointCell,
    Matching,
    PairImages,
    Reversal,
)
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from audit.storage.stored_result import read_result
from reports.compositions.page import render

PAGE, RESULT = "compositions.html", "compositions.json"

_PEOPLE = ("no_person", "one_person", "two_people", "more_people")


def write_files(found: Compositions, place: Place) -> Place:
    """Write page, JSON and a Parquet file for each frame, each atomically, and return the place of the page.

    Args:
        found: The result.
        place: Its directory.
    """
    storage = storage_of(place)
    for name, frame in composition_frames(found).items():
        data = io.BytesIO()
        frame.to_parquet(data, index=False)
        storage.write(f"{name}.parquet", data.getvalue())
    storage.write(RESULT, (json.dumps(found.as_data(), indent=1) + "\n").encode())
    storage.write(PAGE, render(found).encode())
    return place / PAGE


def read_compositions(directory: str) -> Compositions:
    """Read a result from its directory, or from its address in an object store.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is damaged, or of another format.
    """
    return read_result(place_of(directory), RESULT, Compositions.of_data, "compositions", "difflens-audit compose")


def composition_frames(found: Compositions) -> dict[str, pd.DataFrame]:
    """Return one frame for each kind of row; a figure that does not exist is missing.

    A figure with an interval has four columns: its name, and the name with ``_low``, ``_high`` and ``_n``.

    Returns:
        ``images`` and ``alone_images`` (images by number of persons, told apart, classified by attribute), ``joint``
        (pair, attribute, first, second, count, share, expected), ``company`` (share of a group in company and alone),
        ``reversals`` (a combination of groups against the reverse one), ``alike`` (dependence of both persons) and
        ``matching`` (how well persons are matched where the truth is known; empty groups for all).
    """
    return {
        "images": _frame(PairImages, found.pairs, tuple(found.attributes)),
        "alone_images": _frame(AloneImages, found.alone, tuple(found.attributes)),
        "joint": _frame(JointCell, found.cells),
        "company": _frame(Company, found.company),
        "reversals": _frame(Reversal, found.reversals),
        "alike": _frame(Alike, found.alike),
        "matching": _frame(Matching, found.matchings),
    }


_ESTIMATES = {
    JointCell: ("share",),
    Company: ("share", "alone", "change"),
    Reversal: ("difference",),
    Alike: ("same", "cramers_v"),
    Matching: ("right",),
}
"""Kind of row → its figures with intervals."""


def _frame(kind: type[Any], rows: Sequence[Any], attributes: tuple[str, ...] = ()) -> pd.DataFrame:
    estimates = _ESTIMATES.get(kind, ())
    columns: list[str] = []
    for field in fields(kind):
        columns += {
            "people": list(_PEOPLE),
            "classified": [f"classified_{name}" for name in attributes],
        }.get(field.name, list(_numbers(field.name, None)) if field.name in estimates else [field.name])
    return pd.DataFrame([_row(one, estimates) for one in rows], columns=columns)


def _row(one: Any, estimates: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401 - one of the kinds
    plain = {name: value for name, value in asdict(one).items() if name not in (*estimates, "people", "classified")}
    for name in estimates:
        plain |= _numbers(name, getattr(one, name))
    if hasattr(one, "people"):
        plain |= dict(zip(_PEOPLE, one.people, strict=True))
        plain |= {f"classified_{name}": count for name, count in one.classified.items()}
    return plain


def _numbers(name: str, estimate: Estimate | None) -> dict[str, Any]:
    values = (None,) * 4 if estimate is None else (estimate.value, estimate.low, estimate.high, estimate.n)
    return dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_n"), values, strict=True))
