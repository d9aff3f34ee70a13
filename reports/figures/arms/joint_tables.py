"""Tables of arms with a target of their own: the distribution of the steered attributes beside this target."""

from __future__ import annotations

from audit.records.arms.joint import JointResult
from audit.records.estimates import NBSP, percent
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import THESE, figure_text, number


def joint_tables(story: Story) -> tuple[Table, ...]:
    """Return two tables for each arm with a target of its own: the distance, and the shares."""
    found: dict[str, list[JointResult]] = {}
    for one in story.result.joint:
        if one.prompt_id is None and one.n:
            found.setdefault(one.target_of, []).append(one)
    return tuple(table for arm, own in found.items() for table in (_distances(arm, own), _shares(arm, own)))


def _distances(arm: str, found: list[JointResult]) -> Table:
    names = found[0].attributes
    rows = tuple(
        (
            one.arm,
            figure_text(one.total_variation) if one.total_variation else number(one.plug_in),
            number(one.expected_at_target),
            *(percent(one.shown[name]) if name in one.shown else "–" for name in names),
            str(one.n),
        )
        for one in found
    )
    caption = (
        f"{arm}: total variation between the shares and the arm's target, all occupations pooled (95{NBSP}% "
        f"intervals about {THESE}), and images that show the group that they are steered to"
    )
    shown = (f"{label(name)} as steered" for name in names)
    return Table(caption, ("Arm", "Total variation", "On target, by chance", *shown, "n"), rows, names=1)


def _shares(arm: str, found: list[JointResult]) -> Table:
    rows = tuple(
        (" and ".join(map(label, cells[0].groups)), percent(cells[0].target), *(percent(cell.share) for cell in cells))
        for cells in zip(*(one.cells for one in found), strict=True)
    )
    kind = "Combination" if len(found[0].attributes) > 1 else "Group"
    columns = (kind, "Target", *(one.arm for one in found))
    return Table(f"{arm}: shares, all occupations pooled", columns, rows, names=1)
