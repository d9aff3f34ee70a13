"""Tables of how far the edits of each arm leave what the model makes without them."""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.arms.off_path import Measured, OffPath, PairedFigure
from audit.records.estimates import NBSP, percent
from reports.figures.charts import Table
from reports.index.story import Story
from reports.words.formats import THESE, figure_text, number, share_text

COLUMNS = ("Arm", "Figure", "Baseline", "Edited", "Change")


def off_path_tables(story: Story) -> tuple[Table, ...]:
    """Return the figures of all edited arms, and those by step; empty tables are left out."""
    found = story.result.off_path
    caption = f"How far edits leave what the model makes without them (95{NBSP}% intervals about {THESE})"
    figures = Table(caption, COLUMNS, tuple(row for one in found for row in _rows(one)), names=2)
    return tuple(table for table in (figures, _by_step(found)) if table.rows)


def _rows(one: OffPath) -> Iterator[tuple[str, ...]]:
    inside = one.activations
    if inside is None:
        yield (one.arm, "Activations", f"not measured: {one.activations_status}", "–", "–")
    else:
        at = f" at {inside.places}" if len(inside.places) <= 60 else ""
        yield (one.arm, *_figure(f"Distance of activations{at}", inside.distance))
        components = f"Energy outside {inside.components:.0f} components ({percent(inside.explained)} of the variance)"
        yield (one.arm, *_figure(components, inside.outside))
    if one.unlike_prompt is None and one.unlike_all is None:
        yield (one.arm, "Images unlike the baseline's", f"not measured: {one.images_status}", "–", "–")
    for title, figure in (
        ("Images unlike all baseline images of the prompt", one.unlike_prompt),
        ("Images unlike all baseline images", one.unlike_all),
    ):
        if figure is not None:
            yield (one.arm, *_figure(title, figure, share=True))
    lost = one.face_lost
    text = f"not measured: {one.face_status}" if lost is None else share_text(lost)
    yield (one.arm, "Faces lost" if lost is None else f"Faces lost, {_n(lost.n)}", "–", text, "–")


def _figure(title: str, figure: PairedFigure, *, share: bool = False) -> tuple[str, str, str, str]:
    text = share_text if share else figure_text
    return f"{title}, {_n(figure.change.n)}", text(figure.before), text(figure.after), text(figure.change)


def _n(images: int) -> str:
    return f"n{NBSP}={NBSP}{images}"


def _by_step(found: tuple[OffPath, ...]) -> Table:
    rows = tuple(
        (
            one.arm,
            str(step.step + 1),
            *map(number, (step.distance_before, step.distance_after, step.outside_before, step.outside_after)),
        )
        for one in found
        if one.activations_status is Measured.MEASURED and one.activations is not None
        for step in one.activations.by_step
    )
    columns = ("Arm", "Step", "Distance, baseline", "Distance, edited", "Outside, baseline", "Outside, edited")
    return Table(
        "Distance of activations by sampler step: means over the images of the table above, without intervals",
        columns,
        rows,
        names=2,
    )
