"""All families of figures, and the processes that study their cells."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks.coverage import (
    audits,
    changes,
    corrected,
    discrepancy,
    measures,
    prompts,
    quality,
    shares,
    tables,
    tails,
    unclassified,
)
from benchmarks.coverage.cells import Cells, Job
from benchmarks.coverage.tally import Tally

FAMILIES = {
    "shares": shares,
    "discrepancy": discrepancy,
    "corrected": corrected,
    "changes": changes,
    "prompts": prompts,
    "measures": measures,
    "tables": tables,
    "quality": quality,
    "tails": tails,
    "unclassified": unclassified,
    "audits": audits,
}


def studied(jobs: Sequence[Job], processes: int, cells: Cells) -> list[Tally]:
    """Study every unfinished cell; those with the most rows first, so that the last to finish are short."""
    left = [job for job in jobs if job not in cells]
    left.sort(key=lambda job: job[1].n * job[1].groups, reverse=True)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_study, job): job for job in left}
        for done, future in enumerate(as_completed(running), start=len(jobs) - len(left) + 1):
            cells.add(running[future], future.result())
            for tally in future.result():
                print(f"{done:4}/{len(jobs)} {_line(tally)}", flush=True)
    return [tally for job in jobs for tally in cells[job]]


def _study(job: Job) -> list[Tally]:
    name, setting, simulations = job
    return list(FAMILIES[name].study(setting, simulations))


def _line(tally: Tally) -> str:
    setting = tally.setting
    covered = "  ".join(f"{method} {share:.3f}" for method, share in tally.coverage.items())
    return (
        f"{tally.figure} K={setting.groups} n={setting.n} {setting.truth} accuracy {setting.accuracy} "
        f"{setting.detail} {covered}"
    )
