"""Whether a run kept to the protocol that was registered before it, and every departure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.evidence.adherence import KEY
from reports.figures.charts import Table

DIGITS = 12
"""Digits of the checksum that are shown."""


@dataclass(frozen=True)
class ProtocolSection:
    """The protocol on the first screen.

    Attributes:
        kept: Whether there is no departure.
        title: The answer in a few words.
        text: When the protocol was registered, and what it does not name.
        departures: Every departure; empty rows if there is none.
    """

    kept: bool
    title: str
    text: str
    departures: Table


def protocol_section(provenance: Mapping[str, Any]) -> ProtocolSection | None:
    """Return the protocol of a run, None if none was registered."""
    found = provenance.get(KEY)
    if not isinstance(found, Mapping):
        return None
    rows = tuple(
        (str(one.get("what")), str(one.get("registered") or "–"), str(one.get("found") or "–"))
        for one in found.get("departures") or ()
    )
    count = len(rows)
    title = f"⚠ {count} departure{'s' * (count > 1)} from the protocol" if rows else "✓ Kept to the protocol"
    text = f"Registered {found.get('registered')}, sha256 {str(found.get('sha256'))[:DIGITS]}"
    if not found.get("weights_known"):
        text += "; it does not name the weights, which were not there"
    table = Table("Departures from the protocol", ("What", "Registered", "In this run"), rows, names=3)
    return ProtocolSection(not rows, title, f"{text}.", table)
