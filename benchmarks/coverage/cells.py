"""Cells that are studied already: the whole study takes an hour, and goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from audit import measure
from benchmarks import coverage
from benchmarks.coverage.settings import Setting
from benchmarks.coverage.tally import Tally

Job = tuple[str, Setting, int]
"""Family, cell and samples."""


class Cells:
    """The tallies of finished cells in a file, a line each; those of other estimators are passed over.

    Args:
        path: The file; made where there is none.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if it is there."""
        self._path, self._source = path, _source()
        self._found: dict[Job, list[Tally]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            record = json.loads(line)
            if record["source"] == self._source:
                job = (record["family"], Setting(**record["setting"]), record["simulations"])
                self._found[job] = [Tally(**{**tally, "setting": job[1]}) for tally in record["tallies"]]

    def of(self, job: Job) -> list[Tally] | None:
        """Return the tallies of a cell, None where it is not studied yet."""
        return self._found.get(job)

    def add(self, job: Job, tallies: Iterable[Tally]) -> None:
        """Keep the tallies of a cell."""
        family, setting, simulations = job
        kept = [{name: value for name, value in asdict(tally).items() if name != "setting"} for tally in tallies]
        record = {"source": self._source, "family": family, "setting": asdict(setting), "simulations": simulations}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(record | {'tallies': kept})}\n")


def _source() -> str:
    """Return the hash of everything that the study is about and that it is made of."""
    files = sorted(path for package in (measure, coverage) for path in Path(package.__path__[0]).glob("*.py"))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
