"""Logs an audit in MLflow: one parent run, a child run per arm, the tables and the report as artifacts.

Every call names its run id, so the caller's active run never changes. If an audit is logged again, its runs are found
by the tag ``difflens.audit_id`` and updated. The outbox in the run directory records each item that the store accepted.
Callers send an audit from a separate process, see :mod:`reports.tracking.handover`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from audit.config.sections import RegisteredModelConfig
from audit.records.result import SCHEMA_VERSION, AuditResult
from audit.results.gates.verdicts import overall_verdict
from audit.storage.outside.safe_text import redact
from audit.storage.run_directory import AUDIT, RunDirectory
from reports.export.audit_json import read_audit_json
from reports.export.markdown import escaped
from reports.index.settings import mitigations
from reports.index.story import story_of
from reports.tracking.client import client_of, experiment_of, tracking_errors
from reports.tracking.logged_model import FINGERPRINT, model_fingerprint
from reports.tracking.metrics import arm_metrics, headline_metrics
from reports.tracking.outbox import ARM, FILE, REGISTERED_MODEL, RUN, STATUS, Outbox, TrackedRun, filled_outbox
from reports.tracking.params import MAX_PARAMS, audit_params, flattened
from reports.tracking.registered_model import tag_version
from reports.tracking.runs import PARENT, RUN_NAME, TrackedAudit, places_of, run_name
from reports.words.formats import settled
from reports.words.headline import headline

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SCHEMA_TAG = "difflens.schema_version"
VERDICT = "difflens.verdict"
VERDICT_COLUMN = "verdict"
"""The same verdict under a short name, shown as a column of MLflow's run list; an arm's run has its own verdict."""
UNFINISHED = "difflens.unfinished_shards"
NOTE = "mlflow.note.content"
BATCH = 800
"""Metrics per request; MLflow accepts 1000 entries of all kinds."""


def log_audit(
    run: RunDirectory, *, uri: str, experiment: str, registered: RegisteredModelConfig | None = None
) -> Outbox:
    """Log a finished audit, or the items that the store does not have yet; a repeated call changes nothing.

    Args:
        run: The run directory with ``audit.json``, ``results.parquet`` and ``report.html``.
        uri: Tracking server or database, for example ``sqlite:///runs/mlflow.db``.
        experiment: Name of the experiment; it is created if it does not exist.
        registered: A registered model version to tag.

    Returns:
        The outbox without remaining items; its ``tracked`` contains the address of the audit.

    Raises:
        FileNotFoundError: The run directory lacks one of the files.
        UnreachableError: The store cannot be reached or has an internal error; the outbox lists the accepted items.
        TrackingError: The URI is a file store, or the store refuses.
    """
    story = story_of(read_audit_json(run))
    outbox = filled_outbox(run, story.result, redact(uri), experiment, registered).write(run)
    with tracking_errors(run, uri):
        client = client_of(uri)
        experiment_id = experiment_of(client, uri, experiment)
        audit = TrackedAudit(run, story, *_times(run, story.result), registered)
        outbox = outbox.at(places_of(client, audit, redact(uri), experiment_id)).write(run)
        for item in outbox.left:
            outbox = _send(client, audit, outbox, item).taken(item).write(run)
    return outbox


def _send(client: MlflowClient, audit: TrackedAudit, outbox: Outbox, item: str) -> Outbox:
    tracked = outbox.tracked
    if tracked is None:
        raise ValueError("expected the audit's runs in MLflow to be known before items are sent")
    if item == RUN:
        _send_run(client, audit, tracked)
    elif item.startswith(ARM):
        _send_arm(client, audit, tracked, item.removeprefix(ARM))
    elif item.startswith(FILE):
        with audit.run.on_disk(item.removeprefix(FILE)) as path:
            client.log_artifact(tracked.run_id, str(path))
    elif item == STATUS:
        _send_status(client, audit, tracked)
    elif item == REGISTERED_MODEL and audit.registered:
        note = tag_version(client, audit.registered, audit.story.result, tracked.run_id)
        return replace(outbox, note=note)
    return outbox


def _times(run: RunDirectory, result: AuditResult) -> tuple[int, int]:
    """Return when the audit began and when its results were stored, in ms; a later upload keeps these times."""
    ended = run.storage.written(AUDIT)
    created = result.provenance.get("created")
    started = datetime.fromisoformat(str(created)).timestamp() if created else ended
    return int(min(started, ended) * 1000), int(ended * 1000)


def _send_run(client: MlflowClient, audit: TrackedAudit, tracked: TrackedRun) -> None:
    from mlflow.entities import LoggedModelInput

    result = audit.story.result
    words = headline(audit.story)
    verdict = overall_verdict(result.verdicts)
    tags = {
        RUN_NAME: result.run_id,
        SCHEMA_TAG: str(SCHEMA_VERSION),  # the definition of the metrics, also for a run of an older release
        FINGERPRINT: model_fingerprint(result),
        VERDICT: verdict,
        VERDICT_COLUMN: verdict,
        UNFINISHED: str(_unfinished(result)),
        NOTE: f"{escaped(words.title)}\n\n{escaped(words.lead)}",  # MLflow renders it as Markdown
    }
    run = client.get_run(tracked.run_id)
    log_params_and_tags(client, run, audit_params(result), tags)
    log_metrics(client, run, headline_metrics(audit.story), audit.ended, tracked.model_id)
    if run.inputs is None or tracked.model_id not in {item.model_id for item in run.inputs.model_inputs}:
        client.log_inputs(tracked.run_id, models=[LoggedModelInput(tracked.model_id)])


def _send_arm(client: MlflowClient, audit: TrackedAudit, tracked: TrackedRun, arm: str) -> None:
    result = audit.story.result
    run = client.get_run(tracked.child_run_ids[arm])
    settings = next((item for item in mitigations(result) if item["name"] == arm), {"name": arm})
    verdict = overall_verdict([item for item in result.verdicts if item.arm == arm])
    tags = {RUN_NAME: run_name(result, arm), PARENT: tracked.run_id, VERDICT_COLUMN: verdict}
    log_params_and_tags(client, run, flattened(settings), tags)
    log_metrics(client, run, arm_metrics(audit.story, arm), audit.ended)


def _send_status(client: MlflowClient, audit: TrackedAudit, tracked: TrackedRun) -> None:
    """End the runs; an audit with missing shards has failed, and can be resumed."""
    status = "FAILED" if _unfinished(audit.story.result) else "FINISHED"
    for run_id in (*tracked.child_run_ids.values(), tracked.run_id):
        client.set_terminated(run_id, status, audit.ended)


def _unfinished(result: AuditResult) -> int:
    unfinished: Sequence[str] = result.provenance.get("unfinished_shards") or ()
    return len(unfinished)


def log_params_and_tags(client: MlflowClient, run: Run, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Log tags, and parameters that the run does not have yet; MLflow does not allow changes of a parameter."""
    from mlflow.entities import Param, RunTag

    new = [Param(key, value) for key, value in params.items() if key not in run.data.params]
    client.log_batch(run.info.run_id, params=new[:MAX_PARAMS], tags=[RunTag(*tag) for tag in tags.items()])


def log_metrics(
    client: MlflowClient, run: Run, metrics: Mapping[str, float], time: int, model_id: str | None = None
) -> None:
    """Log metrics whose value changed, so that a repeated call adds nothing to the history."""
    from mlflow.entities import Metric

    changed = [
        Metric(key, value, time, 0, model_id=model_id)
        for key, value in ((key, settled(value)) for key, value in metrics.items())
        if run.data.metrics.get(key) != value
    ]
    for start in range(0, len(changed), BATCH):
        client.log_batch(run.info.run_id, metrics=changed[start : start + BATCH])
