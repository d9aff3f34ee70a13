"""Compares models by their finished run directories alone, and stores the comparison as ``models.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from audit.results.comparison.compare import NothingToCompareError
from audit.results.comparison.differences import differences
from audit.results.comparison.finished_run import read_finished_run
from audit.results.comparison.pair import RunPair
from audit.results.models.difference_tests import model_differences
from audit.results.models.places import (
    ModelRun,
    common_arms,
    common_attributes,
    missing_in_some,
)
from audit.results.models.records import VERSION, ComparedModel, ModelComparison
from audit.results.models.side_by_side import cost_of, discrepancies_of, figures_of, shares_of
from audit.storage.run_directory import AUDIT, MODEL_FINGERPRINT, RunDirectory, UnreadableRunError

MODELS = "models.json"
"""The comparison, in a directory of its own."""

SAME_FOR_ALL = ("attributes", "prompts.template", "judge", "targets")
"""Keys of the config in which models must not differ; another value can explain a difference of figures."""

MOST_LISTED = 8
"""Most entries of a message about what models do not have in common."""

_COMPARISON = TypeAdapter(ModelComparison)


def compare_models(name: str, runs: Mapping[str, RunDirectory], waiting: Sequence[str] = ()) -> ModelComparison:
    """Compare models.

    Args:
        name: Name of the comparison.
        runs: Name of each model → its finished run; at least two.
        waiting: Models whose audit is not finished.

    Raises:
        UnreadableRunError: If a directory has no finished run.
        NothingToCompareError: If there are fewer than two models, or they have no prompt and attribute in common.
    """
    if len(runs) < 2:
        raise NothingToCompareError(f"expected at least two models to compare, found {len(runs)}")
    models = [ModelRun(model, read_finished_run(run)) for model, run in runs.items()]
    stored = {model: run.read_json(AUDIT) for model, run in runs.items()}
    arms, attributes = common_arms(models), common_attributes(models)
    found = model_differences(models)
    missing = tuple(missing_in_some(models))
    if not found:
        raise NothingToCompareError(
            f"expected prompts, arms and attributes that models have in common, found none: {_listed(missing)}. "
            "Compare audits of the same prompts and attributes that have classified images of each prompt"
        )
    every = dict.fromkeys(prompt for model in models for _, prompt in model.run.images)
    owned = [{prompt for _, prompt in model.run.images} for model in models]
    return ModelComparison(
        name=name,
        models=tuple(_compared(model, stored[model.name]) for model in models),
        attributes={attribute.name: attribute.groups for attribute in attributes},
        arms=arms,
        prompts=tuple(prompt for prompt in every if all(prompt in own for own in owned)),
        discrepancies=tuple(discrepancies_of(models, arms, attributes, found)),
        shares=tuple(shares_of(models, arms, attributes)),
        figures=tuple(f for model, data in stored.items() for f in figures_of(model, data.get("quality"))),
        costs=tuple(cost_of(model, runs[model.name]) for model in models),
        differences=found,
        missing=missing,
        notices=tuple(_notices(models)),
        waiting=tuple(waiting),
    )


def _listed(missing: Sequence[str]) -> str:
    rest = f"; and {len(missing) - MOST_LISTED} more" if len(missing) > MOST_LISTED else ""
    return f"{'; '.join(missing[:MOST_LISTED])}{rest}"


def write_models(place: RunDirectory, comparison: ModelComparison) -> None:
    """Store a comparison."""
    place.write_json(MODELS, asdict(comparison))


def read_models(place: RunDirectory) -> ModelComparison:
    """Return a stored comparison.

    Raises:
        UnreadableRunError: If there is none, or one in an unknown format.
    """
    if not place.has(MODELS):
        raise UnreadableRunError(f"{place.path}: expected a comparison of models with {MODELS}, found none")
    try:
        data = place.read_json(MODELS)
    except ValueError as error:
        raise UnreadableRunError(f"{error}; running the config again creates it") from error
    if data.get("version") != VERSION:
        raise UnreadableRunError(
            f"{place.file(MODELS)}: expected version {VERSION}, found {data.get('version')!r}; make the comparison "
            "again with this release"
        )
    try:
        return _COMPARISON.validate_python(data)
    except ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(map(str, first["loc"]))
        raise UnreadableRunError(
            f"{place.file(MODELS)}: expected a comparison of models, found {first['msg'].lower()} at {where}; make "
            "the comparison again"
        ) from error


def _compared(model: ModelRun, data: Mapping[str, Any]) -> ComparedModel:
    provenance, section = data.get("provenance") or {}, (data.get("config") or {}).get("model")
    return ComparedModel(
        name=model.name,
        run_id=model.run.run_id,
        source=str(section.get("source", "")) if isinstance(section, Mapping) else "",
        fingerprint=str(provenance.get(MODEL_FINGERPRINT, "")),
        verdict="incomplete" if provenance.get("unfinished_shards") else _verdict(data.get("verdicts") or ()),
    )


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Combine the verdicts of ``audit.json`` as :func:`audit.results.gates.verdicts.overall_verdict` does."""
    binding = {row.get("verdict") for row in rows if row.get("level") == "fail"}
    for verdict in ("fail", "inconclusive"):
        if verdict in binding:
            return verdict
    warned = any(row.get("verdict") == "fail" for row in rows)
    return "warn" if warned else "pass" if rows else "none"


def _notices(models: Sequence[ModelRun]) -> Iterator[str]:
    """Describe differences of the runs that are no differences of the models."""
    first = models[0]
    for model in models[1:]:
        for found in differences(first.run.config, model.run.config):
            key = next((k for k in SAME_FOR_ALL if found.path == k or found.path.startswith(f"{k}.")), None)
            if key is not None:
                yield (
                    f"{found.path} is {found.first!r} for {first.name} and {found.second!r} for {model.name}; this can "
                    "explain a difference"
                )
        judges = [(run.inputs.get("instruments") or {}).get("judge") for run in (first.run, model.run)]
        if judges[0] != judges[1]:
            yield f"the judges of {first.name} and {model.name} are not the same; this can explain a difference"
        targets = [found.path for found in RunPair(first.run, model.run).other_targets()]
        if targets:
            yield (
                f"targets of {model.name} differ from those of {first.name} for {', '.join(targets)}; discrepancies "
                f"use those of {first.name}"
            )
