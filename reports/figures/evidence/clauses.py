"""The table of clauses that an audit can be evidence for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.evidence.clauses.clause_map import BUNDLE, clause_map, covered
from reports.figures.charts import Table

MARKS = {"covered": "● covered", "partly covered": "◐ partly covered", "absent": "○ absent"}


def clause_table(audit: Mapping[str, Any]) -> Table:
    """Return a row for each clause, with what a result holds of it and where.

    Args:
        audit: The content of audit.json.
    """
    mapped = clause_map()
    rows = tuple(
        (
            f"{one.clause.source.title} ({one.clause.source.date})",
            one.clause.clause,
            one.clause.asks,
            MARKS[one.coverage],
            ", ".join(path.removeprefix(BUNDLE) for path in one.found),
        )
        for one in covered(mapped, audit)
    )
    caption = f"Clauses that this audit is usable as evidence for (map {mapped.version} of {mapped.dated})"
    return Table(caption, ("text", "clause", "asks for", "here", "where"), rows, names=5)
