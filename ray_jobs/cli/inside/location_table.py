"""Prints a location map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.figures.location_words import bytes_text, decision_text, population_text, share_text, window_text

if TYPE_CHECKING:
    from rich.console import Console

    from audit.records.located.location import LocationMap, PlaceShare


def show_location(found: LocationMap, console: Console) -> None:
    """Print a location map: the decision of each attribute, then a row for each place."""
    console.print("Share of images that follow if this place alone comes from the other group's run:", highlight=False)
    _table(found, [row for row in found.places if row.is_at_all_steps], console)
    windows = [row for row in found.places if not row.is_at_all_steps]
    if windows:
        console.print("\nBy window of steps, for the places that carry an attribute:", highlight=False)
        _table(found, windows, console)
    console.print()
    for decision in found.decisions:
        console.print(decision_text(found, decision), highlight=False, markup=False)
    console.print()
    for line in population_text(found):
        console.print(line, highlight=False, markup=False)


def _table(found: LocationMap, rows: list[PlaceShare], console: Console) -> None:
    from rich.table import Table

    columns = dict.fromkeys((row.attribute, row.groups) for row in rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("place", no_wrap=True)
    for attribute, groups in columns:
        pair = f"\n{groups[0]} – {groups[1]}" if found.pairs == "all" else ""
        table.add_column(attribute.replace("_", " ") + pair, justify="right")
    table.add_column("kept per image", justify="right")
    cells = {(row.place, row.attribute, row.groups): row for row in rows}
    for place in dict.fromkeys(row.place for row in rows):
        own = [cells.get((place, *column)) for column in columns]
        kept = max(row.bytes_per_image for row in own if row is not None)
        table.add_row(window_text(found, place), *(share_text(row) if row else "–" for row in own), bytes_text(kept))
    console.print(table)
