"""Prints an exploration: the ends of each axis, and how well scores predict images."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from audit.records.inside.exploration import Axis, Exploration, Score
from reports.exploration.page import lead, warnings
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
    for warning in warnings(found):
        console.print(warning, style="yellow", highlight=False, markup=False)


def _ends(axis: Axis, scores: tuple[Score, ...], neutral: Score) -> Table:
    """Return the prompts at both ends of an axis; all of them if they are few."""
    table = Table(
        "prompt", "score", "95 % interval", title=f"{axis.name}: −1 is “{axis.low}”, +1 is “{axis.high}”",
        title_justify="left",
    )  # fmt: skip
    few = len(scores) <= 2 * SHOWN
    for score in scores if few else scores[:SHOWN]:
        table.add_row(score.prompt, number(score.value), interval(score.low, score.high))
    if not few:
        table.add_row("…", "", "")
        for score in scores[-SHOWN:]:
            table.add_row(score.prompt, number(score.value), interval(score.low, score.high))
    table.add_section()
    table.add_row("(neutral)", number(neutral.value), interval(neutral.low, neutral.high))
    return table
