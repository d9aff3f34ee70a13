"""Prompt stress of an exploration as tables: figures over all conditions, by condition, and what conditions move."""

from __future__ import annotations

import csv
import io
from dataclasses import fields

from audit.records.estimates import percent
from audit.records.inside.stress import Condition, Shift, Stress
from reports.figures.charts import Table
from reports.words.formats import interval, number, p_value

SHOWN = 100
"""Shifts in the table of the page; all are in the CSV."""


def stress_figures_table(found: Stress) -> Table:
    """Return the mean and the worst tenth of each attribute."""
    names = [condition_name(one) for one in found.conditions]
    rows = tuple(
        (
            one.attribute,
            number(one.by_condition[0]),
            number(one.mean),
            number(one.worst),
            interval(one.low, one.high),
            ", ".join(f"{prompt} ({name or 'plain'})" for prompt, name in one.cells[:3]),
        )
        for one in found.figures
    )
    columns = ("attribute", "plain prompts", "all conditions", "worst tenth", "95 % interval", "worst")
    return Table(f"Fairness discrepancy from equal shares, over {len(names)} conditions", columns, rows)


def conditions_table(found: Stress) -> Table:
    """Return the discrepancy of each attribute under each condition."""
    rows = tuple(
        (condition_name(one), *(number(figure.by_condition[place]) for figure in found.figures))
        for place, one in enumerate(found.conditions)
    )
    columns = ("condition", *(figure.attribute for figure in found.figures))
    return Table("Fairness discrepancy under each condition, over all prompts", columns, rows)


def shifts_table(found: Stress) -> Table:
    """Return the changes that are found, the largest first."""
    marked = [one for one in found.shifts if one.found]
    rows = tuple(
        (
            one.prompt,
            condition_name(found.conditions[one.condition]),
            f"{one.attribute}: {one.group}",
            percent(one.plain),
            percent(one.share),
            interval(one.low, one.high, share=True),
            p_value(one.p),
        )
        for one in marked[:SHOWN]
    )
    columns = ("prompt", "condition", "group", "plain", "under the condition", "95 % interval of the change", "p")
    left_out = f", the {SHOWN} largest" if len(marked) > SHOWN else ""
    caption = f"What conditions move: {len(marked)} of {len(found.shifts)} tests{left_out}"
    return Table(caption, columns, rows, names=3)


def condition_name(one: Condition) -> str:
    """Return a condition in words."""
    if one.kind == "descriptor":
        return f"“{one.name}”"
    return {"plain": "plain prompt", "phrasing": one.name, "guidance": f"guidance {one.name}"}[one.kind]


def stress_csv(found: Stress) -> str:
    """Return a row for each prompt, condition and attribute."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [field.name for field in fields(Shift)]
    writer.writerow(columns)
    for one in found.shifts:
        named = {name: getattr(one, name) for name in columns} | {
            "condition": condition_name(found.conditions[one.condition])
        }
        writer.writerow(named.values())
    return text.getvalue()
