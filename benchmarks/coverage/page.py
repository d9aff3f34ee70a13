"""The study as Markdown and as a table of every cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.coverage import discrepancy
from benchmarks.coverage.settings import TRUTHS, Setting
from benchmarks.coverage.tally import METHODS, OURS, Tally
from benchmarks.coverage.verdict import (
    CHANCE,
    LEAST,
    LEAST_OF_EIGHT,
    MOST_ON_AVERAGE,
    Bias,
    by_figure,
    is_clearly_short,
    is_short,
    line,
)


def page(tallies: Sequence[Tally], simulations: int) -> str:
    """Return the page."""
    figures = by_figure(tallies)
    distances = figures[discrepancy.FIGURE]
    hard_pairs = [t for t in distances if "wilson" in t.coverage]
    return "\n".join(
        [
            "# Coverage of the intervals\n",
            f"Made by `make coverage` (`python -m benchmarks.coverage`), fixed seeds: {len(tallies)} cells, at least "
            f"{_least(tallies)} samples in each where outcomes are sampled; of a single share every outcome is counted "
            f"with its probability. Asked for: {simulations} samples. An interval of 95 % is to hold the truth in 95 % "
            f"of samples; asked of every cell are {LEAST:.0%}, of cells with 8 images {LEAST_OF_EIGHT:.0%}, and on "
            f"average over the cells of a figure at most {MOST_ON_AVERAGE:.1%}. What the cells are stands in "
            "benchmarks/coverage, every cell in [coverage.csv](coverage.csv).\n",
            "![Coverage by number of images, a panel per number of groups](coverage.svg)\n",
            "## Every interval that an audit prints\n",
            "A cell is *short* below what is asked of it, and *clearly short* where an interval that just meets the "
            f"line would cover so seldom with a chance below {CHANCE:.1%}.\n",
            _table(
                ("figure", "cells", "lowest", "mean", "highest", "short", "clearly short", "mean width"),
                (_figure_row(name, members) for name, members in figures.items()),
            ),
            "## Where an interval falls short\n",
            _shortfalls(figures),
            "## Estimates that are meant to be without bias\n",
            "Mean errors are counted in Monte-Carlo standard errors. Of many cells some lie beyond 3 by chance, 0.27 % "
            "of them on average. *By chance* is therefore how often the largest of so many unbiased cells is at least "
            "as large, and *all cells together* the mean over cells in standard errors of its own. "
            "Where a single image is steered to some group no estimate is without bias, and such cells are left "
            "out here: one image does not show how much its like differ.\n",
            _table(
                ("estimate", "cells", "within 3", "largest", "by chance", "all cells together"),
                (row for name, members in figures.items() if (row := _bias_row(name, Bias.of(members)))),
            ),
            "## The fairness discrepancy beside what it replaces\n",
            f"The bootstrap of soft rows is made for the first {discrepancy.BOOTSTRAPPED} samples of a cell.\n",
            _comparison(distances, ("scores", "groups", "images"), lambda s: (s.scores, s.groups, s.n)),
            _comparison(distances, ("scores", "groups", "truth"), lambda s: (s.scores, s.groups, s.truth)),
            _comparison(distances, ("scores", "accuracy"), lambda s: (s.scores, s.accuracy)),
            "Two groups, hard labels: which interval of a share to fold into one of the distance.\n",
            _methods(hard_pairs, (OURS, "wilson", "clopper_pearson", "joint", "bootstrap")),
            "## A single share beside Wilson's and the exact interval\n",
            _methods(figures["share"], (OURS, "wilson", "clopper_pearson")),
        ]
    )


def _least(tallies: Sequence[Tally]) -> int:
    return min(tally.samples for tally in tallies if tally.samples)


def _figure_row(name: str, members: Sequence[Tally]) -> tuple[str, ...]:
    covered = np.array([member.coverage[OURS] for member in members])
    short, clearly = sum(map(is_short, members)), sum(map(is_clearly_short, members))
    width = float(np.mean([member.width[OURS] for member in members]))
    ends = (f"{covered.min():.3f}", f"{covered.mean():.3f}", f"{covered.max():.3f}")
    return (name, str(len(members)), *ends, str(short), str(clearly), f"{width:.3f}")


def _shortfalls(figures: dict[str, list[Tally]]) -> str:
    short = [tally for members in figures.values() for tally in members if is_short(tally)]
    wide = [
        f"{name} ({np.mean([m.coverage[OURS] for m in members]):.3f})"
        for name, members in figures.items()
        if np.mean([m.coverage[OURS] for m in members]) > MOST_ON_AVERAGE
    ]
    head = (
        f"Wider than asked on average: {', '.join(wide)}.\n"
        if wide
        else f"No figure covers more than {MOST_ON_AVERAGE:.1%} of the time on average.\n"
    )
    if not short:
        return f"{head}\nNo cell is short.\n"
    rows = [
        (
            tally.figure,
            *map(str, (s.groups, s.n, s.truth, s.accuracy, s.scores, s.detail)),
            f"{tally.truth:.3f}",
            f"{tally.coverage[OURS]:.3f}",
            f"{line(tally):.2f}",
            str(tally.samples),
            "yes" if is_clearly_short(tally) else "no",
        )
        for tally in sorted(short, key=lambda tally: tally.coverage[OURS])
        if (s := tally.setting)
    ]
    cell = ("groups", "images", "truth", "accuracy", "scores", "detail")
    columns = ("figure", *cell, "value", "coverage", "asked", "samples", "clearly short")
    return f"{head}\n{len(short)} cells are short:\n\n{_table(columns, rows)}"


def _bias_row(name: str, bias: Bias | None) -> tuple[str, ...] | None:
    if bias is None:
        return None
    return (
        name,
        str(bias.cells),
        f"{bias.within:.1%}",
        f"{bias.largest:.1f}",
        f"{bias.by_chance:.2f}",
        f"{bias.mean:+.1f}",
    )


def _comparison(
    tallies: Sequence[Tally], columns: tuple[str, ...], key: Callable[[Setting], tuple[object, ...]]
) -> str:
    """Return lowest and mean coverage and mean width of each method, for cells grouped by ``key``."""
    grouped: dict[tuple[object, ...], list[Tally]] = {}
    for tally in tallies:
        if "joint" in tally.coverage:
            grouped.setdefault(key(tally.setting), []).append(tally)
    methods = (OURS, "bootstrap", "joint")
    rows = [
        (*map(str, name), str(len(members)), *(figure for method in methods for figure in _method(members, method)))
        for name, members in sorted(grouped.items(), key=lambda item: tuple(map(_sortable, item[0])))
    ]
    heads = [f"{METHODS[method]}: {what}" for method in methods for what in ("lowest", "mean", "width")]
    return _table((*columns, "cells", *heads), rows)


def _methods(tallies: Sequence[Tally], methods: Sequence[str]) -> str:
    rows = ((METHODS[method], *_method(tallies, method)) for method in methods)
    return _table(("interval", "lowest", "mean", "width"), rows)


def _method(tallies: Sequence[Tally], method: str) -> tuple[str, str, str]:
    covered = [tally.coverage[method] for tally in tallies]
    width = float(np.mean([tally.width[method] for tally in tallies]))
    return f"{min(covered):.3f}", f"{np.mean(covered):.3f}", f"{width:.3f}"


def _sortable(value: object) -> tuple[int, float | str]:
    if isinstance(value, (int, float)):
        return 0, float(value)
    names = list(TRUTHS)
    return (0, float(names.index(value))) if value in names else (1, str(value))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"
