"""Tables of evidence behind the figures: tests, paired changes, bounds, corrections for the judge's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from audit.records.changes import GroupChange
from audit.records.estimates import NBSP, Range, percent
from audit.records.groups import FINDING_LEVEL, GroupResult
from audit.records.opinions import JudgeAgreement, SecondView
from reports.figures.charts import Table
from reports.index.settings import edited_by
from reports.index.story import Story, label
from reports.words.formats import THESE, figure_text, number, p_value, share_text

MOST_LISTED = 300
"""Rows in a table of single occupations; the exported files list all of them."""


def findings_table(story: Story) -> Table:
    """Occupations whose groups depart from the target by more than chance, the clearest first."""
    found = sorted(
        (row for row in story.result.results if row.is_finding),
        key=lambda row: (row.fairness_discrepancy.p_adjusted if row.fairness_discrepancy else 1.0, row.prompt_id or ""),
    )
    views = _views(story)
    rows = tuple((*_finding(story, row), *_seen_by_others(row, views)) for row in found[:MOST_LISTED])
    more = f", the {MOST_LISTED} clearest of {len(found)}; all are in results.csv" if len(found) > MOST_LISTED else ""
    caption = f"Departures from the target, adjusted p at most {FINDING_LEVEL} (Benjamini and Hochberg, per arm){more}"
    columns = ("Occupation", "Arm", "Attribute", "Most above target", "Discrepancy, counted", "p", "Adjusted p", "n")
    return Table(caption, (*columns, "Second opinion") if views else columns, rows, names=4)


def agreement_table(story: Story) -> Table | None:
    """Agreement between the second judges and the deciding judge; None without a second judge."""
    rows = tuple(_agreement(row) for row in story.result.agreement)
    columns = ("Second judge", "Arm", "Attribute", "Same group", "Kappa", "n")
    return Table("Images in which both judges see the same group", columns, rows, names=3) if rows else None


def contradicted(story: Story) -> int:
    """Count the findings whose skew at least one second judge sees in the opposite direction."""
    opposite = (view for view in story.result.second_views if view.direction == "opposite")
    return len({(view.prompt_id, view.arm, view.attribute) for view in opposite})


def change_table(story: Story) -> Table:
    """Paired change of the squared discrepancy in every occupation, the mean over occupations first.

    Lists at most ``MOST_LISTED`` occupations, those with the clearest change.
    """
    single = [change for change in story.result.changes if change.prompt_id is not None]
    clearest = {id(change) for change in sorted(single, key=lambda change: change.squared.p_value)[:MOST_LISTED]}
    means = [change for change in story.result.changes if change.prompt_id is None]
    ordered = [*means, *(change for change in single if id(change) in clearest)]
    more = f", the {MOST_LISTED} clearest of {len(single)}; all are in audit.json" if len(single) > MOST_LISTED else ""
    caption = (
        f"Change of the squared discrepancy (counted shares) from the baseline, paired by image (95{NBSP}% intervals "
        f"about {THESE}){more}"
    )
    columns = ("Occupation", "Arm", "Attribute", "Change", "p", "Pairs")
    return Table(caption, columns, tuple(_change(story, change) for change in ordered), names=3)


def shift_table(story: Story) -> Table:
    """Shift of each attribute in each arm, with the shift that chance alone explains."""
    edited = {(arm, name) for arm, own in edited_by(story.result).items() for name in own}
    rows = tuple(
        (
            shift.arm,
            f"{label(shift.attribute)} (edited)" if (shift.arm, shift.attribute) in edited else label(shift.attribute),
            figure_text(shift),
            number(shift.floor),
            p_value(shift.p_value),
            str(shift.prompts),
        )
        for shift in story.result.shifts
    )
    columns = ("Arm", "Attribute", "Moved", "By chance alone", "p", "Occupations")
    caption = (
        f"Mean over occupations of the total variation between the arms' shares (95{NBSP}% intervals about {THESE}, "
        "after subtraction of the shift by chance)"
    )
    return Table(caption, columns, rows, names=2)


def bounds_table(story: Story) -> Table | None:
    """Worst-case bounds over what the unclassified images could show; None if every image was classified."""
    rows = tuple(_bounds_row(row) for row in story.result.overall if row.n < sum(row.statuses.values()))
    if not rows:
        return None
    columns = ("Arm", "Attribute", "Unclassified", "Shares, all cases", "Discrepancy, all cases")
    return Table("Bounds over all images, classified or not", columns, rows, names=2)


def corrected_table(story: Story) -> Table | None:
    """Perceived and corrected shares of every arm; None without a confusion matrix."""
    rows = tuple(cells for row in story.result.overall for cells in _corrected_rows(row))
    columns = ("Arm", "Attribute", "Group", "As perceived", "Corrected", "Judge's accuracy")
    return Table("Shares corrected for the judge's own errors", columns, rows, names=3) if rows else None


def uncorrected(story: Story) -> tuple[str, ...]:
    """Attributes whose figures are not corrected, since the judge's errors are not known."""
    rows = (row for row in story.result.overall if row.corrected is None and row.shares and not row.uncorrectable)
    return tuple(dict.fromkeys(label(row.attribute) for row in rows))


