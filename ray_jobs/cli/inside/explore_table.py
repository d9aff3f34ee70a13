"""Prints an exploration: the ends of each axis, and how well scores predict images."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.records.inside.exploration import Axis, Exploration, Score
from audit.records.inside.open_set import OpenSet
from audit.records.inside.read_pictures import ReadPictures
from reports.exploration.open_set import finding_rows, open_set_lead
from reports.exploration.page import lead, warnings
from reports.exploration.pictures import picture_lead
from reports.words.formats import interval, number

SHOWN = 6
"""Prompts at each end of an axis."""


def show_exploration(found: Exploration, console: Console) -> None:
    """Print a table for each axis, the check and its warnings."""
    console.print(lead(found), highlight=False, markup=False)
    neutral = {score.axis: score for score in found.neutral_scores}
    for axis in found.axes:
        console.print(_ends(axis, found.of_axis(axis.name), neutral[axis.name]))
    for one in found.checked:
        place = f"Check of {one.axis}: Spearman's correlation with perceived shares {number(one.rho)}"
        text = f"{place} {interval(one.low, one.high)}, by the text encoder alone {number(one.text_rho)}"
        sampled = f"{len(one.perceived)} prompts × {one.images} images, {one.classified} classified"
        console.print(f"{text} ({sampled})", highlight=False, markup=False)
    _show_further(found, console)
    for warning in warnings(found):
        console.print(warning, style="yellow", highlight=False, markup=False)


def _show_further(found: Exploration, console: Console) -> None:
    """Print what was asked for besides: pictures, open-set findings, and other conditions."""
    if found.pictures is not None:
        console.print(picture_lead(found.pictures), highlight=False, markup=False)
        console.print(_pictures(found.pictures))
    if found.open_set is not None:
        console.print(open_set_lead(found.open_set), highlight=False, markup=False)
        if found.open_set.findings:
            console.print(_findings(found.open_set))
    if found.stress is not None:
        for figure in found.stress.figures:
            worst = f"worst tenth {number(figure.worst)} {interval(figure.low, figure.high)}"
            over = f"over {len(found.stress.conditions)} conditions"
            text = f"Discrepancy of {figure.attribute} {over}: {number(figure.mean)}"
            console.print(f"{text}, {worst}", highlight=False, markup=False)


def _pictures(given: ReadPictures) -> Table:
    """Return the scores of the first pictures on all axes, and their nearest prompt."""
    names = tuple(given.agreement)
    left_out = f", the first {2 * SHOWN} of {len(names)}" if len(names) > 2 * SHOWN else ""
    table = Table("picture", *(escape(axis.name) for axis in given.axes), "nearest prompt", title=f"Pictures{left_out}")
    scores = {(one.picture, one.axis): one for one in given.scores}
    for name in names[: 2 * SHOWN]:
        own = [scores[name, axis.name] for axis in given.axes]
        near = escape(given.prompts[name][0].name) if given.prompts[name] else ""
        table.add_row(
            escape(name), *(f"{number(one.value)} {escape(interval(one.low, one.high))}" for one in own), near
        )
    return table


def _findings(found: OpenSet) -> Table:
    """Return the open-set findings."""
    table = Table(
        "prompt", "attribute", "rate", "others", "95 % interval of the difference", title="No attribute names"
    )
    for row in finding_rows(found):
        prompt, attribute, rate, others, _, between, *_ = row.cells
        table.add_row(*map(escape, (prompt, attribute, rate, others, between)))
    return table


def _ends(axis: Axis, scores: tuple[Score, ...], neutral: Score) -> Table:
    """Return the prompts at both ends of an axis; all of them if they are few."""
    table = Table(
        "prompt", "score", "95 % interval", title=escape(f"{axis.name}: −1 is “{axis.low}”, +1 is “{axis.high}”"),
        title_justify="left",
    )  # fmt: skip
    few = len(scores) <= 2 * SHOWN
    for score in scores if few else scores[:SHOWN]:
        table.add_row(escape(score.prompt), number(score.value), escape(interval(score.low, score.high)))
    if not few:
        table.add_row("…", "", "")
        for score in scores[-SHOWN:]:
            table.add_row(escape(score.prompt), number(score.value), escape(interval(score.low, score.high)))
    table.add_section()
    table.add_row("(neutral)", number(neutral.value), escape(interval(neutral.low, neutral.high)))
    return table
