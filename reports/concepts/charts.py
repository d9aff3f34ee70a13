"""Charts of concepts over time: how well the final layout is predicted, step by step."""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.estimates import Estimate
from audit.records.inside.concepts import Concepts, LayoutFigures
from reports.charts.axis import Mark
from reports.charts.svg import Frame
from reports.charts.timeline import Moment, timeline
from reports.figures.charts import Figure, Table
from reports.words.formats import figure_text

READERS = {
    "prior": "mean mask",
    "prompt": "mean mask of the prompt",
    "forecast": "predicted image",
    "concepts": "concepts alone",
    "placed": "concepts at their place",
    "probe": "linear probe",
}
"""Reader → its name on the page."""

_DRAWN = ("prior", "forecast", "placed", "probe")
_CONDITIONAL = "conditional"


def layout_figures(found: Concepts) -> Iterator[Figure]:
    """Yield a chart of the conditional half for each block."""
    for number, block in enumerate(found.blocks):
        prior = found.curve("prior")[0]
        curves = {reader: {one.step: one for one in _curve(found, reader, block)} for reader in READERS}
        moments = [
            Moment(
                label=str(step),
                place=step / max(1, found.steps[-1]),
                marks=tuple(_mark(curves[reader].get(step, prior)) for reader in _DRAWN),
            )
            for step in found.steps
        ]
        caption = f"Update of {block}: how well the finished layout is predicted at each recorded step"
        frame = Frame(
            f"layout-{number}", caption, "Mean over parts of the intersection over union; bars are intervals."
        )
        svg = timeline(frame, "mean intersection over union, by step", [READERS[one] for one in _DRAWN], moments)
        rows = tuple(
            (str(step), *(_text(curves[reader].get(step) or _constant(found, reader)) for reader in READERS))
            for step in found.steps
        )
        table = Table(caption, ("step", *READERS.values()), rows)
        yield Figure(f"layout-{number}", caption, svg, table)


def _curve(found: Concepts, reader: str, block: str) -> tuple[LayoutFigures, ...]:
    if reader in ("prior", "prompt", "forecast"):
        return found.curve(reader)
    return found.curve(reader, block, _CONDITIONAL)


def _constant(found: Concepts, reader: str) -> LayoutFigures | None:
    """Return the figure of a reader that is the same at all steps; None for the others."""
    return next((one for one in found.layout if one.reader == reader and one.step < 0), None)


def _mark(figure: LayoutFigures) -> Mark:
    estimate: Estimate = figure.mean
    return Mark(estimate.value, estimate.low, estimate.high)


def _text(figure: LayoutFigures | None) -> str:
    return "–" if figure is None else figure_text(figure.mean)
