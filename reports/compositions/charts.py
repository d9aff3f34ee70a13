"""Charts of compositions: shares of each occupation in company beside those alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from audit.records.estimates import Estimate
from audit.records.inside.compositions import Company, Compositions
from reports.charts.axis import Axis, Mark
from reports.charts.dumbbell import Row, dumbbell
from reports.charts.svg import Frame
from reports.compositions.tables import company_table, cut_note
from reports.figures.charts import Figure

MOST_ROWS = 60
"""Rows of a chart; the files have all."""


def company_figures(found: Compositions) -> Iterator[Figure]:
    """Yield a chart for each group, of an attribute with two groups for the first one."""
    for attribute, groups in found.attributes.items():
        for group in groups[:1] if len(groups) == 2 else groups:
            own = [one for one in found.company if (one.attribute, one.group) == (attribute, group)]
            own.sort(key=lambda one: not one.found)  # what is found is never cut while another row is shown
            if any(one.share is not None for one in own):
                yield _figure(found, f"{attribute.replace('_', ' ')}: share perceived as {group}", own)


def _figure(found: Compositions, title: str, own: Sequence[Company]) -> Figure:
    shown = own[:MOST_ROWS]
    key = "company-" + re.sub(r"[^a-z0-9]+", "-", title.lower())
    rows = [Row(_label(found, one), (_mark(one.alone), _mark(one.share))) for one in shown]
    frame = Frame(key, f"{title}, alone and in company", "One row for each occupation of a pair; bars are intervals.")
    svg = dumbbell(frame, Axis("share of persons", 1.0, percent=True), ("alone", "in company"), rows)
    return Figure(key, f"{frame.title}{cut_note(len(own), MOST_ROWS)}", svg, company_table(found, shown))


def _label(found: Compositions, one: Company) -> str:
    pair = next(pair for pair in found.pairs if pair.pair == one.pair)
    other = pair.second if one.occupation == pair.first else pair.first
    return f"{one.occupation} (with {other})"


def _mark(share: Estimate | None) -> Mark | None:
    return None if share is None else Mark(share.value, share.low, share.high)
