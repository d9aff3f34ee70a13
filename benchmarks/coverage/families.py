"""All families of figures, and the processes that study their cells."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks.coverage import changes, corrected, discrepancy, measures, prompts, quality, shares, tables
from benchmarks.coverage.settings import Setting
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
}

Job = tuple[str, Setting, int]


def studied(jobs: Sequence[Job], processes: int) -> list[Tally]:
    """Study every cell; those with the most rows first, so that the last to finish is a short one."""
    order = sorted(range(len(jobs)), key=lambda place: jobs[place][1].n * jobs[place][1].groups, reverse=True)
    results: dict[int, list[Tally]] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        places = {pool.submit(_study, jobs[place]): place for place in order}
        for future in as_completed(places):
            results[places[future]] = future.result()
            for tally in future.result():
                print(f"{len(results):4}/{len(jobs)} {_line(tally)}", flush=True)
    return [tally for place in range(len(jobs)) for tally in results[place]]


def _study(job: Job) -> list[Tally]:
    name, setting, simulations = job
    return list(FAMILIES[name].study(setting, simulations))


def _line(tally: Tally) -> str:
    setting = tally.setting
    covered = "  ".join(f"{method} {share:.3f}" for method, share in tally.coverage.items())
    return (
        f"{tally.figure} K={setting.groups} n={setting.n} {setting.truth} accuracy {setting.accuracy} "
        f"{setting.scores} {setting.detail} {covered}"
    )
