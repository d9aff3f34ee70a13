"""Edit strength per occupation, its source, and the occupations in which the edit does not control the attribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from audit.records.estimates import NBSP, percent
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import number

MOST_NAMED = 8
"""Occupations that a sentence names; the table lists all."""

ByPrompt = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Prompt id → group → the result of the strength search."""


def steering_of(story: Story) -> Mapping[str, ByPrompt]:
    """Return the recorded edit strengths of a run by attribute; empty for runs that recorded none."""
    return story.result.lens.get("steering") or {}


def steering_table(story: Story, attribute: str) -> Table | None:
    """List each occupation's edit strength and its effect in trial images; None if nothing was recorded."""
    by_prompt = steering_of(story).get(attribute)
    return _table(story, f"the {label(attribute)} edit", by_prompt) if by_prompt else None


def searched_tables(story: Story) -> tuple[Table, ...]:
    """Return such a table for each edit without a lens whose strengths were searched."""
    return tuple(_table(story, _of_arm(arm), by_prompt) for arm, by_prompt in story.result.strengths.items())


def _table(story: Story, edit: str, by_prompt: ByPrompt) -> Table:
    groups = tuple(dict.fromkeys(group for by_group in by_prompt.values() for group in by_group))
    rows = tuple(
        (story.occupation(prompt), _sources(by_group), *(_cell(by_group.get(group)) for group in groups))
        for prompt, by_group in by_prompt.items()
    )
    caption = (
        f"Strength of {edit} per occupation and group; share of the trial images that show the group, and largest "
        "share of them with a side effect"
    )
    return Table(caption, ("Occupation", "Strength", *(f"Towards {label(group)}" for group in groups)), rows, names=2)


def steering_notes(story: Story) -> tuple[str, ...]:
    """Return sentences about occupations that an edit does not control and about strengths without trial images."""
    of_lens, searched = steering_of(story), story.result.strengths
    poor = [_poor(story, f"the {label(attribute)} edit", by_prompt) for attribute, by_prompt in of_lens.items()]
    poor += [_poor(story, _of_arm(arm), by_prompt) for arm, by_prompt in searched.items()]
    predicted = [_predicted(story, attribute, by_prompt) for attribute, by_prompt in of_lens.items()]
    return tuple(note for note in (*poor, *predicted) if note)


def _of_arm(arm: str) -> str:
    return f"the edit “{arm}”"


def _poor(story: Story, edit: str, by_prompt: ByPrompt) -> str:
    """Name the occupations that an edit does not control; empty if there are none."""
    poor = {
        prompt: [label(group) for group, found in by_group.items() if found["control"] == "none"]
        for prompt, by_group in by_prompt.items()
    }
    named = [f"{story.occupation(prompt)} ({', '.join(groups)})" for prompt, groups in poor.items() if groups]
    if not named:
        return ""
    return (
        f"{edit[0].upper()}{edit[1:]} does not control {_listed(named)}: at the selected strength, less than half "
        "of the trial images show that group."
    )


def _predicted(story: Story, attribute: str, by_prompt: ByPrompt) -> str:
    """Name the occupations whose strengths were predicted; empty if there are none."""
    predicted = [story.occupation(prompt) for prompt, found in by_prompt.items() if "predicted" in _kinds(found)]
    if not predicted:
        return ""
    return (
        f"Strengths of the {label(attribute)} edit are predicted, without trial images, for "
        f"{_listed(predicted)}, which the lens was not made from{_error(story, attribute)}."
    )


def _error(story: Story, attribute: str) -> str:
    """Return the prediction's leave-one-out error on the prompts of the lens, as a clause."""
    lines: Mapping[str, Mapping[str, float]] = (story.result.lens.get("prediction") or {}).get(attribute) or {}
    errors = ", ".join(f"{label(group)}{NBSP}{number(line['error'])}" for group, line in lines.items())
    return f" (leave-one-out error on the lens's own prompts: {errors})" if errors else ""


def _kinds(by_group: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found["source"] for found in by_group.values()))


def _sources(by_group: Mapping[str, Mapping[str, Any]]) -> str:
    return " and ".join(_kinds(by_group))


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    if found["shown"] is None or found["side_effect"] is None:
        return number(found["strength"])
    drawn = f"{number(found['strength'])}: {percent(found['shown'])} shown, {percent(found['side_effect'])} changed"
    return f"{drawn}, not controllable" if found["control"] == "none" else drawn


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return _joined([*names[:MOST_NAMED], f"{more} more"] if more > 0 else names)


def _joined(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
