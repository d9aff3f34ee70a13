"""Logs a study of a model that is no audit in MLflow: exploration, concepts or compositions, as one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit.records.inside.compositions import Compositions
from audit.records.inside.concepts import Concepts
from audit.records.inside.exploration import Exploration
from audit.storage.run_directory import RunDirectory, UnreadableRunError
from audit.storage.stored_result import read_result
from reports.export.markdown import escaped
from reports.tracking.log import NOTE, log_metrics, log_params_and_tags
from reports.tracking.params import key_of
from reports.tracking.studies import study_run

INSIDE_TAG = "difflens.inside"
"""Tag with the name of the directory, by which its run is found again."""

KIND_TAG = "difflens.kind"
"""Tag with the kind of the study: ``exploration``, ``concepts`` or ``compositions``."""


@dataclass(frozen=True)
class _Study:
    """What MLflow gets of a study.

    Attributes:
        params: Settings, as text.
        metrics: Figures.
        note: Its result in a few lines of Markdown.
    """

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    note: str


def kind_of(place: RunDirectory) -> str | None:
    """Return the kind of study that a directory holds; None if it holds none."""
    return next((kind for kind in _STUDIES if place.has(f"{kind}.json")), None)


def log_inside(place: RunDirectory, *, uri: str, experiment: str) -> str:
    """Log a study, or update its run, and return its address in MLflow.

    Args:
        place: Directory of the study.
        uri: Tracking server or database.
        experiment: Name of the experiment.

    Raises:
        UnreadableRunError: If the directory has no study.
        ValueError: If the file of the study is incomplete, or of another release.
        UnreachableError: The store cannot be reached or has an internal error.
        TrackingError: The URI is a file store, or the store refuses.
    """
    kind = kind_of(place)
    if kind is None:
        raise UnreadableRunError(f"expected an exploration, concepts or compositions in {place.path}, found none")
    result = f"{kind}.json"
    study = read_result(place.path, result, *_STUDIES[kind])
    with study_run(place, result, INSIDE_TAG, uri=uri, experiment=experiment) as logged:
        log_params_and_tags(logged.client, logged.run, study.params, {KIND_TAG: kind, NOTE: study.note})
        log_metrics(logged.client, logged.run, study.metrics, logged.ended)
        logged.log_files(place, place.storage.names(""))
    return logged.tracked.url


def _exploration(data: Mapping[str, Any]) -> _Study:
    found = Exploration.of_data(data)
    metrics = {"prompts": float(len(found.texts))}
    lines = []
    for one in found.checked:
        if one.rho is not None:
            metrics[f"{key_of(one.axis)}/score_vs_share_spearman"] = one.rho
    for axis in found.axes:
        ranked = found.of_axis(axis.name)
        if ranked:
            lines.append(f"{axis.name}: from {escaped(ranked[0].prompt)} to {escaped(ranked[-1].prompt)}")
    if found.open_set is not None:
        metrics["open_set/findings"] = float(len(found.open_set.findings))
        lines.append(f"{len(found.open_set.findings)} findings that no attribute names")
    if found.pictures is not None:
        metrics["pictures"] = float(len(found.pictures.agreement))
        metrics |= {f"{key_of(one.name)}/own_pictures_area": one.area for one in found.pictures.axes}
    params = {"model": found.model, "hookpoint": found.hookpoint, "step": str(found.step), "seeds": str(found.seeds)}
    return _Study(params, metrics, "\n".join(f"- {line}" for line in lines))


def _concepts(data: Mapping[str, Any]) -> _Study:
    found = Concepts.of_data(data)
    metrics = {"images": float(found.images), "measured": float(found.measured)}
    metrics |= dict(_layout_metrics(found))
    for figures in found.stages.figures if found.stages is not None else ():
        if figures.success is not None:
            metrics[f"stages/{figures.kind}/{key_of(figures.concept)}/{figures.stage}/success"] = figures.success.value
    params = {"model": found.model, "segmenter": found.segmenter, "steps": str(found.total_steps)}
    note = f"{found.images} images of {found.prompts} prompts, read by {escaped(found.segmenter)}"
    return _Study(params, metrics, note)


def _compositions(data: Mapping[str, Any]) -> _Study:
    found = Compositions.of_data(data)
    metrics = {}
    for pair in found.pairs:
        metrics[f"{key_of(pair.pair)}/two_people"] = pair.people[2] / pair.images
        metrics[f"{key_of(pair.pair)}/told_apart"] = pair.apart / pair.images
    for row in found.company:
        if row.change is not None:
            name = "/".join(map(key_of, (row.pair, row.occupation, row.attribute, row.group)))
            metrics[f"{name}/change_in_company"] = row.change.value
    counts = {
        "who is which": sum(one.found for one in found.reversals),
        "company": sum(one.found for one in found.company_once),
        "dependence": sum(one.found for one in found.alike),
    }
    lines = [f"{count} findings: {name}" for name, count in counts.items()]
    params = {"model": found.model, "pairs": str(len(found.pairs)), "certainty": f"{found.certainty:g}"}
    return _Study(params, metrics, "\n".join(f"- {line}" for line in lines))


def _layout_metrics(found: Concepts) -> Iterator[tuple[str, float]]:
    """Yield how well each reader predicts the layout at its first recorded step."""
    seen = set()
    for one in sorted(found.layout, key=lambda figures: figures.step):
        name = "/".join(filter(None, ("layout", one.reader, key_of(one.block) if one.block else "", one.half)))
        if name not in seen and one.mean is not None:
            seen.add(name)
            yield f"{name}/iou_first_step", one.mean.value


_STUDIES: dict[str, tuple[Callable[[Mapping[str, Any]], _Study], str, str]] = {
    "exploration": (_exploration, "an exploration", "difflens-audit explore"),
    "concepts": (_concepts, "concepts", "difflens-audit concepts"),
    "compositions": (_compositions, "compositions", "difflens-audit compose"),
}
"""Kind of study → what MLflow gets of it, and how messages name it and its command. It is in ``<kind>.json``."""
