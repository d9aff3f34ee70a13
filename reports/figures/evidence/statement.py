"""What the auditor declares about an audit, and whether it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

TITLES = {
    "responsible": "Responsible",
    "role": "Role",
    "independence": "Independence",
    "intended_use": "Intended use",
    "population": "The prompts stand for",
    "known_gaps": "Known gaps to real use",
    "model_energy": "Energy of the model, as its maker states it",
    "valid_until": "Valid until",
}
"""Key of the section ``statement`` → its title, in the order in which they are shown."""


@dataclass(frozen=True)
class StatementSection:
    """The statement of the auditor.

    Attributes:
        items: Title and text of every key that the config sets.
        over: What to say if the audit is no longer valid, empty otherwise.
    """

    items: tuple[tuple[str, str], ...]
    over: str


def statement_section(config: Mapping[str, Any], today: date) -> StatementSection | None:
    """Return the statement of a config, None if it says nothing.

    Args:
        config: The config as the result holds it.
        today: Date on which the page is made.
    """
    said = config.get("statement") or {}
    items = tuple((title, str(said[key])) for key, title in TITLES.items() if said.get(key))
    return StatementSection(items, over(said, today)) if items else None


def over(said: Mapping[str, Any], today: date) -> str:
    """Return the sentence that an audit is no longer valid; empty if it is, or if it has no such date."""
    until = said.get("valid_until")
    if not until or str(until) >= today.isoformat():
        return ""
    return f"This audit is no longer valid: its auditor set {until} as the last day, and this page was made on {today}."
