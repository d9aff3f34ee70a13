"""Charts of compositions: shares of each occupation in company beside those alone."""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.estimates import Estimate
from audit.records.inside.compositions import Company, Compositions
from reports.charts.axis import Axis, Mark
from reports.charts.dumbbell import Row, dumbbell
from reports.charts.svg import Frame
from reports.compositions.tables import company_table
from reports.figures.charts import Figure, Table


def company_figures(found: Compositions) -> Iterator[Figure]:
    """Yield a chart for each attribute: shares of each occupation alone and in company."""
    whole = company_table(found)
    for number, (attribute, groups) in enumerate(found.attributes.items()):
        shown = groups[:1] if len(groups) == 2 else groups
        own = [
            one for one in found.company if one.attribute == attribute and one.group in shown and one.share is not None
        ]
        if not own:
            continue
        caption = f"{attribute.replace('_', ' ')}: shares alone and in company"
        caption += f" of {shown[0]}" if len(shown) == 1 else ""
        rows = [Row(_label(found, one, len(shown) > 1), (_mark(one.alone), _mark(one.share))) for one in own]
        frame = Frame(f"company-{number}", caption, "One row for each occupation of a pair; bars are intervals.")
        svg = dumbbell(frame, Axis("share of persons", 1.0, percent=True), ("alone", "in company"), rows)
        cells = tuple(row for row, one in zip(whole.rows, found.company, strict=False) if one.attribute == attribute)
        yield Figure(f"company-{number}", caption, svg, Table(caption, whole.columns, cells, names=whole.names))


def _label(found: Compositions, one: Company, named: bool) -> str:
    pair = next(pair for pair in found.pairs if pair.pair == one.pair)
    other = pair.second if one.occupation == pair.first else pair.first
    return f"{one.occupation} (with {other})" + (f": {one.group}" if named else "")


def _mark(share: Estimate | None) -> Mark | None:
    return None if share is None else Mark(share.value, share.low, share.high)
