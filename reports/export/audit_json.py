"""Writes and reads ``audit.json`` (format: ``reports/schemas/audit.schema.json``), and writes the CSV tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from audit.measure.discrepancy.group_measures import MEASURES
from audit.records.arms.clip_d import GroupSimilarity
from audit.records.arms.counterfactuals import CounterfactualPair
from audit.records.arms.joint import JointCell, JointResult
from audit.records.arms.off_path import OffPath
from audit.records.attributes import TargetSource
from audit.records.changes import AttributeShift, GroupChange, MissingDifference
from audit.records.estimates import Change, ChangeOverPrompts, Estimate, LikeThese, OverPrompts, Range
from audit.records.groups import Corrected, FairnessDiscrepancy, GroupMeasure, GroupResult, PromptMean, WorstPrompt
from audit.records.intersections import Cell, Dependence, Intersection
from audit.records.located.location import LocationMap
from audit.records.opinions import JudgeAgreement, SecondView
from audit.records.quality import Measurement, QualityResult
from audit.records.result import POPULATION, SCHEMA_VERSION, AuditResult, TwoStageSampling
from audit.records.verdicts import Verdict
from audit.storage.run_directory import AUDIT, RunDirectory, UnreadableRunError
from reports.export.audit_schema import SCHEMA, first_mistake
from reports.export.old_schema import OLD_VERSIONS, upgraded
from reports.words.formats import settled

CSV_COLUMNS = (
    "prompt_id", "arm", "attribute", "group", "n", "share", "low", "high", "target",
    "fairness_discrepancy", "squared", "plug_in", "expected_at_parity", "soft_discrepancy", "p_parity", "p_adjusted",
    *(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")),
)  # fmt: skip
"""Columns of ``to_csv``; the columns after the share belong to the attribute and repeat for each of its groups."""

INTERSECTION_COLUMNS = (
    "prompt_id", "arm", "attribute_1", "attribute_2", "n", "group_1", "group_2", "count", "expected", "small",
    "share", "low", "high", "cramers_v", "cramers_v_low", "cramers_v_high", "p_value", "p_adjusted",
)  # fmt: skip
"""Columns of ``intersections_to_csv``; the columns after the share belong to the pair and repeat for each cell."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""First characters by which spreadsheets detect a formula; some treat the full-width signs like the plain ones."""

_MEASUREMENTS = ("clip_i", "clip_t", "fid", "kid")
_PAIRED = ("psnr", "lpips", "dino_i", "psnr_outside", "lpips_outside", "dino_outside", "compared_outside")
_TO_REFERENCE = ("fid_to_reference", "kid_to_reference")
_SHARES = ("prompt_shown", "face_found", "several_faces")
_OWN_FIELDS = ("value", "n", "signature", "low", "high", "like_these")


def to_json(result: AuditResult) -> dict[str, Any]:
    """Return ``result`` as plain data that conforms to ``reports/schemas/audit.schema.json``.

    A number that is not finite becomes None, since JSON cannot represent it.
    """
    return {
        name: _finite(list(part) if isinstance(part, Iterator) else part) for name, part in _sections(result).items()
    }


