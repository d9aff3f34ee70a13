"""Prints a replay: facts that differ, rows by arm, largest differences, verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from audit.results.replay.outcome import REPLAY, REPLAY_ROWS, Replayed
from audit.results.replay.rows import ComparedRows, tolerance_of
from audit.storage.outside.safe_text import printable
from audit.storage.place import Place

FACTS_SHOWN = 30
"""Longest list of facts on a terminal; ``replay.json`` has all."""


def show_replay(found: Replayed, place: Place, console: Console) -> None:
    """Print a replay."""
    for line in _facts(found):
        _print(console, line)
    console.print(_rows(found.compared))
    if found.compared.largest:
        console.print(_largest(found))
    _print(console, found.tolerance_words)
    if found.compared.not_compared:
        _print(console, f"Columns that only one run has: {', '.join(found.compared.not_compared)}")
    part = f" ({found.part})" if found.part else ""
    _print(console, f"\nVerdict: {found.verdict}{part}. {found.reason}")
    if found.verdict == "different":
        _print(console, f"Do the figures change by more than chance? difflens-audit compare RUN {place}")
    _print(console, f"Replay: {place}, {REPLAY} and {REPLAY_ROWS} in it")


def _print(console: Console, line: str) -> None:
    console.print("\n".join(map(printable, line.split("\n"))), highlight=False, markup=False, soft_wrap=True)


def _facts(found: Replayed) -> list[str]:
    facts, unknown = found.facts.changed, found.facts.not_recorded
    head = f"{found.run_id} → {found.replay_id}"
    lines = [head, "", f"Facts that differ ({len(facts)})" if facts else "No recorded fact differs."]
    lines += [f"  {fact.words}" for fact in facts[:FACTS_SHOWN]]
    if len(facts) > FACTS_SHOWN:
        lines.append(f"  … and {len(facts) - FACTS_SHOWN} more ({REPLAY} lists all)")
    if unknown:
        lines.append(f"Not recorded by the first run: {', '.join(unknown)}")
    return [*lines, ""]


def _rows(compared: ComparedRows) -> Table:
    table = Table("arm", box=None, header_style="bold", pad_edge=False)
    for column in ("rows", "identical", "within tolerance", "different", "missing", "extra"):
        table.add_column(column, justify="right")
    for arm in compared.arms:
        counts = [compared.count(result, arm) for result in ("identical", "within", "different", "missing", "extra")]
        table.add_row(printable(arm), *(f"{count:,}" for count in (sum(counts), *counts)))
    table.caption = f"{compared.relabelled:,} rows have another status or another most probable group"
    table.caption_justify = "left"
    return table


def _largest(found: Replayed) -> Table:
    table = Table("column", box=None, header_style="bold", pad_edge=False, title="Largest differences")
    table.title_justify = "left"
    table.add_column("difference", justify="right")
    table.add_column("tolerance", justify="right")
    table.add_column("image")
    for one in found.compared.largest:
        limit = f"{tolerance_of(one.column):g}" if found.tolerant and one.column != "status" else "0"
        arm, prompt, index = one.key
        table.add_row(printable(one.column), f"{one.value:.2g}", limit, printable(f"{prompt} {index} · {arm}"))
    return table
