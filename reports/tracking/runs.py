"""The runs of an audit in MLflow: found by their tag, created if they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.config.sections import RegisteredModelConfig
from audit.records.result import AuditResult
from audit.storage.run_directory import RunDirectory
from reports.index.story import Story
from reports.tracking.client import literal
from reports.tracking.logged_model import logged_model_of
from reports.tracking.outbox import TrackedRun, audit_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

AUDIT_ID = "difflens.audit_id"
ARM_TAG = "difflens.arm"
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"


@dataclass(frozen=True)
class TrackedAudit:
    """An audit with what is needed to send it.

    Attributes:
        run: The run directory.
        story: Its result.
        started: When the audit started, ms since 1970.
        ended: When its results were stored.
        registered: The registered model version to tag.
    """

    run: RunDirectory
    story: Story
    started: int
    ended: int
    registered: RegisteredModelConfig | None


def places_of(client: MlflowClient, audit: TrackedAudit, uri: str, experiment_id: str) -> TrackedRun:
    """Find the audit's logged model and runs, and create those that are missing."""
    runs = _runs(client, audit, experiment_id)
    children = {arm: str(runs[arm].info.run_id) for arm in audit.story.arms}
    model_id = logged_model_of(client, audit.story.result, experiment_id)
    return TrackedRun(uri, experiment_id, str(runs[""].info.run_id), children, model_id)


def _runs(client: MlflowClient, audit: TrackedAudit, experiment_id: str) -> dict[str, Run]:
    """Return the audit's run of every arm, and their parent under an empty name.

    After runs were created, all are searched again. Two can exist if another process created its own at the same time,
    or if an answer was lost after the store had created one.
    """
    found = _found_runs(client, audit, experiment_id)
    missing = [arm for arm in ("", *audit.story.arms) if arm not in found]
    if not missing:
        return found
    own = {AUDIT_ID: audit_id(audit.story.result)}
    for arm in missing:
        parent = {PARENT: str(found[""].info.run_id)} if arm else {}
        tags = {**own, ARM_TAG: arm, RUN_NAME: run_name(audit.story.result, arm), **parent}
        found[arm] = client.create_run(experiment_id, start_time=audit.started, tags=tags)
    return _found_runs(client, audit, experiment_id)


def _found_runs(client: MlflowClient, audit: TrackedAudit, experiment_id: str) -> dict[str, Run]:
    """Return one run per arm and delete duplicates; every process selects the same one."""
    name = literal(audit_id(audit.story.result))
    found: dict[str, Run] = {}
    runs = client.search_runs([experiment_id], filter_string=f"tags.`{AUDIT_ID}` = '{name}'")
    for run in sorted(runs, key=lambda run: str(run.info.run_id)):
        arm = run.data.tags.get(ARM_TAG, "")
        if arm in found:
            client.delete_run(run.info.run_id)
        else:
            found[arm] = run
    return found


def run_name(result: AuditResult, arm: str) -> str:
    """Return the name of an audit's run in MLflow, or of the run of one arm."""
    return f"{result.run_id}/{arm}" if arm else result.run_id