def _sections(result: AuditResult) -> dict[str, Any]:
    """Return the top-level sections of ``audit.json`` in order; rows are iterators, because there can be very many."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": result.run_id,
        "population": POPULATION,
        "config": result.config,
        "provenance": result.provenance,
        "results": ({"prompt_id": row.prompt_id, **_group_row(row)} for row in result.results),
        "overall": (
            {
                **_group_row(row),
                "mean_over_prompts": row.mean_over_prompts and asdict(row.mean_over_prompts),
                "worst_prompt": row.worst_prompt and asdict(row.worst_prompt),
            }
            for row in result.overall
        ),
        "quality": map(_quality_row, result.quality),
        "lens": result.lens,
        "changes": map(asdict, result.changes),
        "shifts": map(asdict, result.shifts),
        "intersections": map(asdict, result.intersections),
        "joint": map(asdict, result.joint),
        "off_path": map(asdict, result.off_path),
        "clip_d": map(asdict, result.clip_d),
        "counterfactuals": map(_pair_row, result.counterfactuals),
        "missing": ({"arm": arm, **asdict(m), "differs": m.differs} for arm, m in result.missing.items()),
        "verdicts": map(asdict, result.verdicts),
        "agreement": map(asdict, result.agreement),
        "second_views": map(asdict, result.second_views),
        "two_stage": result.two_stage and asdict(result.two_stage) | {"saving": result.two_stage.saving},
        "targets": {attribute: asdict(source) for attribute, source in result.targets.items()},
        "strengths": result.strengths,
        "location": result.location and result.location.as_data(),
    }


def from_json(data: Mapping[str, Any]) -> AuditResult:
    """Return the result from plain data that this release or an older one wrote with ``to_json``.

    Raises:
        ValueError: If ``data`` has another schema version.
    """
    version = data.get("schema_version")
    if version in OLD_VERSIONS:
        data = upgraded(data)
    elif version != SCHEMA_VERSION:
        raise ValueError(
            f"{AUDIT} has schema version {version!r}, expected {SCHEMA_VERSION} or older; render the run with the "
            "release that made it, or run the audit again"
        )
    return AuditResult(
        schema_version=version,
        run_id=data["run_id"],
        config=data["config"],
        provenance=data["provenance"],
        results=tuple(_group_result(row) for row in data["results"]),
        overall=tuple(_group_result(row) for row in data["overall"]),
        quality=tuple(_quality_result(row) for row in data["quality"]),
        lens=data["lens"],
        changes=tuple(_group_change(row) for row in data["changes"]),
        shifts=tuple(_shift(row) for row in data["shifts"]),
        intersections=tuple(_intersection(row) for row in data.get("intersections", ())),
        joint=tuple(_joint(row) for row in data.get("joint", ())),
        off_path=tuple(OffPath.of_data(row) for row in data.get("off_path", ())),
        clip_d=tuple(GroupSimilarity.of_data(row) for row in data.get("clip_d", ())),
        counterfactuals=tuple(_pair(row) for row in data.get("counterfactuals", ())),
        missing={row["arm"]: _missing_difference(row) for row in data["missing"]},
        verdicts=tuple(Verdict(**verdict) for verdict in data["verdicts"]),
        agreement=tuple(_agreement(row) for row in data.get("agreement", ())),
        second_views=tuple(
            SecondView(**{**row, "share": _estimate(row["share"])}) for row in data.get("second_views", ())
        ),
        two_stage=_two_stage(data["two_stage"]) if data.get("two_stage") else None,
        targets={name: _target_source(source) for name, source in data.get("targets", {}).items()},
        strengths=data.get("strengths", {}),
        location=LocationMap.of_data(data["location"]) if data.get("location") else None,
    )


def write_audit_json(run: RunDirectory, result: AuditResult) -> None:
    """Write ``audit.json`` into the run directory, one line per row.

    Rows are converted one at a time: as plain data, the rows of ten thousand prompts take about a GB of memory.
    """
    run.write_bytes(AUDIT, audit_json_bytes(result))


def audit_json_bytes(result: AuditResult) -> bytes:
    """Return the content of ``audit.json``."""
    return b"".join(piece.encode() for piece in _pieces(result))


def _pieces(result: AuditResult) -> Iterator[str]:
    for number, (name, part) in enumerate(_sections(result).items()):
        yield f'{"," if number else "{"}\n  "{name}": '
        if isinstance(part, Iterator):
            yield from _lines(part)
        else:
            yield _text(part, indent=2).replace("\n", "\n  ")  # a line break inside a string is the escape \n
    yield "\n}\n"


def _lines(rows: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    before = "["
    for row in rows:
        yield f"{before}\n    {_text(row)}"
        before = ","
    yield "[]" if before == "[" else "\n  ]"


def _text(data: Any, indent: int | None = None) -> str:  # noqa: ANN401 - JSON values
    return json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, indent=indent)


def read_audit_json(run: RunDirectory) -> AuditResult:
    """Read and validate ``audit.json`` of a run directory.

    Raises:
        UnreadableRunError: If the file does not match the schema; the message gives the location.
    """
    try:
        data = run.read_json(AUDIT)
        current = upgraded(data) if data.get("schema_version") in OLD_VERSIONS else data
        mistake = first_mistake(current) if current.get("schema_version") == SCHEMA_VERSION else None
        if mistake:
            raise ValueError(f"{run.file(AUDIT)}: expected what {SCHEMA} describes, found {mistake}")
        return replace(from_json(current), schema_version=data["schema_version"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The file is wrong, not this code: an invalid file of an older version fails when its values are used.
        message = (
            str(error)
            if isinstance(error, ValueError)
            else f"{run.file(AUDIT)}: expected a result, found none ({error!r})"
        )
        raise UnreadableRunError(
            f"{message}; render the run with the release that made it, or run the audit again"
        ) from error


def to_csv(result: AuditResult) -> str:
    """Return one line per prompt, arm, attribute and group; lines over all prompts have no prompt id.

    Texts that a spreadsheet would run as a formula get a leading apostrophe; numbers are left unchanged.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in (*result.results, *result.overall):
        discrepancy = row.fairness_discrepancy
        known = {} if discrepancy is None else _csv_discrepancy(discrepancy)
        named = {"prompt_id": row.prompt_id and inert(row.prompt_id), "arm": inert(row.arm)}
        shared = {**known, **_csv_measures(row), **named, "attribute": inert(row.attribute), "n": row.n}
        for group, share in row.shares.items():
            figures = {"share": share.value, "low": share.low, "high": share.high, "target": row.target.get(group)}
            writer.writerow(_finite({**shared, "group": inert(group), **figures}))
        if not row.shares:
            writer.writerow(_finite(shared))
    return text.getvalue()