def uncorrectable(story: Story) -> tuple[str, ...]:
    """Attributes that cannot be corrected, since the judge confuses their groups too often."""
    return tuple(dict.fromkeys(label(row.attribute) for row in story.result.overall if row.uncorrectable))


def _finding(story: Story, row: GroupResult) -> tuple[str, ...]:
    discrepancy = row.fairness_discrepancy
    group = row.most_above_target
    share = f"{percent(row.judged_shares[group].value)}{' corrected' if row.corrected else ''}"
    p_own = row.p_departure if row.p_departure is not None or discrepancy is None else discrepancy.p_parity
    return (
        story.occupation(row.prompt_id) if row.prompt_id else "all",
        row.arm,
        label(row.attribute),
        f"{label(group)} {share}, target {percent(row.target[group])}",
        figure_text(discrepancy),
        p_value(p_own),
        p_value(discrepancy.p_adjusted if discrepancy else None),
        str(row.n),
    )


Views = Mapping[tuple[str | None, str, str], Sequence[SecondView]]
"""(prompt id, arm, attribute) → what the second judges see in this finding."""


def _views(story: Story) -> Views:
    views: dict[tuple[str | None, str, str], list[SecondView]] = {}
    for view in story.result.second_views:
        views.setdefault((view.prompt_id, view.arm, view.attribute), []).append(view)
    return views


def _seen_by_others(row: GroupResult, views: Views) -> tuple[str, ...]:
    """Return one cell with the second judges' views of a finding; no cell without second judges."""
    if not views:
        return ()
    return ("; ".join(map(_view, views.get((row.prompt_id, row.arm, row.attribute), ()))) or "not asked",)


def _view(view: SecondView) -> str:
    mark = {"same": "✓ same", "unclear": "? unclear", "opposite": "⚠ opposite"}[view.direction]
    share = share_text(view.share) if view.share else "no common image"
    return f"{mark}: {view.judge} sees {label(view.group)} {share}"


def _agreement(row: JudgeAgreement) -> tuple[str, ...]:
    kappa = figure_text(row.kappa) if row.kappa else "undefined"
    same = share_text(row.share) if row.share else "no common image"
    return row.judge, row.arm, label(row.attribute), same, kappa, str(row.n)


def _change(story: Story, change: GroupChange) -> tuple[str, ...]:
    subject = "mean over occupations" if change.prompt_id is None else story.occupation(change.prompt_id)
    size = f"{change.n}{NBSP}occupations" if change.prompt_id is None else str(change.n)
    squared = change.squared
    return subject, change.arm, label(change.attribute), figure_text(squared), p_value(squared.p_value), size


def _bounds_row(row: GroupResult) -> tuple[str, ...]:
    total = sum(row.statuses.values())
    shares = ", ".join(f"{label(group)} {_percents(found)}" for group, found in row.bounds.items())
    bounds = row.discrepancy_bounds
    worst = f"{number(bounds.low)} to {number(bounds.high)}" if bounds else "–"
    return row.arm, label(row.attribute), percent((total - row.n) / total), shares, worst


def _percents(bounds: Range) -> str:
    return f"{100 * bounds.low:.0f} to {percent(bounds.high)}"


def _corrected_rows(row: GroupResult) -> Iterator[tuple[str, ...]]:
    if row.corrected is None:
        return
    for group, raw in row.shares.items():
        corrected = row.corrected.shares[group]
        accuracy = percent(row.corrected.accuracy.value)
        yield row.arm, label(row.attribute), label(group), share_text(raw), share_text(corrected), accuracy
