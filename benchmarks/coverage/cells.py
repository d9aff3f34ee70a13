"""Cells that are studied already: the whole study takes long, and goes on where it was stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from benchmarks.coverage import settings, tally
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tally import Tally

Job = tuple[str, Setting, int]
"""Family, cell and samples."""

ESTIMATORS = ("audit.measure.", "audit.group_results")
"""Modules that figures and intervals come from."""


class Cells:
    """The tallies of finished cells in a file, a line each; those of other estimators are passed over.

    Args:
        path: The file; made where there is none.
        families: The modules of the families, by name.
    """

    def __init__(self, path: Path, families: Mapping[str, ModuleType]) -> None:
        """Read the file, if it is there."""
        self._path = path
        self._sources = {name: source_of(module) for name, module in families.items()}
        self._found: dict[Job, list[Tally]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            record = json.loads(line)
            if record["source"] == self._sources.get(record["family"]):
                job = (record["family"], Setting(**record["setting"]), record["simulations"])
                self._found[job] = [Tally(**{**tally, "setting": job[1]}) for tally in record["tallies"]]

    def of(self, job: Job) -> list[Tally] | None:
        """Return the tallies of a cell, None where it is not studied yet."""
        return self._found.get(job)

    def add(self, job: Job, tallies: Iterable[Tally]) -> None:
        """Keep the tallies of a cell."""
        family, setting, simulations = job
        kept = [{name: value for name, value in asdict(tally).items() if name != "setting"} for tally in tallies]
        record = {"source": self._sources[family], "family": family, "simulations": simulations}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(record | {'setting': asdict(setting), 'tallies': kept})}\n")


def source_of(family: ModuleType) -> str:
    """Return the hash of a family's own module, of what draws and counts, and of every estimator that it leads to."""
    modules = {family.__name__: family, settings.__name__: settings, tally.__name__: tally}
    waiting = list(modules.values())
    while waiting:
        for value in list(vars(waiting.pop()).values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str) and name.startswith(ESTIMATORS) and name not in modules:
                modules[name] = sys.modules[name]
                waiting.append(modules[name])
    files = (Path(str(modules[name].__file__)) for name in sorted(modules))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
