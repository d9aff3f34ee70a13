"""The outcome of a replay: whether the rows are the same, within which tolerance, and why not."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from audit.results.replay.facts import Facts, Origin, changed_facts
from audit.results.replay.recorded import RecordedRun
from audit.results.replay.rows import TOLERANCES, ComparedRows, as_table_row, compare_rows

Verdict = Literal["identical", "same within tolerance", "different"]

REPLAY, REPLAY_ROWS = "replay.json", "replay.csv"
"""Files of the replay in its run directory: the outcome, and one line for each row."""

REPLAY_FORMAT = 1

ROWS_LISTED = 100
"""Longest list of rows in ``replay.json``; ``replay.csv`` has all."""


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay.

    Attributes:
        run_id: The first run.
        replay_id: The run that was made again.
        facts: The facts in which they differ.
        compared: Their rows.
        tolerant: Whether a tolerance applies.
        part: What was made again, in words; empty for the whole run.
    """

    run_id: str
    replay_id: str
    facts: Facts
    compared: ComparedRows
    tolerant: bool
    part: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether the rows are the same."""
        total, identical = len(self.compared.rows), self.compared.count("identical")
        if total and identical == total:
            return "identical"
        same = identical + self.compared.count("within")
        return "same within tolerance" if self.tolerant and total and same == total else "different"

    @property
    def tolerance_words(self) -> str:
        """Which tolerance applies, and why."""
        if not self.tolerant:
            why = (
                "weights, files or settings differ" if self.facts.of("input") else "hardware and versions are the same"
            )
            return f"No tolerance: {why}, so rows must be identical."
        limits = ", ".join(f"{name} {value:g}" for name, value in TOLERANCES.items())
        return f"Tolerance: {limits}. Reason: {', '.join(fact.name for fact in self.facts.of('surroundings'))} differ."

    @property
    def reason(self) -> str:
        """Why the verdict is so, in one sentence."""
        if self.verdict == "identical":
            return "Every row is the same, bit for bit."
        inputs, around = self.facts.of("input"), self.facts.of("surroundings")
        if self.verdict == "same within tolerance":
            return f"Numbers are rounded otherwise: {'; '.join(fact.words for fact in around)}."
        explained = inputs or around or self.facts.of("made")
        if explained:
            return f"Explained by: {'; '.join(fact.words for fact in explained)}."
        return "No recorded fact differs. Something that is not recorded does, or a computation is not deterministic."

    def as_data(self) -> dict[str, Any]:
        """Return the outcome as plain data, with the first rows that differ."""
        rows, changed = self.compared.rows, [row for row in self.compared.rows if row.result != "identical"]
        counts = {name: self.compared.count(name) for name in ("identical", "within", "different", "missing", "extra")}
        return {
            "format_version": REPLAY_FORMAT,
            "run": self.run_id,
            "replay": self.replay_id,
            "part": self.part,
            "verdict": self.verdict,
            "reason": self.reason,
            "facts": [asdict(fact) | {"words": fact.words} for fact in self.facts.changed],
            "not_recorded": list(self.facts.not_recorded),
            "tolerances": dict(TOLERANCES) if self.tolerant else None,
            "rows": {"total": len(rows), **counts, "relabelled": self.compared.relabelled},
            "largest": [asdict(one) | {"key": list(one.key)} for one in self.compared.largest],
            "columns_not_compared": list(self.compared.not_compared),
            "changed_rows": [as_table_row(row) for row in changed[:ROWS_LISTED]],
            "changed_rows_left_out": max(0, len(changed) - ROWS_LISTED),
        }

    def rows_as_csv(self) -> str:
        """Return all rows as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*as_table_row(self.compared.rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(as_table_row, self.compared.rows))
        return text.getvalue()


def replayed(
    was: RecordedRun, rows: pa.Table, here: RecordedRun, config: Mapping[str, Any], part: str = ""
) -> Replayed:
    """Compare a run with its replay.

    Args:
        was: The first run.
        rows: Its rows that were to be made again.
        here: The replay.
        config: The config of the replay, as plain data, before a part was chosen.
        part: Which part was made again, in words; empty for the whole run.
    """
    facts = changed_facts(Origin(was.config, was.provenance), Origin(config, here.provenance))
    tolerant = bool(facts.of("surroundings")) and not facts.of("input")
    compared = compare_rows(rows, here.rows, was.attributes, tolerant=tolerant)
    return Replayed(was.run_id, here.run_id, facts, compared, tolerant, part)
