"""Stores finished cells of the study, so that it can resume after an interruption.

The rows are those of the study's own table, each with a hash of the code behind its figure. A fresh checkout therefore
repeats only the cells that depend on a changed estimator.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from benchmarks.coverage import settings, tally
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tally import METHODS, Tally

Job = tuple[str, Setting, int]
"""Family, cell and requested samples."""

ESTIMATORS = ("audit.measure.", "audit.results.groups")
"""Modules with estimators and intervals."""

CELL = tuple(field.name for field in fields(Setting))
COLUMNS = (
    "figure",
    *CELL,
    "confidence",
    "samples",
    "value",
    *(f"{what}_{method}" for method in METHODS for what in ("coverage", "width")),
    "error",
    "error_in_standard_errors",
    "family",
    "simulations",
    "source",
)


class Cells:
    """Tallies of finished cells in the study's tables; cells of other estimator versions are ignored.

    Args:
        families: The modules of the families, by name.
        kept: The table to add cells to; created if it is missing.
        published: Another table to read.
    """

    def __init__(self, families: Mapping[str, ModuleType], kept: Path, published: Path | None = None) -> None:
        """Read both tables; for a cell in both, ``kept`` has priority."""
        self._kept = kept
        self._sources = {name: source_of(module) for name, module in families.items()}
        self._found: dict[Job, list[Tally]] = {}
        for path in (published, kept):
            if path is not None and path.exists():
                self._found |= self._read(path)

    def __contains__(self, job: Job) -> bool:
        """Return whether a cell is finished."""
        return job in self._found

    def __getitem__(self, job: Job) -> list[Tally]:
        """Return the tallies of a finished cell."""
        return self._found[job]

    def add(self, job: Job, tallies: Sequence[Tally]) -> None:
        """Store the tallies of a cell."""
        self._found[job] = list(tallies)
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        begins = not self._kept.exists()
        with self._kept.open("a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            if begins:
                rows.writerow(COLUMNS)
            rows.writerows(self._rows(job))

    def write(self, jobs: Iterable[Job], path: Path) -> None:
        """Write a table of these cells, all of them finished."""
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for job in jobs:
                rows.writerows(self._rows(job))

    def _rows(self, job: Job) -> list[list[object]]:
        family, setting, simulations = job
        return [
            [
                one.figure,
                *vars(setting).values(),
                one.confidence,
                one.samples,
                *map(_rounded, (one.truth, *_of_methods(one), one.error, one.standard_errors)),
                family,
                simulations,
                self._sources[family],
            ]
            for one in self._found[job]
        ]

    def _read(self, path: Path) -> dict[Job, list[Tally]]:
        found: dict[Job, list[Tally]] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["source"] == self._sources.get(row["family"]):
                    one = _tally(row)
                    found.setdefault((row["family"], one.setting, int(row["simulations"])), []).append(one)
        return found


def source_of(family: ModuleType) -> str:
    """Return a hash of a family's module, of the shared drawing and counting code, and of all estimators it uses.

    The hash covers statements of any module, without imports, comments and docstrings, so that a new comment or a moved
    module does not invalidate a figure.
    """
    modules = {family.__name__: family, settings.__name__: settings, tally.__name__: tally}
    waiting = list(modules.values())
    while waiting:
        for value in list(vars(waiting.pop()).values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str) and name.startswith(ESTIMATORS) and name not in modules:
                modules[name] = sys.modules[name]
                waiting.append(modules[name])
    statements = {text for module in modules.values() for text in _statements(Path(str(module.__file__)))}
    return sha256("\n".join(sorted(statements)).encode()).hexdigest()[:8]


@cache
def _statements(path: Path) -> tuple[str, ...]:
    """Return the statements of a module that can change a figure, as text without formatting."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text_alone(part)] or [ast.Pass()]
    return tuple(ast.unparse(part) for part in tree.body if not isinstance(part, ast.Import | ast.ImportFrom | ast.If))


def _is_text_alone(node: ast.stmt) -> bool:
    """Return whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _of_methods(one: Tally) -> list[float | None]:
    return [part.get(method) for method in METHODS for part in (one.coverage, one.width)]


def _rounded(value: float | None) -> object:
    return "" if value is None else float(f"{value:.6g}")


def _tally(row: Mapping[str, str]) -> Tally:
    numbers = {
        name: float(value) for name, value in row.items() if name not in ("figure", *CELL, "family", "source") and value
    }
    return Tally(
        figure=row["figure"],
        setting=Setting(
            groups=int(row["groups"]),
            n=int(row["n"]),
            truth=row["truth"],
            accuracy=float(row["accuracy"]),
            detail=row["detail"],
            target=row["target"],
        ),
        confidence=numbers["confidence"],
        samples=int(numbers["samples"]),
        truth=numbers["value"],
        coverage={method: numbers[f"coverage_{method}"] for method in METHODS if f"coverage_{method}" in numbers},
        width={method: numbers[f"width_{method}"] for method in METHODS if f"width_{method}" in numbers},
        error=numbers.get("error"),
        standard_errors=numbers.get("error_in_standard_errors"),
    )
