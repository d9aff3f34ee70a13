"""Tables of compositions: images, joint tables, tests, and how well persons are matched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit.measure.inference.intervals import share_estimate
from audit.records.estimates import percent
from audit.records.inside.compositions import AloneImages, Company, Compositions, JointCell, PairImages
from reports.compositions.words import points
from reports.figures.charts import Table
from reports.words.formats import figure_text, interval, number, p_value, share_text

_ROWS = 200
"""Rows of a table; the files have all."""


def images_table(found: Compositions) -> Table:
    """Return what became of the images of each prompt."""
    columns = (
        "prompt", "images", "no person", "one", "two", "more", "told apart",
        *(f"{name.replace('_', ' ')} known" for name in found.attributes),
    )  # fmt: skip
    rows = [(*_counted(one), str(one.apart), *_classified(found, one)) for one in found.pairs]
    rows += [(*_counted(one), "–", *_classified(found, one)) for one in found.alone]
    return Table("What became of the images", columns, tuple(rows))


def _counted(one: PairImages | AloneImages) -> tuple[str, ...]:
    return (one.text, str(one.images), *map(str, one.people))


def _classified(found: Compositions, one: PairImages | AloneImages) -> Iterator[str]:
    return (str(one.classified[name]) for name in found.attributes)


def joint_tables(found: Compositions, pair: PairImages) -> Iterator[Table]:
    """Yield the joint tables of a pair, without attributes of which no image has two persons with a group."""
    for attribute in found.attributes:
        if pair.classified[attribute]:
            yield joint_table(found, pair, attribute)


def joint_table(found: Compositions, pair: PairImages, attribute: str) -> Table:
    """Return the joint table of a pair: a row for each group of the first person, a column for the second's."""
    groups = found.attributes[attribute]
    own = (one for one in found.cells if (one.pair, one.attribute) == (pair.pair, attribute))
    cells = {(one.first, one.second): one for one in own}
    rows = [
        (f"{pair.first}: {first}", *(_cell(cells[first, second]) for second in groups),
         _margin([cells[first, second] for second in groups], pair.classified[attribute]))
        for first in groups
    ]  # fmt: skip
    margins = (_margin([cells[first, second] for first in groups], pair.classified[attribute]) for second in groups)
    rows.append((f"{pair.first}: all", *margins, ""))
    columns = ("", *(f"{pair.second}: {second}" for second in groups), f"{pair.second}: all")
    named = f"{attribute.replace('_', ' ')} of the {pair.first} (rows) and of the {pair.second} (columns)"
    return Table(f"{named}, {pair.classified[attribute]} images", columns, tuple(rows))


def _cell(one: JointCell) -> str:
    return f"{share_text(one.share)} ({one.count})"


def _margin(cells: Sequence[JointCell], images: int) -> str:
    """Return the share of a row or column, of the same images as its cells."""
    count = sum(one.count for one in cells)
    return f"{share_text(share_estimate(count, images))} ({count})"


def cut_note(rows: int, most: int) -> str:
    """Return what a caption says of rows that are left out; an empty text if none are."""
    more = rows - most
    return f" ({more} more row{'s are' if more > 1 else ' is'} in the files)" if more > 0 else ""


def reversal_table(found: Compositions) -> Table:
    """Return each combination of groups against the reverse one, found ones first."""
    names = {pair.pair: pair for pair in found.pairs}
    ordered = sorted(found.reversals, key=lambda one: (not one.found, one.p))
    rows = tuple(
        (
            pair_name(names[one.pair]),
            one.attribute,
            f"{names[one.pair].first} {one.first}, {names[one.pair].second} {one.second}",
            str(one.count),
            str(one.reverse),
            str(one.difference.n),
            f"{points(one.difference.value)} {interval(one.difference.low, one.difference.high, share=True)}",
            p_value(one.p),
            "yes" if one.found else "no",
        )
        for one in ordered[:_ROWS]
    )
    columns = (
        "pair", "attribute", "combination", "images with it", "with the reverse", "of", "difference (points)", "p",
        "found",
    )  # fmt: skip
    named = f"A combination of groups against the reverse one{cut_note(len(ordered), _ROWS)}"
    return Table(named, columns, rows, names=3)


def company_table(found: Compositions, shown: Sequence[Company]) -> Table:
    """Return the share of some groups beside the other person and alone."""
    names = {pair.pair: pair_name(pair) for pair in found.pairs}
    rows = tuple(
        (
            one.occupation,
            names[one.pair],
            f"{one.attribute}: {one.group}",
            "–" if one.share is None else f"{share_text(one.share)}, n {one.share.n}",
            "–" if one.alone is None else f"{share_text(one.alone)}, n {one.alone.n}",
            "–"
            if one.change is None
            else f"{points(one.change.value)} {interval(one.change.low, one.change.high, share=True)}",
            p_value(one.p),
            "yes" if one.found else "no",
        )
        for one in shown
    )
    columns = ("occupation", "pair", "group", "in company", "alone", "change (points)", "p", "found")
    return Table("Shares in company and alone", columns, rows, names=3)


def alike_table(found: Compositions) -> Table:
    """Return how often both persons have the same group and whether that is by dependence, found ones first."""
    ordered = sorted(found.alike, key=lambda one: (not one.found, 1.0 if one.p is None else one.p))
    names = {pair.pair: pair_name(pair) for pair in found.pairs}
    rows = tuple(
        (
            names[one.pair],
            one.attribute,
            share_text(one.same),
            percent(one.expected),
            figure_text(one.cramers_v),
            p_value(one.p),
            "yes" if one.found else "no",
        )
        for one in ordered[:_ROWS]
    )
    columns = ("pair", "attribute", "same group", "if independent", "Cramér’s V", "p", "found")
    named = f"Does the group of one person depend on that of the other?{cut_note(len(ordered), _ROWS)}"
    return Table(named, columns, rows, names=2)


def matching_table(found: Compositions) -> Table:
    """Return how well persons are matched where the truth is known: of all images, then the least reliable groups."""
    shown = [one for one in found.matchings if one.pairs or not one.attribute]
    shown.sort(key=lambda one: (bool(one.attribute), one.right.low if one.right else 0.0))
    names = {pair.pair: pair for pair in found.pairs}
    rows = tuple(
        (
            pair_name(names[one.pair]),
            f"{names[one.pair].first} {one.first}, {names[one.pair].second} {one.second}" if one.attribute else "all",
            str(one.pairs),
            str(one.apart),
            "–" if one.right is None else share_text(one.right),
            "–" if one.right is None else str(one.right.n),
        )
        for one in shown[:_ROWS]
    )
    columns = ("pair", "groups", "pairs of images", "told apart", "of these right", "by images")
    named = f"Matches where the truth is known: images of each occupation alone{cut_note(len(shown), _ROWS)}"
    return Table(named, columns, rows, names=2)


def pair_name(pair: PairImages) -> str:
    """Return a pair in words."""
    return f"{pair.first} and {pair.second}"


def setting_rows(found: Compositions) -> tuple[tuple[str, str], ...]:
    """Return what the figures were made with."""
    return (
        *((kind, name) for kind, name in found.instruments.items()),
        ("least certainty of a match", number(found.certainty)),
        ("rate of false findings", percent(found.rate)),
        ("model", found.model),
    )
