"""The section on the location map: heat maps of shares by place and by window, and a table of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.records.estimates import percent
from audit.records.located.location import LocationMap, PlaceShare
from audit.records.located.places import Place
from reports.charts.heatmap import HeatRow, heatmap
from reports.charts.svg import Frame, label_width
from reports.figures.charts import Figure, Table
from reports.figures.location_words import (
    SCREENED,
    bytes_text,
    decision_text,
    estimate_text,
    not_controllable,
    population_text,
    share_text,
    window_text,
)
from reports.index.story import Story, label

_CELL, _LONGEST, _MARGIN = 92.0, 60, 56.0
_NONE = "–"


@dataclass(frozen=True)
class LocationSection:
    """The section of the report.

    Attributes:
        decisions: Where each attribute is decided.
        hookpoint: Where the lens reads.
        notes: Attributes that are not decided there.
        figures: Heat maps.
        details: All figures.
        population: What the figures are of, and the controls.
    """

    decisions: tuple[str, ...]
    hookpoint: str
    notes: tuple[str, ...]
    figures: tuple[Figure, ...]
    details: Table
    population: tuple[str, ...]


def location_section(story: Story) -> LocationSection | None:
    """Return the section, None without a location map."""
    found = story.result.location
    if found is None or not found.places:
        return None
    lens = story.result.config.get("lens") or {}
    hookpoint = str(lens.get("hookpoint", "mid_block"))
    names = [decision.attribute for decision in found.decisions]
    notes = (not_controllable(found, name, hookpoint) for name in names)
    whole = [row for row in found.places if row.is_at_all_steps]
    windows = [row for row in found.places if not row.is_at_all_steps]
    figures = [_by_place(found, whole), *([_by_window(found, windows)] if windows else [])]
    return LocationSection(
        tuple(decision_text(found, decision) for decision in found.decisions),
        hookpoint,
        tuple(note[0].upper() + note[1:] for note in notes if note is not None),
        tuple(figures),
        _details(found),
        tuple(population_text(found)),
    )


def _by_place(found: LocationMap, rows: Sequence[PlaceShare]) -> Figure:
    columns = tuple(dict.fromkeys((row.attribute, row.groups) for row in rows))
    cells = {(row.place, row.attribute, row.groups): row for row in rows}
    places = tuple(dict.fromkeys(row.place for row in rows))
    shares = [(place, [cells.get((place, *column)) for column in columns]) for place in places]
    title = "Images that follow one place, at all steps"
    description = (
        "Rows are places of the network in the order in which they are computed, columns are attributes. A cell is the "
        f"share of images that follow the place; {SCREENED} marks shares of the screening alone."
    )
    names = [_column(found, *column) for column in columns]
    return _heat("location", title, description, names, shares)


def _by_window(found: LocationMap, rows: Sequence[PlaceShare]) -> Figure:
    windows = tuple(dict.fromkeys(row.at.window for row in rows))
    cells = {(row.attribute, row.groups, row.at.at_all_steps, row.at.window): row for row in rows}
    names = tuple(dict.fromkeys((row.attribute, row.groups, row.at.at_all_steps) for row in rows))
    shares = [
        (f"{_column(found, *name[:2])} · {name[2]}", [cells.get((*name, window)) for window in windows])
        for name in names
    ]
    title = "The places that carry an attribute, by window of steps"
    description = (
        "Rows are attributes and places, columns are windows of steps. A cell is the share of images that follow."
    )
    columns = [window_text(found, str(Place("x", window=window))).partition(", ")[2] for window in windows]
    first = {name[:2]: row for name, (row, _) in reversed([*zip(names, shares, strict=True)])}
    return _heat("location-windows", title, description, columns, shares, [*first.values()])


def _heat(
    key: str,
    title: str,
    description: str,
    columns: Sequence[str],
    shares: Sequence[tuple[str, Sequence[PlaceShare | None]]],
    blocks: Sequence[str] = (),
) -> Figure:
    rows = [
        HeatRow(name, tuple(map(_value, own)), opens_block=name in blocks, texts=tuple(map(_short, own)))
        for name, own in shares
    ]
    table = Table(
        title,
        ("Place", *columns),
        tuple((name, *(share_text(row) if row else _NONE for row in own)) for name, own in shares),
    )
    width = label_width([row.label for row in rows], _LONGEST) + len(columns) * _CELL + _MARGIN
    svg = heatmap(Frame(key, title, description, width), columns, rows, widest=_CELL, longest=_LONGEST)
    return Figure(key, f"{title} (share of images)", svg, table)


def _column(found: LocationMap, attribute: str, groups: tuple[str, str]) -> str:
    return f"{label(attribute)}: {groups[0]}–{groups[1]}" if found.pairs == "all" else label(attribute)


def _value(row: PlaceShare | None) -> float:
    return row.share.value if row is not None and row.share is not None else 0.0


def _short(row: PlaceShare | None) -> str:
    if row is None or row.share is None:
        return _NONE
    return f"{percent(row.share.value)}{SCREENED if row.stage == 'screened' else ''}"


def _details(found: LocationMap) -> Table:
    columns = (
        "Place", "Attribute", "Follow", "First to second", "Second to first", "Counted",
        "Another occupation", "Kept per image", "Denoiser calls",
    )  # fmt: skip
    rows = tuple(
        (
            window_text(found, row.place),
            f"{label(row.attribute)}: {row.groups[0]}, {row.groups[1]}",
            share_text(row),
            *(estimate_text(one) for one in row.directions),
            f"{row.counted} of {row.sampled}",
            estimate_text(row.other_prompt),
            bytes_text(row.bytes_per_image),
            str(row.calls_per_image),
        )
        for row in found.places
    )
    return Table("Location map", columns, rows, names=2)
