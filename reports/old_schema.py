"""Reads ``audit.json`` of version 1: what it did not keep is worked out again from the counts that it did keep.

Version 1 printed plug-in discrepancies without an interval, and every target was uniform. Its counts of most probable
groups give a debiased discrepancy, an interval and a p-value of hard labels; changes between arms and corrected shares
need the single images and stay empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from audit.group_results import prompt_mean
from audit.measure.bounds import discrepancy_bounds, share_bounds
from audit.measure.discrepancy import (
    debiased_squared_of_counts,
    discrepancy_interval_of_counts,
    display,
    parity_p_value,
)
from audit.measure.fairness import uniform


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data of version 1 as plain data of version 2."""
    results = [_row(row) for row in data["results"]]
    squares: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in results:
        if row["fairness_discrepancy"]:
            found = row["fairness_discrepancy"]
            squares[row["arm"], row["attribute"]].append((found["squared"], found["plug_in_soft"]))
    overall = [
        {**_row(row), "mean_over_prompts": _mean(squares[row["arm"], row["attribute"]])} for row in data["overall"]
    ]
    added: dict[str, list[Any]] = {"changes": [], "shifts": [], "missing": []}
    return {**data, **added, "schema_version": 2, "results": results, "overall": overall}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    groups, n = list(row["shares"]), row["n"]
    old = row["fairness_discrepancy"]
    if old is None or n < 2:
        return {**row, "fairness_discrepancy": None, "bounds": {}, "discrepancy_bounds": None, "corrected": None}
    counts = [round(row["shares"][group]["value"] * n) for group in groups]
    target = uniform(len(groups))
    squared = debiased_squared_of_counts(counts, target)
    low, high = discrepancy_interval_of_counts(counts, target)
    p_value = parity_p_value(counts, target)
    bounds = discrepancy_bounds(counts, row["statuses"], target)
    return {
        **row,
        "fairness_discrepancy": {
            **old, "value": display(squared), "squared": squared, "low": low, "high": high,
            "p_parity": p_value, "p_adjusted": p_value,
        },
        "bounds": {
            group: {"low": found.low, "high": found.high}
            for group, found in zip(groups, share_bounds(counts, row["statuses"]), strict=True)
        },
        "discrepancy_bounds": {"low": bounds.low, "high": bounds.high},
        "corrected": None,
    }  # fmt: skip


def _mean(squares: list[tuple[float, float]]) -> dict[str, Any] | None:
    if not squares:
        return None
    squared, plug_ins = zip(*squares, strict=True)
    return asdict(prompt_mean(squared, plug_ins))
