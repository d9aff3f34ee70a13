"""Markdown that reference pages share: tables, and text that cannot break them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTICE = "*This page is generated from the program by `make docs`. Do not edit it.*"


def cell(text: str) -> str:
    """Return ``text`` on one line, safe inside a table cell."""
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def code(text: str) -> str:
    """Return ``text`` as inline code; an empty text stays empty."""
    return f"`{text}`" if text else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, with an empty line after it; none where there are no rows."""
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    if not lines:
        return []
    return [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |", *lines, ""]
