"""The clauses that an audit can be evidence for, a table for each text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.evidence.clauses.clause_map import BUNDLE, Covered, clause_map, covered
from reports.figures.charts import Table

MARKS = {"covered": "● covered", "partly covered": "◐ partly covered", "absent": "○ absent"}


def clause_tables(audit: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return a table for each text with a row for each of its clauses: what the result holds of it, and where.

    Args:
        audit: The content of audit.json.
    """
    rows = covered(clause_map(), audit)
    sources = tuple(dict.fromkeys(one.clause.source for one in rows))
    return tuple(
        Table(
            f"{source.title} ({source.date}; read for this map: {source.basis})",
            ("here", "clause", "asks for", "where"),
            tuple(_row(one) for one in rows if one.clause.source == source),
            names=4,
        )
        for source in sources
    )


def map_words() -> str:
    """Say which map the tables are from."""
    mapped = clause_map()
    return f"Map of clauses: version {mapped.version} of {mapped.dated}."


def _row(one: Covered) -> tuple[str, ...]:
    where = ", ".join(path.removeprefix(BUNDLE) for path in one.found)
    return MARKS[one.coverage], one.clause.clause, one.clause.asks, where
