"""Writes the impact ratios of all groups and combinations as CSV: one line per arm, prompt and group."""

from __future__ import annotations

import csv
import io

from audit.records.result import AuditResult
from reports.export.audit_json import inert
from reports.figures.evidence.impact_ratios import impact_ratios

COLUMNS = (
    "prompt_id", "arm", "attribute_1", "group_1", "attribute_2", "group_2", "count", "classified", "unknown",
    "share", "share_low", "share_high", "left_out", "impact_ratio", "impact_ratio_low", "impact_ratio_high",
)  # fmt: skip
"""Lines over all prompts have no prompt id; lines of one attribute have no second attribute and group."""


def impact_ratios_to_csv(result: AuditResult) -> str:
    """Return one line per group and combination; an impact ratio that is left out is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in impact_ratios(result):
        attributes, groups = map(inert, one.attributes), map(inert, one.groups)
        named = [part for pair in zip(attributes, groups, strict=True) for part in pair]
        ratio = ("", "", "") if one.ratio is None else (one.ratio.value, one.ratio.low, one.ratio.high)
        writer.writerow(
            [
                inert(one.prompt_id or ""),
                inert(one.arm),
                *[*named, "", ""][:4],
                *(one.count, one.share.n, one.unknown, one.share.value, one.share.low, one.share.high),
                str(one.left_out).lower(),
                *ratio,
            ]
        )
    return text.getvalue()