def _csv_discrepancy(discrepancy: FairnessDiscrepancy) -> dict[str, float]:
    shared = {"low", "high", "n"}  # the share's own columns have these names
    kept = {k: v for k, v in asdict(discrepancy).items() if k in CSV_COLUMNS and k not in shared}
    return {**kept, "fairness_discrepancy": discrepancy.value, "soft_discrepancy": discrepancy.soft}


def _csv_measures(row: GroupResult) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, found in row.measures.items():
        figures |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return figures


def intersections_to_csv(result: AuditResult) -> str:
    """Return one line per combination of two attributes' groups; lines over all prompts have no prompt id."""
    text = io.StringIO()
    writer = csv.DictWriter(text, INTERSECTION_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for pair in result.intersections:
        shared = _csv_pair(pair)
        for cell in pair.cells:
            groups = {"group_1": inert(cell.groups[0]), "group_2": inert(cell.groups[1])}
            counts = {"count": cell.count, "expected": cell.expected, "small": str(cell.small).lower()}
            share = {"share": cell.share.value, "low": cell.share.low, "high": cell.share.high}
            writer.writerow(_finite({**shared, **groups, **counts, **share}))
    return text.getvalue()


def _csv_pair(pair: Intersection) -> dict[str, object]:
    names = {"attribute_1": inert(pair.attributes[0]), "attribute_2": inert(pair.attributes[1])}
    prompt = pair.prompt_id and inert(pair.prompt_id)
    shared: dict[str, object] = {"prompt_id": prompt, "arm": inert(pair.arm), "n": pair.n, **names}
    if pair.dependence is None:
        return shared
    v = pair.dependence.cramers_v
    strength = {"cramers_v": v.value, "cramers_v_low": v.low, "cramers_v_high": v.high}
    return {**shared, **strength, "p_value": pair.dependence.p_value, "p_adjusted": pair.dependence.p_adjusted}


def inert(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula: it gets an apostrophe if it begins like one."""
    begins = text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if begins else text


def _group_row(row: GroupResult) -> dict[str, Any]:
    discrepancy = row.fairness_discrepancy
    return {
        "arm": row.arm,
        "attribute": row.attribute,
        "n": row.n,
        "statuses": row.statuses,
        "shares": {group: _share_row(share) for group, share in row.shares.items()},
        "fairness_discrepancy": None if discrepancy is None else asdict(discrepancy),
        "bounds": {group: asdict(bounds) for group, bounds in row.bounds.items()},
        "discrepancy_bounds": None if row.discrepancy_bounds is None else asdict(row.discrepancy_bounds),
        "corrected": None if row.corrected is None else asdict(row.corrected),
        "target": row.target,
        "measures": {name: asdict(measure) for name, measure in row.measures.items()},
        "p_departure": row.p_departure,
        "uncorrectable": row.uncorrectable,
    }


def _share_row(share: Estimate) -> dict[str, Any]:
    return {name: value for name, value in asdict(share).items() if name != "n"}


def _quality_row(row: QualityResult) -> dict[str, Any]:
    measurements = {name: getattr(row, name) for name in (*_MEASUREMENTS, *_PAIRED, *_TO_REFERENCE)}
    return {
        "arm": row.arm,
        **{name: None if measured is None else _measurement_row(measured) for name, measured in measurements.items()},
        **{name: None if share is None else asdict(share) for name, share in _shares_of(row).items()},
        "attribute_shift": row.attribute_shift,
    }


def _shares_of(row: QualityResult) -> dict[str, OverPrompts | None]:
    return {name: getattr(row, name) for name in _SHARES}


def _measurement_row(measured: Measurement) -> dict[str, Any]:
    own = {name: value for name, value in asdict(measured).items() if name in _OWN_FIELDS}
    return own | measured.extra


def _group_result(row: Mapping[str, Any]) -> GroupResult:
    discrepancy = row["fairness_discrepancy"]
    return GroupResult(
        prompt_id=row.get("prompt_id"),
        arm=row["arm"],
        attribute=row["attribute"],
        n=row["n"],
        statuses=row["statuses"],
        shares={group: _known({**share, "n": row["n"]}) for group, share in row["shares"].items()},
        fairness_discrepancy=None if discrepancy is None else FairnessDiscrepancy(**discrepancy),
        bounds={group: Range(**bounds) for group, bounds in row["bounds"].items()},
        discrepancy_bounds=None if row["discrepancy_bounds"] is None else Range(**row["discrepancy_bounds"]),
        corrected=None if row["corrected"] is None else _corrected(row["corrected"]),
        mean_over_prompts=PromptMean(**_decoded(row["mean_over_prompts"])) if row.get("mean_over_prompts") else None,
        worst_prompt=WorstPrompt(**row["worst_prompt"]) if row.get("worst_prompt") else None,
        target=_target(row),
        measures={name: GroupMeasure(**measure) for name, measure in row.get("measures", {}).items()},
        p_departure=row.get("p_departure"),
        uncorrectable=row.get("uncorrectable", False),
    )


def _target(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the row's target; rows of older files without one had an even split."""
    if "target" in row:
        return dict(row["target"])
    return {group: 1 / len(row["shares"]) for group in row["shares"]}


def _two_stage(row: Mapping[str, Any]) -> TwoStageSampling:
    return TwoStageSampling(**{name: value for name, value in row.items() if name != "saving"})


def _target_source(row: Mapping[str, Any]) -> TargetSource:
    return TargetSource(**{**row, "origins": tuple(row["origins"])})


def _corrected(row: Mapping[str, Any]) -> Corrected:
    shares = {group: Estimate(**share) for group, share in row["shares"].items()}
    return Corrected(shares, Estimate(**row["squared"]), Estimate(**row["accuracy"]))


def _group_change(row: Mapping[str, Any]) -> GroupChange:
    shares, squared = {group: _known(share) for group, share in row["shares"].items()}, _decoded(row["squared"])
    kind = ChangeOverPrompts if "like_these" in squared else Change
    return GroupChange(**{**row, "shares": shares, "squared": kind(**squared)})


def _shift(row: Mapping[str, Any]) -> AttributeShift:
    return AttributeShift(**_decoded(row))


def _agreement(row: Mapping[str, Any]) -> JudgeAgreement:
    return JudgeAgreement(**{**row, "share": _estimate(row["share"]), "kappa": _estimate(row["kappa"])})


def _estimate(row: Mapping[str, Any] | None) -> Estimate | None:
    return None if row is None else _known(row)


def _known(row: Mapping[str, Any]) -> Estimate:
    """Return an estimate of one prompt, or of several prompts together."""
    return OverPrompts(**_decoded(row)) if "like_these" in row else Estimate(**row)


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's plain data, with its interval for prompts like these as a record; older files have none."""
    beside = row.get("like_these")
    return {**row, "like_these": LikeThese(**beside)} if beside else dict(row)


def _intersection(row: Mapping[str, Any]) -> Intersection:
    first, second = row["attributes"]
    return Intersection(
        prompt_id=row["prompt_id"],
        arm=row["arm"],
        attributes=(first, second),
        n=row["n"],
        cells=tuple(_cell(cell) for cell in row["cells"]),
        dependence=None if row["dependence"] is None else _dependence(row["dependence"]),
    )


def _joint(row: Mapping[str, Any]) -> JointResult:
    cells = tuple(JointCell(**{**cell, "groups": tuple(cell["groups"])}) for cell in row["cells"])
    measured = None if row["total_variation"] is None else Estimate(**row["total_variation"])
    return JointResult(**{**row, "attributes": tuple(row["attributes"]), "cells": cells, "total_variation": measured})


def _pair_row(pair: CounterfactualPair) -> dict[str, Any]:
    missing = {"arm": pair.arms[1], **asdict(pair.missing), "differs": pair.missing.differs}
    return asdict(pair) | {"missing": missing}


def _pair(row: Mapping[str, Any]) -> CounterfactualPair:
    return CounterfactualPair(
        attribute=row["attribute"],
        arms=(row["arms"][0], row["arms"][1]),
        groups=(row["groups"][0], row["groups"][1]),
        shown={group: Estimate(**share) for group, share in row["shown"].items()},
        changes=tuple(map(_group_change, row["changes"])),
        missing=_missing_difference(row["missing"]),
    )


def _cell(row: Mapping[str, Any]) -> Cell:
    first, second = row["groups"]
    return Cell(**{**row, "groups": (first, second), "share": _known(row["share"])})


def _dependence(row: Mapping[str, Any]) -> Dependence:
    return Dependence(**{**row, "cramers_v": _known(row["cramers_v"])})


def _missing_difference(row: Mapping[str, Any]) -> MissingDifference:
    return MissingDifference(*(Estimate(**row[name]) for name in ("before", "after", "difference")))


def _quality_result(row: Mapping[str, Any]) -> QualityResult:
    figures: dict[str, Any] = {
        **{name: None if row[name] is None else _measurement(row[name]) for name in _MEASUREMENTS},
        **{name: _measurement(row[name]) if row.get(name) else None for name in _PAIRED},  # not in older files
        **{name: _to_reference(row, name) for name in _TO_REFERENCE},
        **{name: _share_over_prompts(row.get(name)) for name in _SHARES},
    }
    return QualityResult(arm=row["arm"], attribute_shift=row["attribute_shift"], **figures)


def _share_over_prompts(share: Mapping[str, Any] | None) -> OverPrompts | None:
    return None if share is None else OverPrompts(**_decoded(share))


def _to_reference(row: Mapping[str, Any], name: str) -> Measurement | None:
    """Return a distance to the reference; older files have it for edited arms only, within the baseline distance."""
    beside = row[name.removesuffix("_to_reference")] or {}
    if name not in row and "to_reference" in beside:
        signature = beside["signature"].replace("|pairs:left out", "").replace("against:baseline", "against:reference")
        return Measurement(beside["to_reference"], beside["n"], signature)
    return _measurement(row[name]) if row.get(name) else None


def _measurement(row: Mapping[str, Any]) -> Measurement:
    numbers = {name: math.nan if value is None else value for name, value in row.items()}
    fields = _decoded(row)
    return Measurement(
        value=numbers["value"],
        n=row["n"],
        signature=row["signature"],
        low=row["low"],
        high=row["high"],
        like_these=fields.get("like_these"),
        extra={name: value for name, value in numbers.items() if name not in _OWN_FIELDS},
    )


def _finite(data: Any) -> Any:  # noqa: ANN401 - JSON values
    """Replace non-finite numbers by None, tuples by lists, and −0 by 0 in JSON-like data."""
    if isinstance(data, Mapping):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float):
        return settled(data) if math.isfinite(data) else None
    return data
