"""Reads ``audit.json`` of schema versions 1 and 2, whose discrepancies used the judge's mean probabilities.

Both versions store shares that count most probable groups. Every discrepancy is recomputed from these shares by the
current definition, with interval and p-value; the old figure is kept as ``soft``. The files do not say which image was
steered to which group. The debiased squares of an edited arm therefore subtract up to (1 − Σ p²) / (n − 1) too much;
intervals and p-values do not depend on this.

Changes between arms need the single images and stay empty. Verdicts are kept as they were decided; a note is added if
the gate was on the discrepancy. Version 1 had neither targets nor bounds; its target was always uniform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from audit.measure.discrepancy.fairness import uniform
from audit.measure.discrepancy.samples import Samples
from audit.measure.discrepancy.worst import worst
from audit.measure.inference.multiplicity import benjamini_hochberg
from audit.measure.unclassified.all_images import departure_p_values
from audit.measure.unclassified.bounds import discrepancy_bounds, share_bounds
from audit.records.groups import WorstPrompt
from audit.records.result import SCHEMA_VERSION
from audit.results.groups import PromptSquares, discrepancies, prompt_mean

OLD_VERSIONS = (1, 2)

MOST_GROUPS = 100
"""Upper limit on groups: memory grows with their square, and a file from another party can name any number."""

JUDGED_SOFT = "judged on mean probabilities by the release that made the run, not on counted shares"

Row = dict[str, Any]


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data of version 1 or 2 as plain data of the current version."""
    old = _with_bounds(data) if data["schema_version"] == 1 else data
    results, overall = [dict(row) for row in old["results"]], [dict(row) for row in old["overall"]]
    means = {key: _count_again(rows) for key, rows in _by_attribute(results).items()}
    for key, rows in _by_attribute(overall).items():
        _count_again(rows)
        for row in rows:
            row["mean_over_prompts"], row["worst_prompt"] = means.get(key, (None, None))
    for family in (results, overall):
        _adjust(family)
    changed = {"results": results, "overall": overall, "changes": [], "verdicts": [*map(_verdict, old["verdicts"])]}
    return {**old, **changed, "schema_version": SCHEMA_VERSION}


def _by_attribute(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["attribute"]), []).append(row)
    return found


def _count_again(rows: Sequence[Row]) -> tuple[Row | None, Row | None]:
    """Add counted discrepancies to the rows of one attribute of one arm; return their mean and the worst prompt."""
    measured = [row for row in rows if row["fairness_discrepancy"] and row["n"] > 1]
    soft = np.array([row["fairness_discrepancy"]["plug_in_soft"] for row in measured], dtype=np.float64)
    for row in rows:
        row["fairness_discrepancy"] = None
    if not measured:
        return None, None
    labels, targets = Samples.of_counts([*map(_counts, measured)]), np.array([*map(_target, measured)])
    departures = departure_p_values(labels.counts.astype(np.int64), np.array([*map(_unknown, measured)]), targets, None)
    for row, found, departure in zip(measured, discrepancies(labels, soft, targets), departures.tolist(), strict=True):
        row |= {"fairness_discrepancy": asdict(found), "p_departure": departure}
    farthest = worst(labels, targets)
    prompt = measured[farthest.place].get("prompt_id")
    named = WorstPrompt(str(prompt), farthest.value, farthest.low, farthest.high, farthest.n, len(measured))
    return asdict(prompt_mean(PromptSquares(labels, targets), soft)), asdict(named)


def _counts(row: Mapping[str, Any]) -> list[int]:
    if len(row["shares"]) > MOST_GROUPS:
        raise ValueError(f"expected at most {MOST_GROUPS} groups of an attribute, found {len(row['shares'])}")
    return [round(share["value"] * row["n"]) for share in row["shares"].values()]


def _unknown(row: Mapping[str, Any]) -> int:
    """Return the number of images without a group; they could explain a departure."""
    return int(sum(row["statuses"].values())) - int(row["n"])


def _target(row: Mapping[str, Any]) -> tuple[float, ...]:
    named = row.get("target")
    return tuple(named[group] for group in row["shares"]) if named else uniform(len(row["shares"]))


def _adjust(rows: Sequence[Row]) -> None:
    """Adjust the p-values of each arm for multiple testing."""
    for arm in dict.fromkeys(row["arm"] for row in rows):
        found = [row for row in rows if row["arm"] == arm and row["fairness_discrepancy"]]
        if found:
            adjusted = benjamini_hochberg([row["p_departure"] for row in found])
            for row, p_value in zip(found, adjusted.tolist(), strict=True):
                row["fairness_discrepancy"]["p_adjusted"] = p_value


def _verdict(row: Mapping[str, Any]) -> Row:
    if row.get("measure") != "fairness_discrepancy":
        return dict(row)
    return {**row, "note": "; ".join(filter(None, (row.get("note"), JUDGED_SOFT)))}


def _with_bounds(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data of version 1 with the fields that version 2 added."""
    added: dict[str, list[Any]] = {"changes": [], "shifts": [], "missing": []}
    rows = {name: [{**row, **_bounds(row), "corrected": None} for row in data[name]] for name in ("results", "overall")}
    return {**data, **added, **rows}


def _bounds(row: Mapping[str, Any]) -> Row:
    if not row["fairness_discrepancy"] or row["n"] < 2:
        return {"bounds": {}, "discrepancy_bounds": None}
    counts, target = _counts(row), _target(row)
    shares = zip(row["shares"], share_bounds(counts, row["statuses"]), strict=True)
    return {
        "bounds": {group: asdict(found) for group, found in shares},
        "discrepancy_bounds": asdict(discrepancy_bounds(counts, row["statuses"], target)),
    }
