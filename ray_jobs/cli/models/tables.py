"""The result of a comparison of models: as tables for a terminal, and as plain data for ``--json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table as RichTable

from audit.records.estimates import percent
from audit.storage.outside.safe_text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from audit.results.models.records import ModelComparison
    from audit.storage.place import Place
    from reports.figures.charts import Table

MOST_MISSING = 20
"""Lines about what models lack on a terminal; ``--json`` prints all."""


def comparison_as_data(comparison: ModelComparison) -> dict[str, Any]:
    """Return a comparison as plain data: what ``models.json`` has, without the shares of single occupations."""
    from reports.models.sentences import statements_of, title_of

    data = asdict(comparison)
    del data["shares"]
    statements = [asdict(statement) for statement in statements_of(comparison)]
    return data | {"title": title_of(comparison), "statements": statements}


def show_comparison(comparison: ModelComparison, page: Place | None, console: Console) -> None:
    """Print what is established, the discrepancies with their places, and what they cost."""
    from reports.models.sentences import title_of
    from reports.models.tables import cost_table, discrepancy_table, places_table

    console.print()
    _line(title_of(comparison), console, "bold")
    _show_statements(comparison, console)
    tables = [make(comparison, arm) for arm in comparison.arms for make in (places_table, discrepancy_table)]
    for table in (*tables, cost_table(comparison)):
        console.print()
        console.print(_rich(table))
    _show_missing(comparison, console)
    console.print(
        f"\n{len(comparison.differences):,} differences tested; the probability of any wrong statement is at most "
        f"{percent(comparison.error_rate)}.",
        highlight=False,
    )
    if page is not None:
        console.print(f"Page {page}", markup=False, highlight=False, soft_wrap=True)


def _show_statements(comparison: ModelComparison, console: Console) -> None:
    from reports.models.page import notices_of
    from reports.models.sentences import statements_of

    for notice in notices_of(comparison):
        _line(notice, console, "yellow")
    for statement in statements_of(comparison):
        for sentence in filter(None, (*statement.established, statement.open)):
            _line(f"{statement.attribute}: {sentence}", console)


def _show_missing(comparison: ModelComparison, console: Console) -> None:
    for line in comparison.missing[:MOST_MISSING]:
        _line(line, console, "yellow")
    if len(comparison.missing) > MOST_MISSING:
        console.print(f"… and {len(comparison.missing) - MOST_MISSING:,} more (--json lists all)")


def _rich(table: Table) -> RichTable:
    found = RichTable(
        *map(_cell, table.columns), title=_cell(table.caption), title_justify="left", box=None, header_style="bold",
        pad_edge=False,
    )  # fmt: skip
    for row in table.rows:
        found.add_row(*map(_cell, row))
    return found


def _cell(text: str) -> str:
    """Return a text of a run, which can contain any name, as text that controls neither rich nor a terminal."""
    return escape(printable(text))


def _line(text: str, console: Console, style: str | None = None) -> None:
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)
