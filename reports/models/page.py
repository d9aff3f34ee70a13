"""The page of a comparison of models as one HTML file, which needs neither network nor script."""

from __future__ import annotations

from dataclasses import dataclass

from audit.records.estimates import exact_percent, percent
from audit.records.work import BASELINE
from audit.results.models.difference_tests import FAMILIES
from audit.results.models.places import LEAST_IMAGES
from audit.results.models.records import ModelComparison
from reports.environment import environment
from reports.figures.charts import Figure, Table
from reports.models.charts import discrepancy_figure, share_figures
from reports.models.sentences import Statement, statements_of, title_of
from reports.models.tables import (
    cost_table,
    discrepancy_table,
    places_table,
    quality_table,
    share_differences_table,
    shares_table,
    worst_table,
)


@dataclass(frozen=True)
class ArmSection:
    """What the page shows of one arm.

    Attributes:
        id: Key, unique in the page.
        name: The arm.
        statements: What is established.
        tables: Its tables, of which the first has places.
        shares: Charts of shares with their tables.
        share_tables: Tables of shares, if there are too many models for charts.
        quality: Quality figures.
    """

    id: str
    name: str
    statements: tuple[Statement, ...]
    tables: tuple[Table, ...]
    shares: tuple[Figure, ...]
    share_tables: tuple[Table, ...]
    quality: Table


def render(comparison: ModelComparison, *, linked: bool = True) -> str:
    """Return the page as one HTML document.

    Args:
        comparison: The comparison.
        linked: Whether the page is two levels below the directory of the runs, so that links to their reports work.
    """
    sections = [_section(comparison, arm, number) for number, arm in enumerate(comparison.arms)]
    means = sum(d.group is None for d in comparison.differences)
    context = {
        "comparison": comparison,
        "linked": linked,
        "title": title_of(comparison),
        "statements": statements_of(comparison),
        "hero": discrepancy_figure(comparison, BASELINE, "means"),
        "places": places_table(comparison, BASELINE),
        "notices": notices_of(comparison),
        "sections": sections,
        "cost": cost_table(comparison),
        "least": LEAST_IMAGES,
        "error_rate": percent(comparison.error_rate),
        "family_rate": exact_percent(comparison.error_rate / FAMILIES),
        "tests": {"discrepancies": means, "shares": len(comparison.differences) - means},
    }
    return environment().get_template("models.html.j2").render(context)


def notices_of(comparison: ModelComparison) -> tuple[str, ...]:
    """Return what a reader must know before the figures."""
    found = []
    if comparison.waiting:
        found.append(f"Not finished: {', '.join(comparison.waiting)}. Run the config again; it continues.")
    incomplete = [model.name for model in comparison.models if model.verdict == "incomplete"]
    if incomplete:
        found.append(f"Images are missing in the audit of {', '.join(incomplete)}. Run the config again to make them.")
    return (*found, *(f"Attention: {notice}." for notice in comparison.notices))


def _section(comparison: ModelComparison, arm: str, number: int) -> ArmSection:
    key = f"arm-{number}"
    figures = tuple(share_figures(comparison, arm, key))
    tables = (
        places_table(comparison, arm),
        discrepancy_table(comparison, arm),
        share_differences_table(comparison, arm),
        worst_table(comparison, arm),
    )
    plain = () if figures else tuple(shares_table(comparison, arm, name) for name in comparison.attributes)
    return ArmSection(
        id=key,
        name=arm,
        statements=statements_of(comparison, arm),
        tables=tables,
        shares=figures,
        share_tables=plain,
        quality=quality_table(comparison, arm),
    )
