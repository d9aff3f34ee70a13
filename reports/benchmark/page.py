"""The page of a benchmark as one HTML file, which needs neither network nor script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.benchmark.charts import pareto_figures
from reports.benchmark.findings import Findings, Part, Strip
from reports.benchmark.published import NOTE, TABLES
from reports.benchmark.strips import within_size
from reports.benchmark.sweep import sweep_figures
from reports.benchmark.tables import (
    BEST,
    agreement_table,
    cost_table,
    effect_table,
    model_tables,
    path_table,
    quality_table,
)
from reports.environment import environment
from reports.figures.arms.clip_d import ASSUMED
from reports.figures.charts import Figure, Table
from reports.figures.pictures import data_uri
from reports.index.story import occupation_words


@dataclass(frozen=True)
class ShownStrip:
    """A strip with the addresses of its pictures, empty for one that was not kept."""

    prompt: str
    indices: tuple[int, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Section:
    """What the page shows of one model and attribute."""

    id: str
    title: str
    effect: Table
    quality: Table
    path: Table
    cost: Table
    figures: tuple[Figure, ...]
    sweep: tuple[Figure, ...]
    strips: tuple[ShownStrip, ...]


def render(findings: Findings) -> str:
    """Return the page as one HTML document.

    Raises:
        ValueError: If there are no rows.
    """
    if not findings.rows:
        raise ValueError("expected a finished audit of the benchmark, found none; run the benchmark first")
    shown, first = within_size(findings), set[tuple[str, tuple[str, ...]]]()
    sections = []
    for number, part in enumerate(findings.parts):
        key = (part.model, part.balanced)
        own = () if key in first or part.held_out or part.control else shown.strips
        first.add(key)
        sections.append(_section(f"part-{number}", part, own))
    context = {
        "name": findings.name,
        "title": title(findings),
        "notices": notices(findings),
        "best": BEST,
        "sections": sections,
        "clip_d_words": ASSUMED,
        "by_model": model_tables(findings),
        "agreements": agreement_table(findings.agreements),
        "published_note": NOTE,
        "published": TABLES,
        "runs": tuple(dict.fromkeys(row.run for row in findings.rows)),
    }
    return environment().get_template("benchmark.html.j2").render(context)


def title(findings: Findings) -> str:
    """Count what is compared: ``6 methods on 2 attributes of 1 model``."""
    counts: Mapping[str, int] = {
        "method": len({row.arm for row in findings.rows}),
        "attribute": len({row.attribute for row in findings.rows}),
        "model": len({row.model for row in findings.rows}),
    }
    methods, attributes, models = (f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return f"{methods} on {attributes} of {models}"


def notices(findings: Findings) -> tuple[str, ...]:
    """Say which audits are missing, and in which images are missing."""
    found = []
    if findings.waiting:
        found.append(f"Not finished: {'; '.join(findings.waiting)}. Run the benchmark again; it continues.")
    if findings.incomplete:
        found.append(f"Images are missing in: {'; '.join(findings.incomplete)}. Run the benchmark again to make them.")
    return tuple(found)


def _section(key: str, part: Part, strips: tuple[Strip, ...]) -> Section:
    own = tuple(_shown(strip) for strip in strips if (strip.model, strip.balanced) == (part.model, part.balanced))
    tables = effect_table(part), quality_table(part), path_table(part), cost_table(part)
    figures = () if part.control else tuple(pareto_figures(part, key))
    return Section(key, part.title, *tables, figures, tuple(sweep_figures(part, key)), own)


def _shown(strip: Strip) -> ShownStrip:
    rows = tuple((arm, tuple(data_uri(p) if p is not None else "" for p in pictures)) for arm, pictures in strip.rows)
    return ShownStrip(occupation_words(strip.prompt), strip.indices, rows)
