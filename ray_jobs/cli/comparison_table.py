"""The result of a comparison of two runs: as lines for a terminal, and as plain data for ``--json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from audit.records.estimates import percent
from reports.words.formats import p_value

if TYPE_CHECKING:
    from audit.results.comparison.differences import Difference
    from audit.results.comparison.records import Cell, Comparison, Finding, Judgement, Place

LINES_SHOWN = 20
"""Longest list of one kind on a terminal; ``--json`` prints all."""

_LONGEST_VALUE = 60

VERDICTS: dict[str, Judgement] = {"Worse": "worse", "Better": "better", "Changed shares": "changed"}
CHANGES: dict[str, Judgement] = {
    "Further from the target, or more without a group": "worse",
    "Nearer to the target, or fewer without a group": "better",
    "Changed shares": "changed",
}
"""Titles if the runs' conditions differ: changes are reported, but not judged as better or worse."""


def comparison_as_data(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data, with every cell and finding as a flat record."""
    data = asdict(comparison)
    for name in ("cells", "findings"):
        data[name] = [row.pop("place") | row for row in data[name]]
    return {**data, "same_config": comparison.same_config, "worse": len(comparison.judged("worse"))}


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the comparison as lines: inputs first, then results, then what could not be compared."""
    return [
        f"{comparison.runs[0]} → {comparison.runs[1]}",
        "",
        *_inputs(comparison),
        *_other_definition(comparison),
        "",
        *_outcome(comparison),
        *_list("Changed verdicts", [_difference(change) for change in comparison.verdicts]),
        *_list("New findings", [_finding(row) for row in comparison.findings if row.kind == "new"]),
        *_list("Vanished findings", [_finding(row) for row in comparison.findings if row.kind == "vanished"]),
        *_list("Not compared", comparison.not_compared),
        *_list("Missing in a run", comparison.missing),
    ]


def _inputs(comparison: Comparison) -> Iterator[str]:
    if comparison.inputs:
        yield from _list("Changed inputs", [_difference(change) for change in comparison.inputs], gap=False)
    elif comparison.unknown_weights:
        yield "Same inputs: endpoint, instruments and versions. Weights behind an endpoint are unknown."
    else:
        yield "Same inputs: weights, instruments, lens and versions."
    if comparison.same_config:
        yield f"Same config ({comparison.config_hashes[0]})."
    else:
        yield from _list("Changed config", [_difference(change) for change in comparison.config], gap=False)
    if comparison.other_conditions:
        # then changes are not judged as better or worse: see CHANGES
        names = ", ".join(change.path for change in comparison.other_conditions)
        yield f"  {names}: the runs have different conditions, so the changes below may not be due to the model."
    if comparison.targets:
        yield from _list("Other targets", [_difference(change) for change in comparison.targets], gap=False)
        yield f"  Below, both runs are compared with the targets of {comparison.runs[1]}."


def _other_definition(comparison: Comparison) -> Iterator[str]:
    soft = comparison.of_mean_probabilities
    if soft[0] != soft[1]:
        own = comparison.runs[soft.index(True)]
        yield f"{own} stores fairness discrepancies of mean probabilities (schema version 2 or older)."
        yield "  Below, the discrepancies of both runs are computed from their images in the same way."


def _outcome(comparison: Comparison) -> Iterator[str]:
    cells, rate = comparison.cells, percent(comparison.error_rate)
    pairs = sum(cell.paired for cell in cells)
    how = "by pairs of images" if pairs == len(cells) else "as two samples" if not pairs else "by pairs where possible"
    yield f"{len(cells):,} figures compared {how}; of the changes listed, at most {rate} are expected to be false."
    names = CHANGES if comparison.other_conditions else VERDICTS
    for title, judgement in names.items():
        yield from _list(title, [_cell(cell) for cell in comparison.judged(judgement)])
    if all(cell.judgement == "none" for cell in cells):
        yield "No figure changed by more than chance."


def _list(title: str, lines: Sequence[str], gap: bool = True) -> Iterable[str]:
    if not lines:
        return []
    more = len(lines) - LINES_SHOWN
    rest = [f"  … and {more:,} more (--json lists all)"] if more > 0 else []
    return [*([""] if gap else []), f"{title} ({len(lines):,})", *(f"  {line}" for line in lines[:LINES_SHOWN]), *rest]


def _cell(cell: Cell) -> str:
    if cell.figure == "squared_discrepancy":
        name, values = "squared discrepancy", f"{cell.first:z.3f} → {cell.second:z.3f}"
        change = f"{cell.change.value:+z.3f} [{cell.change.low:+z.3f}, {cell.change.high:+z.3f}]"
    else:
        name, values = cell.group or "no group perceived", f"{percent(cell.first)} → {percent(cell.second)}"
        low, high = 100 * cell.change.low, 100 * cell.change.high
        change = f"{100 * cell.change.value:+z.0f} [{low:+z.0f}, {high:+z.0f}] points"
    return f"{_place(cell.place)}: {name} {values}, {change}, adjusted p {p_value(cell.adjusted_p_value)}"


def _finding(row: Finding) -> str:
    first, second = map(p_value, row.p_values)
    return f"{_place(row.place)}: p of parity {first} → {second}"


def _place(place: Place) -> str:
    prompt = "mean over prompts" if place.prompt_id is None else place.prompt_id
    return " · ".join(filter(None, (prompt, place.arm, place.attribute)))


def _difference(change: Difference) -> str:
    return f"{change.path}: {_value(change.first)} → {_value(change.second)}"


def _value(value: Any) -> str:  # noqa: ANN401 - JSON values
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
