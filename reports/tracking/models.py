"""Logs a comparison of models in MLflow: one run, below which the audits of the models are nested.

The audits have runs of their own already, with equal names of metrics, so MLflow's view of several runs compares them
column by column. Their tag for the parent run is set to the run of the comparison, and they get the cost of the model
too. An audit that belongs to several comparisons is shown below the one that was logged last. The run of the comparison
has the figures of all models under ``<model>/<metric>``, the differences under ``<first> - <second>/<metric>``, and the
page as an artifact.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit.records.work import BASELINE
from audit.results.models.compare import MODELS, read_models
from audit.results.models.records import ModelComparison
from audit.storage.outside.safe_text import redact
from audit.storage.run_directory import RunDirectory
from reports.export.markdown import escaped
from reports.tracking.log import NOTE, VERDICT_COLUMN, log_metrics, log_params_and_tags
from reports.tracking.outbox import read_outbox
from reports.tracking.params import key_of
from reports.tracking.runs import PARENT
from reports.tracking.studies import study_run

COMPARISON_TAG = "difflens.models"
"""Tag with the name of a comparison's directory, by which its run is found again."""

AUDIT_OF = "difflens.audit_of."
"""Tags of the comparison's run: prefix and model → run of the model's audit."""

ARTIFACTS = ("models.html", MODELS, "figures.csv", "differences.csv", "figures.parquet", "differences.parquet")


def log_models(place: RunDirectory, *, uri: str, experiment: str) -> str:
    """Log a comparison, or update it, and return its address in MLflow.

    Args:
        place: Directory of the comparison, two levels below the directory of the runs.
        uri: Tracking server or database.
        experiment: Name of the experiment.

    Raises:
        UnreadableRunError: If the directory has no comparison.
        UnreachableError: The store cannot be reached or has an internal error.
        TrackingError: The URI is a file store, or the store refuses.
    """
    comparison = read_models(place)
    with study_run(place, MODELS, COMPARISON_TAG, uri=uri, experiment=experiment) as study:
        client, run = study.client, study.run
        audits = dict(_audits(comparison, place, redact(uri)))
        links = {f"{AUDIT_OF}{key_of(model)}": audit for model, audit in audits.items()}
        params = {f"{key_of(model.name)}.run": model.run_id for model in comparison.models}
        log_params_and_tags(client, run, params, _tags(comparison) | links)
        log_metrics(client, run, dict(_metrics(comparison)), study.ended)
        for model, audit in audits.items():
            client.set_tag(audit, PARENT, study.tracked.run_id)
            log_metrics(client, client.get_run(audit), _cost_of(comparison, model), study.ended)
        study.log_files(place, filter(place.has, ARTIFACTS))
    return study.tracked.url


def _audits(comparison: ModelComparison, place: RunDirectory, uri: str) -> Iterator[tuple[str, str]]:
    """Yield the run in this store of the audit of each model; an audit that was sent elsewhere is left out."""
    runs = place.path.parent.parent
    for model in comparison.models:
        outbox = read_outbox(RunDirectory(runs / model.run_id))
        if outbox is not None and outbox.tracked is not None and outbox.tracked.uri == uri:
            yield model.name, outbox.tracked.run_id


def _tags(comparison: ModelComparison) -> dict[str, str]:
    found = [d for d in comparison.differences if d.established and d.group is None]
    lines = [
        f"{d.first if d.difference.value > 0 else d.second} is more skewed than "
        f"{d.second if d.difference.value > 0 else d.first}: {d.attribute}, arm {d.arm}"
        for d in found
    ]
    text = "\n".join(f"- {escaped(line)}" for line in lines) or "No difference of mean discrepancies is established."
    verdicts = {model.verdict for model in comparison.models}
    order = ("incomplete", "fail", "inconclusive", "warn", "pass", "none")
    return {NOTE: text, VERDICT_COLUMN: next(verdict for verdict in order if verdict in verdicts)}


def _metrics(comparison: ModelComparison) -> Iterator[tuple[str, float]]:
    for found in comparison.discrepancies:
        name = f"{key_of(found.model)}/{key_of(found.arm)}/{key_of(found.attribute)}"
        mean = found.mean
        yield f"{name}/fairness_discrepancy_rms", mean.value
        yield f"{name}/fairness_discrepancy_rms_low", mean.low
        yield f"{name}/fairness_discrepancy_rms_high", mean.high
        yield f"{name}/place_best", float(found.best_place)
        yield f"{name}/place_last", float(found.last_place)
    for d in comparison.differences:
        if d.group is None:
            name = f"{key_of(d.first)} - {key_of(d.second)}/{key_of(d.arm)}/{key_of(d.attribute)}"
            yield f"{name}/squared_difference", d.difference.value
            yield f"{name}/squared_difference_low", d.low
            yield f"{name}/squared_difference_high", d.high
            yield f"{name}/established", float(d.established)
    shares = [d for d in comparison.differences if d.group is not None and d.arm == BASELINE]
    yield "shares_established", float(sum(d.established for d in shares))
    yield "shares_compared", float(len(shares))
    for model in comparison.models:
        for name, value in _cost_of(comparison, model.name).items():
            yield f"{key_of(model.name)}/{name}", value


def _cost_of(comparison: ModelComparison, model: str) -> dict[str, float]:
    """Return the cost of a model under names that its audit's run has too, for MLflow's view of several runs."""
    [cost] = [cost for cost in comparison.costs if cost.model == model]
    found = {"cost/images": float(cost.images), "cost/images_failed": float(cost.failed)}
    if cost.seconds_per_image is not None:
        found["cost/seconds_per_image"] = cost.seconds_per_image
    if cost.unclassified is not None:
        found["cost/unclassified_share"] = cost.unclassified.value
    return found
