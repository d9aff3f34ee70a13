"""Pictures of an exploration as charts and tables: scores on axes, and the prompts nearest to each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import fields

from audit.records.inside.exploration import Exploration
from audit.records.inside.read_pictures import Near, PictureScore, ReadPictures
from reports.charts.axis import Mark
from reports.charts.prompts.ranking import Ends, Ranked, ranking
from reports.charts.svg import Frame
from reports.figures.charts import Figure, Table
from reports.words.formats import interval, number

SHOWN_AT_EACH_END = 20
"""Pictures at each end of a chart; all are in the CSV."""

_NEAR = 3
_SHOWN = 200


def picture_lead(given: ReadPictures) -> str:
    """Say how many pictures were read, and at which noise level."""
    pictures = len(given.agreement)
    return (
        f"{pictures} picture{'s' * (pictures != 1)}, noised to the level of step {given.step} and read under the "
        f"neutral prompt. The model's own images: {given.images} of the neutral prompt and of each end of an axis."
    )


def picture_figures(found: Exploration, given: ReadPictures) -> Iterator[Figure]:
    """Yield a chart for each axis."""
    ends = {axis.name: axis for axis in found.axes}
    for place, axis in enumerate(given.axes):
        rows, of = given.of_axis(axis.name), ends[axis.name]
        few = len(rows) <= 2 * SHOWN_AT_EACH_END
        shown = rows if few else (*rows[:SHOWN_AT_EACH_END], *rows[-SHOWN_AT_EACH_END:])
        caption = f"Pictures on {axis.name}: from images of “{of.low}” to images of “{of.high}”"
        caption += "" if few else f", the {SHOWN_AT_EACH_END} at each end of {len(rows)}"
        frame = Frame(f"pictures-{place}", caption, "One row per picture, with its interval.")
        marks = [Ranked(one.picture, Mark(one.value, one.low, one.high)) for one in shown]
        svg = ranking(frame, Ends(of.low, of.high, 0.0, "middle of both ends"), marks)
        cells = tuple((one.picture, number(one.value), interval(one.low, one.high)) for one in shown)
        yield Figure(f"pictures-{place}", caption, svg, Table(caption, ("picture", "score", "95 % interval"), cells))


def axes_table(given: ReadPictures) -> Table:
    """Return how well each axis separates the model's own images of its ends."""
    rows = tuple((one.name, number(one.area), interval(one.low, one.high)) for one in given.axes)
    columns = ("axis", "area under the curve", "95 % interval")
    return Table(f"How well axes separate {given.images} of the model's own images of each end", columns, rows)


def nearest_table(given: ReadPictures) -> Table:
    """Return the nearest prompts and descriptors of each picture."""
    rows = tuple(
        (name, _listed(given.prompts[name]), _listed(given.descriptors[name]), number(agreement))
        for name, agreement in given.agreement.items()
    )
    columns = (
        "picture",
        "nearest prompts (cosine)",
        "nearest descriptors (cosine)",
        "agreement of halves of the seeds",
    )
    return Table("Nearest texts of each picture", columns, rows[:_SHOWN], names=3)


def picture_warnings(given: ReadPictures | None) -> tuple[str, ...]:
    """Say on which axes pictures cannot be placed."""
    return tuple(
        f"On {one.name}, the axis does not separate the model's own images of its ends (area under the curve "
        f"{number(one.area)}, 95 % interval {number(one.low)} to {number(one.high)}): scores of pictures mean nothing "
        "there. Read another hookpoint or explore.pictures.step."
        for one in (given.axes if given is not None else ())
        if one.low <= 0.5
    )


def pictures_csv(given: ReadPictures) -> str:
    """Return a row for each picture and axis, with the nearest prompt."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [field.name for field in fields(PictureScore)]
    writer.writerow([*columns, "nearest_prompt", "cosine", "agreement"])
    for one in given.scores:
        near = given.prompts[one.picture][:1]
        nearest = (near[0].name, near[0].cosine) if near else ("", "")
        writer.writerow([*(getattr(one, name) for name in columns), *nearest, given.agreement[one.picture]])
    return text.getvalue()


def _listed(near: tuple[Near, ...]) -> str:
    return ", ".join(f"{one.name} ({number(one.cosine)})" for one in near[:_NEAR]) or "–"
