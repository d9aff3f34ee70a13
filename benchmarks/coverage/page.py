"""Writes the study as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.coverage import discrepancy
from benchmarks.coverage.settings import CONFIDENCE, TRUTHS, Setting
from benchmarks.coverage.tally import METHODS, OURS, Tally
from benchmarks.coverage.verdict import (
    CHANCE,
    ERRORS,
    LEAST,
    LEAST_OF_EIGHT,
    MOST_ON_AVERAGE,
    SAMPLES,
    Bias,
    by_figure,
    is_clearly_short,
    is_short,
    line,
)


def page(tallies: Sequence[Tally], simulations: int) -> str:
    """Return the page."""
    figures = by_figure(tallies)
    distances = figures[discrepancy.FIGURE, CONFIDENCE]
    hard_pairs = [t for t in distances if "wilson" in t.coverage]
    return "\n".join(
        [
            "# Coverage of the intervals\n",
            f"Made by `make coverage` (`python -m benchmarks.coverage`), fixed seeds: {len(tallies)} cells, at least "
            f"{_least(tallies)} samples in each where outcomes are sampled; of few outcomes each is counted with its "
            f"probability. Asked for: {simulations} samples. Every cell is in [coverage.csv](coverage.csv).\n",
            f"An interval of 95 % is to hold the truth in {LEAST:.0%} of samples in every cell, in cells with 8 images "
            f"in {LEAST_OF_EIGHT:.0%}, and on average over the cells of a figure in at most {MOST_ON_AVERAGE:.1%}. An "
            f"interval, or one end of it, with another confidence is to hold it as often as it claims, less {ERRORS} "
            f"standard errors of {SAMPLES} samples: these are what gates ask for. An audit counts as wrong where any "
            "of its gates passes, or fails, wrongly; every limit is the true value.\n",
            "![Coverage by number of images, a panel per number of groups](coverage.svg)\n",
            "## Every interval that an audit prints, and every end that a gate reads\n",
            "A cell is *short* below what is asked of it, and *clearly short* where an interval that just meets the "
            f"line would cover so seldom with a chance below {CHANCE:.1%}.\n",
            _table(
                ("figure", "confidence", "cells", "lowest", "mean", "highest", "asked", "short", "clearly short"),
                (_figure_row(key, members) for key, members in figures.items()),
            ),
            "## Where an interval falls short\n",
            _shortfalls(figures),
            "## Which settings are studied\n",
            "Targets: *even*, every group alike; *dominated*, such as .02, .03, .95; *labour*, such as .05, .15, .8. "
            "Truths and details are explained in the modules of benchmarks/coverage.\n",
            _table(
                ("figure", "groups", "images", "targets", "truths", "accuracies of the judge", "details"),
                (_settings_row(name, members) for name, members in _by_name(tallies).items()),
            ),
            "## Estimates that are meant to be without bias\n",
            "Mean errors are counted in Monte-Carlo standard errors. Of many cells some lie beyond 3 by chance, 0.27 % "
            "of them on average. *By chance* is therefore how often the largest of so many unbiased cells is at least "
            "as large, and *all cells together* the mean over cells in standard errors of its own. "
            "Where a single image is steered to some group no estimate is without bias, and such cells are left "
            "out here: one image does not show how much its like differ.\n",
            _table(
                ("estimate", "cells", "within 3", "largest", "by chance", "all cells together"),
                (row for (name, _), members in figures.items() if (row := _bias_row(name, Bias.of(members)))),
            ),
            "## The fairness discrepancy beside what it replaces\n",
            _comparison(distances, ("groups", "images"), lambda s: (s.groups, s.n)),
            _comparison(distances, ("groups", "truth"), lambda s: (s.groups, s.truth)),
            _comparison(distances, ("accuracy",), lambda s: (s.accuracy,)),
            "Two groups: which interval of a share to fold into one of the distance.\n",
            _methods(hard_pairs, (OURS, "wilson", "clopper_pearson", "joint", "bootstrap")),
            "## A single share beside Wilson's and the exact interval\n",
            _methods(figures["share", CONFIDENCE], (OURS, "wilson", "clopper_pearson")),
        ]
    )


def _by_name(tallies: Sequence[Tally]) -> dict[str, list[Tally]]:
    names: dict[str, list[Tally]] = {}
    for tally in tallies:
        names.setdefault(tally.figure, []).append(tally)
    return names


def _settings_row(name: str, members: Sequence[Tally]) -> tuple[str, ...]:
    """Return the values of each setting in the cells of a figure."""
    values = (
        dict.fromkeys(value(member.setting) for member in members)
        for value in (
            lambda s: s.groups,
            lambda s: s.n,
            lambda s: s.target,
            lambda s: s.truth,
            lambda s: s.accuracy,
            lambda s: s.detail,
        )
    )
    return (name, *("; ".join(str(one) for one in sorted(own) if one != "") for own in values))


def _least(tallies: Sequence[Tally]) -> int:
    return min(tally.samples for tally in tallies if tally.samples)


def _figure_row(key: tuple[str, float], members: Sequence[Tally]) -> tuple[str, ...]:
    (name, confidence), covered = key, np.array([member.coverage[OURS] for member in members])
    short, clearly = sum(map(is_short, members)), sum(map(is_clearly_short, members))
    ends = (f"{covered.min():.4f}", f"{covered.mean():.4f}", f"{covered.max():.4f}")
    asked = " or ".join(f"{least:.4g}" for least in sorted({line(member) for member in members}))
    return (name, f"{100 * confidence:.5g} %", str(len(members)), *ends, asked, str(short), str(clearly))


def _shortfalls(figures: dict[tuple[str, float], list[Tally]]) -> str:
    short = [tally for members in figures.values() for tally in members if is_short(tally)]
    wide = [
        f"{name} ({mean:.3f})"
        for (name, confidence), members in figures.items()
        if confidence == CONFIDENCE and (mean := np.mean([m.coverage[OURS] for m in members])) > MOST_ON_AVERAGE
    ]
    head = (
        f"Wider than asked on average: {', '.join(wide)}.\n"
        if wide
        else f"No interval of 95 % covers more than {MOST_ON_AVERAGE:.1%} of the time on average.\n"
    )
    if not short:
        return f"{head}\nNo cell is short.\n"
    rows = [
        (
            tally.figure,
            f"{100 * tally.confidence:.5g} %",
            *map(str, (s.groups, s.n, s.truth, s.target, s.accuracy, s.detail)),
            f"{tally.truth:.3f}",
            f"{tally.coverage[OURS]:.4f}",
            f"{line(tally):.4f}",
            str(tally.samples),
            "yes" if is_clearly_short(tally) else "no",
        )
        for tally in sorted(short, key=lambda tally: tally.coverage[OURS])
        if (s := tally.setting)
    ]
    cell = ("groups", "images", "truth", "target", "accuracy", "detail")
    columns = ("figure", "confidence", *cell, "value", "coverage", "asked", "samples", "clearly short")
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
