"""How strongly each occupation was edited, where that strength comes from, and where the edit controls nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from audit.records.estimates import NBSP, percent
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import number

MOST_NAMED = 8
"""Occupations that a sentence names; the table has all."""

ByPrompt = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Prompt id → group → what was found about its strength."""


def steering_of(story: Story) -> Mapping[str, ByPrompt]:
    """Return what a run knows about its edits' strengths, by attribute; empty for runs that kept none of it."""
    return story.result.lens.get("steering") or {}


def steering_table(story: Story, attribute: str) -> Table | None:
    """List the strength of each occupation's edit with what it did when it was drawn; None where nothing is known."""
    by_prompt = steering_of(story).get(attribute)
    if not by_prompt:
        return None
    groups = tuple(dict.fromkeys(group for by_group in by_prompt.values() for group in by_group))
    rows = tuple(
        (story.occupation(prompt), _sources(by_group), *(_cell(by_group.get(group)) for group in groups))
        for prompt, by_group in by_prompt.items()
    )
    caption = (
        f"Strength of the {label(attribute)} edit per occupation and group; share of the trial images that show the "
        "group, and largest share of them that changed otherwise"
    )
    return Table(caption, ("Occupation", "Strength", *(f"Towards {label(group)}" for group in groups)), rows, names=2)


def steering_notes(story: Story) -> tuple[str, ...]:
    """Say in sentences what an auditor must know about the edits: what they do not control, and what was not drawn."""
    notes = [
        note for attribute, by_prompt in steering_of(story).items() for note in _notes(story, attribute, by_prompt)
    ]
    return tuple(notes)


def _notes(story: Story, attribute: str, by_prompt: ByPrompt) -> Iterator[str]:
    poor = {
        prompt: [label(group) for group, found in by_group.items() if found["control"] == "none"]
        for prompt, by_group in by_prompt.items()
    }
    named = [f"{story.occupation(prompt)} ({', '.join(groups)})" for prompt, groups in poor.items() if groups]
    if named:
        yield (
            f"Perceived {label(attribute)} is not controllable here for {_listed(named)}: at the strength that is "
            "worth its side effects, less than half of the trial images show that group."
        )
    predicted = [story.occupation(prompt) for prompt, found in by_prompt.items() if "predicted" in _kinds(found)]
    if predicted:
        yield (
            f"Strengths of the {label(attribute)} edit are predicted, not drawn, for {_listed(predicted)}, which the "
            f"lens was not made from{_error(story, attribute)}."
        )


def _error(story: Story, attribute: str) -> str:
    """The prediction's own error on the prompts of the lens, each left out in turn."""
    lines: Mapping[str, Mapping[str, float]] = (story.result.lens.get("prediction") or {}).get(attribute) or {}
    errors = ", ".join(f"{label(group)}{NBSP}{number(line['error'])}" for group, line in lines.items())
    return f" (error where each of its own prompts is left out: {errors})" if errors else ""


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
