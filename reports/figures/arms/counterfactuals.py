"""Tables of prompts that differ in one group's word: whether the model draws the group, and what else changes."""

from __future__ import annotations

from audit.records.arms.counterfactuals import CounterfactualPair
from audit.records.estimates import NBSP
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import THESE, share_text


def counterfactual_tables(story: Story) -> tuple[Table, ...]:
    """Return two tables, empty ones left out: images that show the named group, and differences beside it."""
    pairs = story.result.counterfactuals
    return tuple(table for table in (_shown(pairs), _differences(pairs)) if table.rows)


def _shown(pairs: tuple[CounterfactualPair, ...]) -> Table:
    rows = {}
    for pair in pairs:
        for arm, group in zip(pair.arms, pair.groups, strict=True):
            shown = pair.shown[group]
            rows[arm, group] = (arm, label(pair.attribute), label(group), share_text(shown), str(shown.n))
    caption = f"Images that show the group that their prompt names (95{NBSP}% intervals)"
    return Table(caption, ("Arm", "Attribute", "Named group", "Shown", "n"), tuple(rows.values()), names=3)


def _differences(pairs: tuple[CounterfactualPair, ...]) -> Table:
    rows = []
    for pair in pairs:
        between = f"{label(pair.groups[1])} minus {label(pair.groups[0])}"
        for change in pair.changes:
            if change.prompt_id is None:
                rows += [(between, label(change.attribute), label(g), share_text(s)) for g, s in change.shares.items()]
        rows.append((between, "Unclassified", "–", share_text(pair.missing.difference)))
    caption = (
        f"Difference of shares between the two arms, paired by image: mean over occupations (95{NBSP}% intervals about "
        f"{THESE}); unclassified images over all occupations"
    )
    return Table(caption, ("Named groups", "What is compared", "Group", "Difference"), tuple(rows), names=3)
