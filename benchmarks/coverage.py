"""How often the interval of the fairness discrepancy holds the truth, beside the intervals that it replaces.

Run with ``python -m benchmarks.coverage`` (about forty minutes on two cores) or ``--quick`` (a minute, fewer cells).
It draws images from known group distributions, lets a judge of known accuracy label them, and counts. The full study
writes ``docs/coverage.md``, ``docs/coverage.svg`` and every cell as ``docs/coverage.csv``; the quick one writes to
``build/coverage`` unless told otherwise.

The judge. An image of group g is taken for g with probability a, the accuracy, and for each other group alike
otherwise; what it is taken for is its *hard* label. The *soft* row puts a random mass C on that group and spreads
1 − C evenly over all K: C ~ Beta(5c, 5(1 − c)) with c = (a − 1/K)/(1 − 1/K), so that the judge is as sure as it is
right; at accuracy 1, c = 0.97, a judge that is always right and nearly sure. What is estimated is what the judge would
say of infinitely many images: hard, the distance of π_a = aπ + (1 − a)(1 − π)/(K − 1) from the target; soft, the
distance of c·π_a + (1 − c)/K. Correcting for the judge's own error is another step.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from audit.measure import discrepancy
from audit.measure.fairness import maximum, uniform

Floats = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
RESAMPLES = 200
"""Resamples of the percentile bootstrap: enough for a rate of coverage, which is all that is asked of it."""

GROUPS = (2, 3, 4, 7)
IMAGES = (8, 20, 50, 100, 500, 2000)
ACCURACIES = (1.0, 0.95, 0.85)
METHODS = ("ours", "bootstrap", "joint", "wilson", "clopper_pearson")
NAMES = {
    "ours": "this project",
    "bootstrap": "plug-in, percentile bootstrap",
    "joint": "joint region",
    "wilson": "Wilson, folded",
    "clopper_pearson": "Clopper–Pearson, folded",
}


@dataclass(frozen=True)
class Cell:
    """One setting of the study.

    Attributes:
        groups: K.
        n: Images per sample.
        truth: Name of the group distribution, see ``TRUTHS``.
        accuracy: Share of images that the judge labels right.
        scores: ``hard`` or ``soft``.
    """

    groups: int
    n: int
    truth: str
    accuracy: float
    scores: str

    @property
    def labels(self) -> Floats:
        """Distribution of the judge's labels, shape (K,)."""
        shares = TRUTHS[self.truth](self.groups)
        return np.asarray(self.accuracy * shares + (1 - self.accuracy) * (1 - shares) / (self.groups - 1))

    @property
    def certainty(self) -> float:
        """Mean mass that a row puts on its label before the rest is spread."""
        if self.scores == "hard":
            return 1.0
        return 0.97 if self.accuracy == 1 else (self.accuracy - 1 / self.groups) / (1 - 1 / self.groups)

    @property
    def distance(self) -> float:
        """The truth: distance of the judge's mean over infinitely many images from the uniform target."""
        return float(np.linalg.norm(self.certainty * (self.labels - 1 / self.groups)))

    def samples(self, simulations: int) -> Iterable[Floats]:
        """Yield the rows (n, K) of each simulated sample; hard labels are one-hot."""
        rng = self.rng(0)
        for _ in range(simulations):
            rows = np.eye(self.groups)[rng.choice(self.groups, size=self.n, p=self.labels)]
            if self.scores == "soft":
                mass = rng.beta(5 * self.certainty, 5 * (1 - self.certainty), size=(self.n, 1))
                rows = mass * rows + (1 - mass) / self.groups
            yield rows

    def counts(self, simulations: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the distinct counts (m, K) of the simulated samples of hard labels and how often each came."""
        drawn = self.rng(0).multinomial(self.n, self.labels, size=simulations)
        distinct, times = np.unique(drawn, axis=0, return_counts=True)
        return distinct.astype(np.float64), times

    def rng(self, stream: int) -> np.random.Generator:
        """Return a generator of the cell's own."""
        place = (self.groups, self.n, list(TRUTHS).index(self.truth), round(100 * self.accuracy), self.scores == "soft")
        return np.random.default_rng([*map(int, place), stream])


@dataclass(frozen=True)
class Result:
    """What a cell gave: coverage and mean width by method, and the debiased square's error.

    Attributes:
        cell: The setting.
        simulations: Samples drawn.
        distance: The truth.
        coverage: Method → share of intervals that hold the truth.
        width: Method → mean width.
        error: Mean of the debiased square minus the true square.
        error_in_standard_errors: The same in Monte-Carlo standard errors.
    """

    cell: Cell
    simulations: int
    distance: float
    coverage: dict[str, float]
    width: dict[str, float]
    error: float
    error_in_standard_errors: float


def _tilted(groups: int) -> Floats:
    return np.asarray(0.8 / groups + 0.2 * np.eye(groups)[0])


def _strong(groups: int) -> Floats:
    weights = 0.4 ** np.arange(groups)
    return np.asarray(weights / weights.sum())


def _rare(groups: int) -> Floats:
    return np.asarray([1 - 0.02 * (groups - 1), *[0.02] * (groups - 1)])


def _split(groups: int) -> Floats:
    return np.asarray([0.5 - 0.01 * (groups - 2)] * 2 + [0.02] * (groups - 2))


TRUTHS: dict[str, Callable[[int], Floats]] = {
    "parity": lambda groups: np.full(groups, 1 / groups),
    "mild": _tilted,
    "strong": _strong,
    "rare": _rare,
    "split": _split,
}
"""Group distributions. Mild: one group has 0.2 more than the rest of 0.8 shared evenly. Strong: each group has 0.4 of
the one before. Rare: all but one have 0.02. Split: two share evenly what the others, at 0.02 each, leave."""


def bootstrap_of_counts(counts: Floats, rng: np.random.Generator) -> Interval:
    """Return the percentile bootstrap of the plug-in distance of hard labels: the interval not to use."""
    n = int(counts.sum())
    shares = rng.multinomial(n, counts / n, size=RESAMPLES) / n
    return _percentiles(shares)


def bootstrap_of_rows(rows: Floats, rng: np.random.Generator) -> Interval:
    """Return the same of soft rows."""
    n = len(rows)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    return _percentiles(weights @ rows)


def _percentiles(shares: Floats) -> Interval:
    distances = np.linalg.norm(shares - 1 / shares.shape[1], axis=1)
    low, high = np.quantile(distances, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def joint_of_counts(counts: Floats) -> Interval:
    """Return the distances inside the box of Wilson intervals, Bonferroni-corrected for K groups."""
    return _box(*_wilson(counts, float(counts.sum()), (1 - CONFIDENCE) / counts.size))


def joint_of_rows(rows: Floats) -> Interval:
    """Return the distances inside the box of Student t intervals, Bonferroni-corrected for K groups."""
    n, groups = rows.shape
    half = stdtrit(n - 1, 1 - (1 - CONFIDENCE) / (2 * groups)) * rows.std(axis=0, ddof=1) / math.sqrt(n)
    return _box(np.maximum(rows.mean(axis=0) - half, 0), np.minimum(rows.mean(axis=0) + half, 1))


def _wilson(counts: Floats, n: float, alpha: float) -> tuple[Floats, Floats]:
    z, shares = ndtri(1 - alpha / 2), counts / n
    centre = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _box(low: Floats, high: Floats) -> Interval:
    target = 1 / low.size
    nearest = np.maximum(0, np.maximum(low - target, target - high))
    farthest = np.maximum(high - target, target - low)
    return float(np.linalg.norm(nearest)), min(float(np.linalg.norm(farthest)), maximum(uniform(low.size)))


def wilson_folded(counts: Floats) -> Interval:
    """Return the Wilson interval of the first of two shares, folded at ½; K = 2."""
    return _box(*_wilson(counts, float(counts.sum()), 1 - CONFIDENCE))


def clopper_pearson_folded(counts: Floats) -> Interval:
    """Return the Clopper–Pearson interval of the first of two shares, folded at ½; K = 2."""
    n, tail = float(counts.sum()), (1 - CONFIDENCE) / 2
    low = np.where(counts > 0, betaincinv(np.maximum(counts, 1), n - counts + 1, tail), 0.0)
    high = np.where(counts < n, betaincinv(counts + 1, np.maximum(n - counts, 1), 1 - tail), 1.0)
    return _box(low, high)


def study(cell: Cell, simulations: int, methods: Sequence[str] = METHODS) -> Result:
    """Simulate one cell. Identical counts of hard labels are computed once."""
    target = uniform(cell.groups)
    rng = cell.rng(1)
    intervals: dict[str, list[Interval]] = {}
    squares: list[float] = []
    if cell.scores == "hard":
        distinct, times = cell.counts(simulations)
        of_counts: dict[str, Callable[[Floats], Interval]] = {
            "ours": lambda c: discrepancy.discrepancy_interval_of_counts(c, target, CONFIDENCE),
            "bootstrap": lambda c: bootstrap_of_counts(c, rng),
            "joint": joint_of_counts,
        }
        if cell.groups == 2:
            of_counts |= {"wilson": wilson_folded, "clopper_pearson": clopper_pearson_folded}
        for name, interval in of_counts.items():
            if name in methods:
                intervals[name] = [interval(counts) for counts in distinct]
        squares = [discrepancy.debiased_squared_of_counts(counts, target) for counts in distinct]
    else:
        times = np.ones(simulations, dtype=np.int64)
        of_rows: dict[str, Callable[[Floats], Interval]] = {
            "ours": lambda rows: discrepancy.discrepancy_interval(rows, target, CONFIDENCE),
            "bootstrap": lambda rows: bootstrap_of_rows(rows, rng),
            "joint": joint_of_rows,
        }
        names = [name for name in of_rows if name in methods]
        for rows in cell.samples(simulations):
            for name in names:
                intervals.setdefault(name, []).append(of_rows[name](rows))
            squares.append(discrepancy.debiased_squared(rows, target))
    return _result(cell, intervals, np.asarray(squares), times)


def _result(cell: Cell, intervals: dict[str, list[Interval]], squares: Floats, times: NDArray[np.int64]) -> Result:
    simulations = int(times.sum())
    coverage, width = {}, {}
    for name, found in intervals.items():
        low, high = np.asarray(found).T
        held = (low <= cell.distance + 1e-9) & (cell.distance - 1e-9 <= high)
        coverage[name] = float(np.average(held, weights=times))
        width[name] = float(np.average(high - low, weights=times))
    error = float(np.average(squares - cell.distance**2, weights=times))
    variance = float(np.average((squares - cell.distance**2 - error) ** 2, weights=times))
    standard_error = math.sqrt(variance / simulations)
    return Result(
        cell, simulations, cell.distance, coverage, width, error, error / standard_error if standard_error else 0.0
    )


def cells(quick: bool) -> list[Cell]:
    """Return the settings, the slowest first so that the last to finish is a short one."""
    groups = (2, 4) if quick else GROUPS
    images = (8, 50, 500) if quick else IMAGES
    accuracies = (1.0, 0.85) if quick else ACCURACIES
    settings = itertools.product(groups, images, TRUTHS, accuracies, ("hard", "soft"))
    every = [Cell(*setting) for setting in settings if not (setting[0] == 2 and setting[2] == "split")]
    return sorted(every, key=lambda cell: (cell.scores == "soft", cell.n * cell.groups), reverse=True)


def summary_rows(results: Sequence[Result], key: Callable[[Cell], tuple[object, ...]]) -> list[tuple[str, ...]]:
    """Group results by ``key`` and say for each method its lowest and mean coverage and its mean width."""
    grouped: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        grouped.setdefault(key(result.cell), []).append(result)
    rows = []
    for name, members in sorted(grouped.items(), key=lambda item: tuple(map(_sortable, item[0]))):
        row = [*map(str, name), str(len(members))]
        for method in ("ours", "bootstrap", "joint"):
            covered = [member.coverage[method] for member in members]
            width = float(np.mean([member.width[method] for member in members]))
            row += [f"{min(covered):.3f}", f"{np.mean(covered):.3f}", f"{width:.3f}"]
        rows.append(tuple(row))
    return rows


def _sortable(value: object) -> tuple[int, float | str]:
    if isinstance(value, (int, float)):
        return 0, float(value)
    names = [*TRUTHS]
    return (0, float(names.index(value))) if value in names else (1, str(value))


def page(results: Sequence[Result], simulations: int) -> str:
    """Return the study as Markdown."""
    ours = np.asarray([result.coverage["ours"] for result in results])
    errors = np.abs([result.error_in_standard_errors for result in results])
    heads = ["cells"] + [
        f"{NAMES[m]}: {w}" for m in ("ours", "bootstrap", "joint") for w in ("lowest", "mean", "width")
    ]
    worst = sorted(results, key=lambda result: result.coverage["ours"])[:12]
    twos = [result for result in results if result.cell.groups == 2 and result.cell.scores == "hard"]
    parts = [
        "# Coverage of the fairness discrepancy's interval\n",
        f"Made by `python -m benchmarks.coverage`: {len(results)} cells, {simulations} simulated samples in each, "
        "fixed seeds. The interval is to hold the true distance in 95 % of samples. Cells differ in groups, images, "
        "group distribution, accuracy of the judge and kind of score; benchmarks/coverage.py says what each means.\n",
        f"- This project's interval: lowest coverage {ours.min():.3f}, mean {ours.mean():.3f}, highest "
        f"{ours.max():.3f}. The standard error of one cell at 0.95 is {math.sqrt(0.95 * 0.05 / simulations):.4f}.",
        f"- Debiased square: mean error within 3 Monte-Carlo standard errors of 0 in {(errors <= 3).mean():.1%} of "
        f"cells (99.7 % expected), largest {errors.max():.1f}.\n",
        "![Coverage by number of images, a panel per number of groups](coverage.svg)\n",
        "## By number of images\n",
        _table(["scores", "groups", "images", *heads], summary_rows(results, lambda c: (c.scores, c.groups, c.n))),
        "## By group distribution\n",
        _table(["scores", "groups", "truth", *heads], summary_rows(results, lambda c: (c.scores, c.groups, c.truth))),
        "## By accuracy of the judge\n",
        _table(["scores", "accuracy", *heads], summary_rows(results, lambda c: (c.scores, c.accuracy))),
        "## Two groups: which interval of a share to fold\n",
        _table(["interval", "lowest", "mean", "width"], [_two_groups(twos, name) for name in METHODS]),
        "## The cells with the lowest coverage\n",
        _table(
            ["scores", "groups", "images", "truth", "accuracy", "distance", "coverage", "width"],
            [
                (
                    *(str(v) for v in (r.cell.scores, r.cell.groups, r.cell.n, r.cell.truth, r.cell.accuracy)),
                    f"{r.distance:.3f}",
                    f"{r.coverage['ours']:.3f}",
                    f"{r.width['ours']:.3f}",
                )
                for r in worst
            ],
        ),
    ]
    return "\n".join(parts)


def _two_groups(results: Sequence[Result], method: str) -> tuple[str, ...]:
    covered = [result.coverage[method] for result in results]
    width = float(np.mean([result.width[method] for result in results]))
    return NAMES[method], f"{min(covered):.3f}", f"{np.mean(covered):.3f}", f"{width:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def chart(results: Sequence[Result]) -> str:
    """Return an SVG: a panel per K, coverage against n, a mark per cell; shape repeats what colour says."""
    width, height, left, top = 260, 250, 46, 44
    groups = sorted({result.cell.groups for result in results})
    images = sorted({result.cell.n for result in results})
    body = [
        _words(left, 16, "Share of 95 % intervals that hold the true distance; one mark per cell", size=13),
        f'<circle cx="{left + 5}" cy="29" r="3.4" fill="#1b6ca8"/>',
        _words(left + 14, 33, "this project"),
        f'<path d="M{left + 112} 25l8 8m0-8l-8 8" stroke="#c2571a" stroke-width="1.5"/>',
        _words(left + 126, 33, "plug-in with percentile bootstrap"),
    ]
    for panel, count in enumerate(groups):
        x0, y0, y1 = left + panel * width, top + 22, top + height - 34
        x1 = x0 + width - 36
        body.append(_words(x0, top + 14, f"{count} groups", size=12))
        for tick in (0, 0.25, 0.5, 0.75, 0.95):
            y = y1 - tick * (y1 - y0)
            dash = ' stroke-dasharray="4 3"' if tick == 0.95 else ""
            body.append(f'<path d="M{x0} {y:.1f}H{x1}" stroke="#9aa3ad" stroke-width="0.7"{dash}/>')
            body.append(_words(x0 - 5, y + 4, f"{tick:g}", anchor="end"))
        for place, n in enumerate(images):
            body.append(_words(_across(x0, x1, place, len(images)), y1 + 16, str(n), anchor="middle"))
        body.append(_words((x0 + x1) / 2, y1 + 31, "images", anchor="middle"))
        members = [result for result in results if result.cell.groups == count]
        for number, result in enumerate(members):
            x = _across(x0, x1, images.index(result.cell.n), len(images)) + (number % 9 - 4) * 1.7
            crossed, dotted = (y1 - result.coverage[name] * (y1 - y0) for name in ("bootstrap", "ours"))
            body.append(f'<path d="M{x - 3:.1f} {crossed - 3:.1f}l6 6m0-6l-6 6" stroke="#c2571a" stroke-width="1.1"/>')
            body.append(f'<circle cx="{x:.1f}" cy="{dotted:.1f}" r="2.6" fill="#1b6ca8"/>')
    total = left + width * len(groups)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {top + height}" width="{total}" '
        f'height="{top + height}" role="img" fill="none"><title>Coverage of the fairness discrepancy</title>'
        f'<rect width="{total}" height="{top + height}" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


def _across(x0: float, x1: float, place: int, places: int) -> float:
    return x0 + (x1 - x0) * (place + 0.5) / places


def _words(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-family="system-ui, sans-serif" '
        f'font-size="{size}" fill="#2b3138">{text}</text>'
    )


def write(results: Sequence[Result], simulations: int, folder: Path) -> None:
    """Write the page, the chart and every cell."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "coverage.md").write_text(page(results, simulations), encoding="utf-8")
    (folder / "coverage.svg").write_text(chart(results), encoding="utf-8")
    with (folder / "coverage.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = [f"{what}_{method}" for method in METHODS for what in ("coverage", "width")]
        writer.writerow([*asdict(results[0].cell), "distance", *names, "error", "error_in_standard_errors"])
        for result in results:
            values = [part.get(method, "") for method in METHODS for part in (result.coverage, result.width)]
            errors = (result.error, result.error_in_standard_errors)
            writer.writerow([*asdict(result.cell).values(), result.distance, *values, *errors])


def _studied(job: tuple[Cell, int]) -> Result:
    return study(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 samples in fewer cells")
    parser.add_argument("--simulations", type=int, help="samples per cell (default 2000, quick 300)")
    parser.add_argument("--out", type=Path, help="folder (default docs, quick build/coverage)")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    simulations = arguments.simulations or (300 if arguments.quick else 2000)
    folder = arguments.out or (Path("build/coverage") if arguments.quick else Path("docs"))
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes about to start
    settings = cells(arguments.quick)
    results = []
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(_studied, [(cell, simulations) for cell in settings]):
            results.append(result)
            cell = result.cell
            print(
                f"{len(results):4}/{len(settings)} {cell.scores} K={cell.groups} n={cell.n:<4} {cell.truth:7} "
                f"accuracy {cell.accuracy:<4} " + "  ".join(f"{m} {c:.3f}" for m, c in result.coverage.items()),
                flush=True,
            )
    write(results, simulations, folder)
    covered = [result.coverage["ours"] for result in results]
    print(f"ours: lowest {min(covered):.3f}, mean {np.mean(covered):.3f}; written to {folder}")


if __name__ == "__main__":
    main()
