"""Tables of common fairness measures, each with its ideal value and the value that a fair model scores by chance."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from audit.measure.discrepancy.group_measures import MEASURES, mean_measure
from audit.records.attributes import Attribute
from audit.records.estimates import NBSP
from audit.records.groups import GroupMeasure, GroupResult
from reports.figures.charts import Table, by_skew
from reports.index.story import Story, label
from reports.words.formats import THESE, figure_text, number

MOST_LISTED = 50
"""Occupations listed, the most skewed first; results.csv has all of them."""


def measures_table(story: Story, attribute: Attribute) -> Table | None:
    """Return the mean over occupations of every measure, per arm; None if none was computed."""
    rows = tuple(_row(story, attribute.name, name) for name in MEASURES if _found(story, attribute.name, name))
    if not rows:
        return None
    caption = f"Perceived {label(attribute.name)}, means over occupations (95{NBSP}% intervals about {THESE})"
    return Table(caption, ("Measure", "On target", "Fair model at this n", *story.arms), rows)


def measures_by_occupation(story: Story, attribute: Attribute) -> Table:
    """Return every measure of each occupation; the first row pools the images of all occupations."""
    names = tuple(name for name in MEASURES if _found(story, attribute.name, name))
    prompts = (None, *by_skew(story, attribute)[:MOST_LISTED])
    rows = tuple(
        (
            "all images pooled" if prompt is None else story.occupation(prompt),
            arm,
            str(row.n),
            *(figure_text(row.measures.get(name)) for name in names),
        )
        for prompt in prompts
        for arm in story.arms
        if (row := story.rows.get((prompt, arm, attribute.name))) is not None and row.measures
    )
    listed = "" if len(prompts) > len(story.prompts) else f", the {MOST_LISTED} most skewed occupations"
    caption = f"Measures of perceived {label(attribute.name)}{listed} (95{NBSP}% intervals about {THESE})"
    return Table(caption, ("Occupation", "Arm", "n", *(_title(name) for name in names)), rows, names=2)


def caveats() -> tuple[str, ...]:
    """Return the caveats that must be printed with some measures."""
    return tuple(f"{_title(m.name)}: {m.caveat}." for m in MEASURES.values() if m.caveat)


def _row(story: Story, attribute: str, name: str) -> tuple[str, ...]:
    found = _found(story, attribute, name)
    chance = fmean(measure.expected_at_target for measure in found)
    means = (_mean(story, attribute, name, arm) for arm in story.arms)
    return _title(name), _ideal(found), number(chance), *means


def _ideal(found: Sequence[GroupMeasure]) -> str:
    """Return the value at the target; a range if occupations have different targets."""
    lowest, highest = (number(end(measure.ideal for measure in found)) for end in (min, max))
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _found(story: Story, attribute: str, name: str, arm: str | None = None) -> list[GroupMeasure]:
    """Return the measure in every occupation of an arm, by default the baseline."""
    return [row.measures[name] for row in _measured(story, attribute, name, arm or story.arms[0])]


def _measured(story: Story, attribute: str, name: str, arm: str) -> list[GroupResult]:
    rows = (story.rows.get((prompt, arm, attribute)) for prompt in story.prompts)
    return [row for row in rows if row is not None and name in row.measures]


def _mean(story: Story, attribute: str, name: str, arm: str) -> str:
    rows = _measured(story, attribute, name, arm)
    if len(rows) < 2:
        return figure_text(rows[0].measures[name] if rows else None)
    targets = [tuple(row.target.values()) for row in rows]
    return figure_text(mean_measure(name, [row.measures[name] for row in rows], targets))


def _title(name: str) -> str:
    title = MEASURES[name].label
    return title[0].upper() + title[1:]
