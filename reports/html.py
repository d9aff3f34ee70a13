"""Renders a result as one HTML file that needs neither network nor script; hostile prompts cannot inject markup.

Jinja escapes every text, every chart escapes its own labels, and a content security policy forbids scripts and
external addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import yaml

from audit.config.fields import GENERATED_HERE
from audit.evidence.adherence import KEY as PROTOCOL_KEY
from audit.planning.plan import NO_PROMPT, prompt_text
from audit.records.attributes import Attribute
from audit.records.result import COUNTED_SINCE, POPULATION, AuditResult
from audit.records.verdicts import Verdict
from audit.records.work import ImageKey
from audit.results.comparison.trend import Trend, read_trend
from audit.results.gates.verdicts import overall_verdict
from audit.storage.outside.safe_text import redact_tree
from audit.storage.place import Place
from audit.storage.run_directory import AUDIT, REPORT, RunDirectory
from reports.environment import environment
from reports.export.audit_json import read_audit_json, to_json
from reports.figures.arms.clip_d import ASSUMED, clip_d_table, clip_d_texts
from reports.figures.arms.counterfactuals import counterfactual_tables
from reports.figures.arms.if_needed import if_needed_notes
from reports.figures.arms.joint_tables import joint_tables
from reports.figures.arms.off_path import off_path_tables
from reports.figures.charts import (
    Figure,
    Table,
    discrepancy_figure,
    feature_sections,
    instrument_table,
    lens_figures,
    listed,
    quality_table,
    share_figure,
    signature_table,
    status_table,
    strongest_occupations,
)
from reports.figures.evidence.clauses import clause_tables, map_words
from reports.figures.evidence.energy import energy_words
from reports.figures.evidence.impact_ratios import ANALOGY, impact_tables
from reports.figures.evidence.protocol import protocol_section
from reports.figures.evidence.statement import statement_section
from reports.figures.evidence_tables import (
    agreement_table,
    bounds_table,
    change_table,
    contradicted,
    corrected_table,
    findings_table,
    shift_table,
    uncorrectable,
    uncorrected,
)
from reports.figures.honesty import honesty_part
from reports.figures.intersection_tables import combination_tables, dependence_table, together_table
from reports.figures.location import location_section
from reports.figures.measure_tables import caveats, measures_by_occupation, measures_table
from reports.figures.pictures import Pictures, data_uri, fit, read_pictures
from reports.figures.steering import searched_tables, steering_notes, steering_table
from reports.figures.trend import trend_section
from reports.index.distances import distance_names, measures_distances
from reports.index.lookups import edited_arm, noise_floor, primary_attribute, quality_figures
from reports.index.settings import edited_by, setting, zero_shot_judges
from reports.index.story import Story, label, story_of
from reports.words.closed_models import is_closed, method_sentence
from reports.words.faces import face_lines
from reports.words.formats import number
from reports.words.headline import headline
from reports.words.instruments import instruments
from reports.words.judges import judge_notes
from reports.words.key_figures import key_figures, sample_size, status_gaps
from reports.words.outside_groups import outside_lines
from reports.words.sampling import images_words, sampler_words, sampling_words
from reports.words.targets import target_lines
from reports.words.verdicts import MARKS, OVERALL, TITLES, found, limit, subject

MEGABYTE = 1_000_000
HERO_WIDTH = 470.0
DEFAULT_SHOWN = 4
MAX_SHOWN = 64
DEFAULT_MAX_MB = 20.0


@dataclass(frozen=True)
class AttributeSection:
    """Charts and tables of one attribute; ``measures`` is None if only the discrepancy was computed."""

    name: str
    figures: tuple[Figure, ...]
    edited_by: tuple[str, ...]
    measures: Table | None
    measures_by_occupation: Table


@dataclass(frozen=True)
class PairedImages:
    """The shown images of one occupation: one row of data URIs per arm, empty if an image was not kept."""

    occupation: str
    indices: tuple[int, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def write_report(run_path: Place) -> Place:
    """Render ``report.html`` from a run directory and write it atomically.

    Args:
        run_path: A run directory that holds ``audit.json``.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: The directory has no ``audit.json``.
        UnreadableRunError: ``audit.json`` does not match its schema.
    """
    run = RunDirectory(run_path)
    if not run.has(AUDIT):
        raise FileNotFoundError(
            f"expected {AUDIT} in {run_path}, found none; run the audit to its end first, or name another run directory"
        )
    result = read_audit_json(run)
    return run.write_bytes(REPORT, render(result, kept_pictures(run, result), read_trend(run)).encode())


def kept_pictures(run: RunDirectory, result: AuditResult) -> Pictures:
    """Read the pictures for the report: the first indices of every listed occupation, and those of the features."""
    story = story_of(result)
    count = min(int((result.config.get("report") or {}).get("images_per_prompt", DEFAULT_SHOWN)), MAX_SHOWN)
    keys = [ImageKey(prompt, index) for prompt in listed(story) for index in range(count)]
    latents = {
        str(feature.latent)
        for section in feature_sections(story)
        for group in section.groups
        for feature in group.features
    }
    top_images = {latent: paths for latent, paths in (result.lens.get("top_images") or {}).items() if latent in latents}
    return read_pictures(run, keys, story.arms, top_images)


def render(result: AuditResult, images: Pictures, trend: Trend | None = None) -> str:
    """Return the report as one HTML document; pictures are dropped if they would exceed ``report.max_mb``.

    Args:
        result: The result of the audit.
        images: Pictures that can be shown.
        trend: The series of a scheduled run.

    Raises:
        ValueError: The result has no rows, or no attribute has a classified image.
    """
    max_mb = float((result.config.get("report") or {}).get("max_mb", DEFAULT_MAX_MB))
    story = story_of(result)
    constant = _context(story) | _evidence(story) | {"trend": trend_section(trend)}
    bare = len(_document(story, Pictures({}, {}), constant).encode())
    markup = 220 * sum(len(arms) for arms in images.shown.values())
    return _document(story, fit(images, int(max_mb * MEGABYTE) - bare - markup), constant)


def _document(story: Story, pictures: Pictures, constant: Mapping[str, Any]) -> str:
    """Render the page; ``constant`` is what does not depend on the pictures that are shown."""
    return environment().get_template("report.html.j2").render({**constant, **_shown(story, pictures)})


def _shown(story: Story, pictures: Pictures) -> dict[str, Any]:
    """Return what depends on the pictures that are shown."""
    pairs, features = _paired_images(story, pictures), pictures.features
    return {"pairs": pairs, "left_out": pictures.left_out, "thumbnails": features}


def _evidence(story: Story) -> dict[str, Any]:
    """Return what makes the result evidence for others: statement, protocol, impact ratios and clauses."""
    result = story.result
    return {
        "statement": statement_section(result.config, datetime.now(UTC).date()),
        "protocol": protocol_section(result.provenance),
        "impact_tables": impact_tables(story),
        "analogy": ANALOGY,
        "clauses": clause_tables(to_json(result)),
        "clauses_map": map_words(),
    }


def _context(story: Story) -> dict[str, Any]:
    result, attribute = story.result, primary_attribute(story)
    return {
        "run_id": result.run_id,
        "name": setting(result.config, "name"),
        "headline": headline(story),
        "population": POPULATION,
        "verdict": (verdict := overall_verdict(result.verdicts)),
        "verdict_title": f"{MARKS[verdict]} {TITLES[verdict]}",
        "verdict_words": OVERALL[verdict],
        "verdict_table": _verdict_table(result.verdicts),
        "key_figures": key_figures(story),
        "instruments": instruments(story),
        "hero": _hero(story, attribute),
        "attributes": _attribute_sections(story),
        "arms": story.arms,
        "findings": findings_table(story),
        "changes": change_table(story),
        "shifts": shift_table(story),
        "caveats": caveats(),
        "dependence": dependence_table(story),
        "combinations": combination_tables(story),
        "together": together_table(story),
        "if_needed_notes": if_needed_notes(story),
        "joint_tables": joint_tables(story),
        "counterfactuals": counterfactual_tables(story),
        **_judging(story),
        "all_listed": len(listed(story)) == len(story.prompts),
        "quality": quality_table(story),
        "off_path": off_path_tables(story),
        "clip_d": clip_d_table(story),
        "clip_d_words": (ASSUMED, clip_d_texts(story)),
        "has_reference": "fid_to_reference" in quality_figures(story),
        "signatures": signature_table(story),
        "instruments_of_quality": instrument_table(story),
        "distances": distance_names(story) if measures_distances(story) else None,
        **_inside(story),
        "method": _method(story),
        "is_calibration": setting(result.config, "model", "source") in GENERATED_HERE,
        "config_yaml": yaml.safe_dump(redact_tree(dict(result.config)), sort_keys=False, allow_unicode=True),
        "provenance": Table("Provenance", ("Item", "Value"), tuple(_flatten(redact_tree(_provenance(result))))),
        "schema_version": result.schema_version,
        "counted_again": result.schema_version < COUNTED_SINCE,
    }


def _judging(story: Story) -> dict[str, Any]:
    """Return what the report says of the judge: its errors, and what it could not classify."""
    return {
        "bounds": bounds_table(story),
        "corrected": corrected_table(story),
        "uncorrected": uncorrected(story),
        "uncorrectable": uncorrectable(story),
        "agreement": agreement_table(story),
        "zero_shot": zero_shot_judges(story.result.config),
        "contradicted": contradicted(story),
        "statuses": status_table(story),
        "status_warnings": _status_warnings(story),
        "outside": outside_lines(story),
        "face_lines": face_lines(story),
    }


def _inside(story: Story) -> dict[str, Any]:
    """Return what the report says of the inside of the model: places, features and strengths."""
    return {
        "location": location_section(story),
        "features": feature_sections(story),
        "honesty": honesty_part(story),
        "steering_notes": steering_notes(story),
        "searched_tables": searched_tables(story),
        "steering_table": partial(steering_table, story),
        "strongest_occupations": partial(strongest_occupations, story),
        "lens": story.result.lens,
        "lens_figures": lens_figures(story.result.lens.get("quality") or {}),
    }


def _provenance(result: AuditResult) -> dict[str, Any]:
    """Return the provenance without the protocol, which the first screen shows."""
    return {name: value for name, value in result.provenance.items() if name != PROTOCOL_KEY}


def _hero(story: Story, attribute: Attribute) -> Figure:
    """Draw the chart of the first screen: the baseline and the arm of the headline."""
    edited = edited_arm(story, attribute.name)
    arms = (story.arms[0], edited) if edited else story.arms[:1]
    return share_figure(replace(story, arms=arms), attribute, key="hero", width=HERO_WIDTH)


def _attribute_sections(story: Story) -> tuple[AttributeSection, ...]:
    primary = primary_attribute(story)
    ordered = [primary, *(item for item in story.attributes if item.name != primary.name)]
    return tuple(
        AttributeSection(
            name=item.name,
            figures=(
                share_figure(story, item, key=f"share-{item.name}"),
                discrepancy_figure(story, item, key=f"discrepancy-{item.name}"),
            ),
            edited_by=tuple(arm for arm, own in edited_by(story.result).items() if item.name in own),
            measures=measures_table(story, item),
            measures_by_occupation=measures_by_occupation(story, item),
        )
        for item in ordered
    )


def _paired_images(story: Story, pictures: Pictures) -> tuple[PairedImages, ...]:
    pairs = []
    for prompt in listed(story):
        keys = sorted(key for key in pictures.shown if key.prompt_id == prompt)
        rows = tuple(
            (arm, tuple(_address(pictures.shown[key].get(arm)) for key in keys))
            for arm in story.arms
            if any(arm in pictures.shown[key] for key in keys)
        )
        if rows:
            pairs.append(PairedImages(story.occupation(prompt), tuple(key.index for key in keys), rows))
    return tuple(pairs)


def _address(webp: bytes | None) -> str:
    return data_uri(webp) if webp is not None else ""


def _verdict_table(verdicts: Sequence[Verdict]) -> Table | None:
    if not verdicts:
        return None
    columns = ("Gate", "Verdict", "Figure", "Limit", "Found", "n", "Note")
    return Table("Gates", columns, tuple(map(_verdict_row, verdicts)))


def _verdict_row(verdict: Verdict) -> tuple[str, ...]:
    return (
        verdict.gate,
        f"{MARKS[verdict.verdict]} {verdict.verdict}{' (warning only)' if verdict.level == 'warn' else ''}",
        subject(verdict),
        limit(verdict),
        found(verdict),
        str(verdict.n),
        verdict.note or "–",
    )


def _status_warnings(story: Story) -> tuple[str, ...]:
    return tuple(
        f"{gap.arm} leaves {gap.share} of its images unclassified, the baseline {gap.baseline}. This difference is "
        "more than chance and may explain part of a change in shares, so no fairness gate passes on these shares alone."
        for gap in status_gaps(story)
    )


def _method(story: Story) -> dict[str, Any]:
    config = story.result.config
    baseline = story.arms[0]
    template = setting(config, "prompts", "template")
    return {
        "prompt": "" if story.prompts == (NO_PROMPT.id,) else prompt_text(template, story.occupation(story.prompts[0])),
        "occupations": len(story.prompts),
        "images": images_words(story),
        "sampling": sampling_words(staged) if (staged := story.result.two_stage) else "",
        "sampler": "" if is_closed(config) else sampler_words(story.result.provenance),
        "closed": method_sentence(story) if is_closed(config) else "",
        "energy": energy_words(story.result.provenance),
        "steps": setting(config, "sampling", "steps"),
        "guidance": setting(config, "sampling", "guidance"),
        "model": setting(config, "model", "source"),
        "judge": setting(config, "judge", "source"),
        "judge_notes": judge_notes(story),
        "min_confidence": setting(config, "judge", "min_confidence"),
        "targets": target_lines(story),
        "floors": [
            (label(item.name), number(noise_floor(story, item.name, baseline)), sample_size(story, item.name))
            for item in story.attributes
        ],
    }


def _flatten(value: object, name: str = "") -> list[tuple[str, str]]:
    """List the leaves of nested plain data as (dotted name, text)."""
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in _flatten(item, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))]
    return [(name, str(value))]
