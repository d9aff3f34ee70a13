"""The page of compositions as one HTML file, which needs neither network nor script."""

from __future__ import annotations

import base64

from audit.records.inside.compositions import Compositions
from reports.compositions.charts import company_figures
from reports.compositions.tables import (
    alike_table,
    images_table,
    joint_tables,
    matching_table,
    reversal_table,
    setting_rows,
)
from reports.compositions.words import findings, lead, of_images, warnings
from reports.environment import environment

MOST_PAIRS = 40
"""Pairs whose pictures and joint tables are on the page; all are in the files."""


def render(found: Compositions) -> str:
    """Return the page as one HTML document."""
    known = any(pair.apart for pair in found.pairs)
    context = {
        "found": found,
        "lead": lead(found),
        "findings": findings(found),
        "warnings": warnings(found),
        "images": images_table(found),
        "pairs": tuple(
            (pair, of_images(found, pair), tuple(joint_tables(found, pair)), _pictures(found, pair.pair))
            for pair in found.pairs[:MOST_PAIRS]
        ),
        "left_out": max(0, len(found.pairs) - MOST_PAIRS),
        "reversals": reversal_table(found) if known else None,
        "company": tuple(company_figures(found)),
        "alike": alike_table(found) if known else None,
        "matching": matching_table(found),
        "setting": setting_rows(found),
    }
    return environment().get_template("compositions.html.j2").render(context)


def _pictures(found: Compositions, pair: str) -> tuple[tuple[bytes, str], ...]:
    return tuple((base64.b64decode(one.webp), one.caption) for one in found.pictures[pair])
