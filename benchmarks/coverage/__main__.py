"""The command line of the study: ``python -m benchmarks.coverage``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import coverage
from benchmarks.coverage.cells import Cells
from benchmarks.coverage.chart import chart
from benchmarks.coverage.families import FAMILIES, studied
from benchmarks.coverage.page import page
from benchmarks.coverage.tally import OURS
from benchmarks.coverage.verdict import by_figure, is_clearly_short, is_short

PUBLISHED = Path("docs/coverage.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=coverage.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 samples in fewer cells")
    parser.add_argument("--simulations", type=int, help="samples per cell (default 2000, quick 100)")
    parser.add_argument("--out", type=Path, help="folder (default docs, quick build/coverage)")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--afresh", action="store_true", help=f"study again what stands in {PUBLISHED}")
    parser.add_argument(
        "--cells", type=Path, default=Path("build/coverage/cells.csv"), help="table that finished cells are kept in"
    )
    arguments = parser.parse_args()
    simulations = arguments.simulations or (100 if arguments.quick else 2000)
    folder = arguments.out or (Path("build/coverage") if arguments.quick else Path("docs"))
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes about to start
    jobs = [
        (name, setting, simulations)
        for name, family in FAMILIES.items()
        for setting in family.settings(arguments.quick)
    ]
    cells = Cells(FAMILIES, arguments.cells, None if arguments.afresh else PUBLISHED)
    found = studied(jobs, arguments.processes, cells)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "coverage.md").write_text(page(found, simulations), encoding="utf-8")
    (folder / "coverage.svg").write_text(chart(found), encoding="utf-8")
    cells.write(jobs, folder / PUBLISHED.name)
    for (name, confidence), members in by_figure(found).items():
        covered = [member.coverage[OURS] for member in members]
        mean = sum(covered) / len(covered)
        print(
            f"{name}, {100 * confidence:.5g} %: {len(members)} cells, lowest {min(covered):.4f}, mean {mean:.4f}, "
            f"{sum(map(is_short, members))} short, {sum(map(is_clearly_short, members))} clearly"
        )
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
