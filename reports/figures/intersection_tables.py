"""Tables of two attributes at once: their association, every combination of groups, the clearest occupations."""

from __future__ import annotations

from audit.records.estimates import NBSP
from audit.records.groups import FINDING_LEVEL
from audit.records.intersections import Cell, Dependence, Intersection
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import THESE, figure_text, p_value, share_text

MOST_LISTED = 50
"""Occupations listed, the clearest first; audit.json lists all, with every combination of groups."""


def dependence_table(story: Story) -> Table | None:
    """Association of each pair of attributes within occupations, per arm; None if no pair was counted."""
    overall = [pair for pair in story.result.intersections if pair.prompt_id is None]
    if not overall:
        return None
    named = [(pair.arm, pair.attributes) for pair in _findings(story)]
    rows = tuple(
        (
            _both(pair.attributes),
            pair.arm,
            *_strength(pair.dependence),
            str(named.count((pair.arm, pair.attributes))),
            str(pair.n),
        )
        for pair in sorted(overall, key=lambda pair: [item.attributes for item in overall].index(pair.attributes))
    )
    columns = ("Attributes", "Arm", "Cramér's V", "p", "Occupations with an association", "n")
    return Table(
        f"Association of two attributes within occupations (95{NBSP}% intervals about {THESE})", columns, rows, names=2
    )


def combination_tables(story: Story) -> tuple[Table, ...]:
    """Every combination of groups, for each pair of attributes, all occupations pooled."""
    by_pair: dict[tuple[str, str], list[Intersection]] = {}
    for pair in story.result.intersections:
        if pair.prompt_id is None:
            by_pair.setdefault(pair.attributes, []).append(pair)
    return tuple(map(_cells_table, by_pair.values()))


def together_table(story: Story) -> Table:
    """Return the occupations in which two attributes are associated, the clearest first."""
    found = _findings(story)
    columns = ("Occupation", "Arm", "Attributes", "Furthest from independent", "Cramér's V", "p", "Adjusted p", "n")
    left = f", {MOST_LISTED} of {len(found)}" if len(found) > MOST_LISTED else ""
    caption = f"Association of two attributes in one occupation, adjusted p at most {FINDING_LEVEL}{left}"
    return Table(caption, columns, tuple(_together(story, pair) for pair in found[:MOST_LISTED]), names=4)


def _findings(story: Story) -> list[Intersection]:
    tests = ((pair.dependence, pair) for pair in story.result.intersections if pair.prompt_id is not None)
    clear = [(test.p_adjusted, pair) for test, pair in tests if test and test.p_adjusted <= FINDING_LEVEL]
    return [pair for _, pair in sorted(clear, key=lambda item: item[0])]


def _cells_table(arms: list[Intersection]) -> Table:
    columns = tuple(title for pair in arms for title in (pair.arm, "n", "if independent"))
    rows = tuple(
        (_together_words(cells[0]), *(text for cell in cells for text in _cell(cell)))
        for cells in zip(*(pair.cells for pair in arms), strict=True)
    )
    sizes = ", ".join(f"{pair.arm} {pair.n}" for pair in arms)
    caption = (
        f"{_both(arms[0].attributes)}, all occupations pooled (95{NBSP}% intervals about {THESE}; images: {sizes})"
    )
    return Table(caption, ("Combination", *columns), rows)


def _cell(cell: Cell) -> tuple[str, str, str]:
    return share_text(cell.share), f"{cell.count}{' (small)' if cell.small else ''}", f"{cell.expected:.1f}"


def _together(story: Story, pair: Intersection) -> tuple[str, ...]:
    furthest = max(pair.cells, key=lambda cell: abs(cell.count - cell.expected))
    v, p = _strength(pair.dependence)
    return (
        story.occupation(pair.prompt_id or ""),
        pair.arm,
        _both(pair.attributes),
        f"{_together_words(furthest)}: {furthest.count}, expected {furthest.expected:.1f}",
        v,
        p,
        p_value(pair.dependence.p_adjusted if pair.dependence else None),
        str(pair.n),
    )


def _strength(found: Dependence | None) -> tuple[str, str]:
    if found is None:
        return "one group only", "–"
    return figure_text(found.cramers_v), p_value(found.p_value)


def _both(attributes: tuple[str, str]) -> str:
    return " and ".join(map(label, attributes))


def _together_words(cell: Cell) -> str:
    return " and ".join(map(label, cell.groups))
