"""An audit in MLflow: one parent run, a child run per arm, the tables and the report as artifacts.

The only importer of mlflow. Every call names its run id, so no run of the caller's is ever touched; an audit that is
logged again updates its runs, found by the tag ``difflens.audit_id``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.gates import overall_verdict
from audit.records import AuditResult, Measurement
from audit.store import AUDIT, CHANGES_NO_RESULT, REPORT, RESULTS, RunDirectory
from reports.export import to_csv
from reports.redaction import redact, redact_tree
from reports.story import (
    Story,
    findings_count,
    headline,
    mean_discrepancy,
    mean_over_prompts,
    mitigations,
    setting,
    story_of,
    unclassified,
    worst_prompt,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

AUDIT_ID = "difflens.audit_id"
ARM = "difflens.arm"
FINGERPRINT = "difflens.model_fingerprint"
SCHEMA_VERSION = "difflens.schema_version"
VERDICT = "difflens.verdict"
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"
IS_EXTERNAL = "mlflow.model.isExternal"

MAX_PARAMS = 100
MAX_PARAM_LENGTH = 6000
BATCH = 1000
"""MLflow's limits: parameters per batch, characters per value, metrics per batch."""


class TrackingError(RuntimeError):
    """The tracking store cannot take the audit; the audit itself is safe in its run directory."""


@dataclass(frozen=True)
class TrackedRun:
    """Where an audit is in MLflow.

    Attributes:
        uri: Tracking address, without secrets.
        experiment_id: Experiment.
        run_id: Parent run.
        child_run_ids: Arm to child run.
        model_id: Logged model that stands for the audited weights.
    """

    uri: str
    experiment_id: str
    run_id: str
    child_run_ids: Mapping[str, str]
    model_id: str


def log_audit(result: AuditResult, run_path: Path, *, uri: str, experiment: str) -> TrackedRun:
    """Log a finished audit, or bring its runs up to date where it was logged before.

    Args:
        result: The audit's result.
        run_path: Its run directory with ``audit.json``, ``results.parquet`` and ``report.html``.
        uri: Tracking server or database, for example ``sqlite:///runs/mlflow.db``.
        experiment: Name of the experiment; it is made where there is none.

    Returns:
        The ids under which the audit can be found.

    Raises:
        FileNotFoundError: The run directory lacks one of the files.
        TrackingError: The store is a file store, cannot be reached, or refuses.
    """
    story = story_of(result)
    files = _artifacts(RunDirectory(run_path))
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    try:
        return _log(client, story, files, redact(uri), _experiment(client, uri, experiment))
    except MlflowException as error:
        raise TrackingError(
            f"expected {redact(uri)} to take the audit, found: {redact(str(error))}. The results are safe in "
            f"{run_path}; mend the store, or name another in tracking.uri, and log the run again"
        ) from error


def _log(client: MlflowClient, story: Story, files: list[Path], uri: str, experiment_id: str) -> TrackedRun:
    model_id = _logged_model(client, story.result, experiment_id)
    parent = _parent_run(client, story, experiment_id, model_id)
    children = {arm: _child_run(client, story, experiment_id, parent, arm) for arm in story.arms}
    for path in files:
        client.log_artifact(parent, str(path))
    client.log_text(parent, to_csv(story.result), "results.csv")
    for run_id in (*children.values(), parent):
        client.set_terminated(run_id, "FINISHED")
    return TrackedRun(uri, experiment_id, parent, children, model_id)


def _artifacts(run: RunDirectory) -> list[Path]:
    files = [run.file(name) for name in (AUDIT, RESULTS, REPORT)]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"expected {', '.join(missing)} in {run.path}, found none; finish the audit and its report first"
        )
    return files


def _client(uri: str) -> MlflowClient:
    if _is_file_store(uri):
        raise TrackingError(
            f"expected a tracking server or a database, found the file store {redact(uri)!r}, which MLflow no longer "
            "writes; use sqlite:///mlflow.db, and move old runs there with `mlflow migrate-filestore`"
        )
    # MLflow reads these once, when it is first imported; an audit reports to nobody unless its owner asked for it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # making the first database is no news
    from mlflow import MlflowClient

    path = _sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _is_file_store(uri: str) -> bool:
    return uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks"))


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Find or make the experiment; a database keeps its artifacts beside it instead of under the working directory."""
    found = client.get_experiment_by_name(name)
    if found is None:
        database = _sqlite_path(uri)
        location = (database.resolve().parent / "mlartifacts").as_uri() if database else None
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"expected experiment {name!r} to be active, found it deleted; restore it in MLflow with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or change tracking.experiment"
        )
    return str(found.experiment_id)


def _logged_model(client: MlflowClient, result: AuditResult, experiment_id: str) -> str:
    """Find or make the external model that stands for the audited weights; audits of the same weights share it."""
    fingerprint = model_fingerprint(result)
    same = f"tags.`{FINGERPRINT}` = '{_literal(fingerprint)}'"
    found = client.search_logged_models([experiment_id], filter_string=same)
    if found:
        return str(found[0].model_id)
    source = setting(result.config, "model", "source")
    model = client.create_logged_model(
        experiment_id,
        name=re.sub(r"[/:.%\"'\s]+", "-", source).strip("-") or "model",
        tags={FINGERPRINT: fingerprint, IS_EXTERNAL: "true"},
        params={"source": redact(source), "fingerprint": fingerprint},
        model_type="text-to-image",
    )
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def model_fingerprint(result: AuditResult) -> str:
    """Return the audited weights' fingerprint; the model's source where provenance has none."""
    return str(result.provenance.get("model_fingerprint") or setting(result.config, "model", "source"))


def _parent_run(client: MlflowClient, story: Story, experiment_id: str, model_id: str) -> str:
    from mlflow.entities import LoggedModelInput

    result = story.result
    words = headline(story)
    tags = {
        RUN_NAME: result.run_id,
        SCHEMA_VERSION: str(result.schema_version),
        FINGERPRINT: model_fingerprint(result),
        VERDICT: overall_verdict(result.verdicts),
        NOTE: f"{words.title}\n\n{words.lead}",
    }
    run = _find_or_create(client, experiment_id, result.run_id, "", tags)
    _log_params(client, run, audit_params(result))
    _log_metrics(client, run, headline_metrics(story), model_id)
    if run.inputs is None or model_id not in {item.model_id for item in run.inputs.model_inputs}:
        client.log_inputs(run.info.run_id, models=[LoggedModelInput(model_id)])
    return str(run.info.run_id)


def _child_run(client: MlflowClient, story: Story, experiment_id: str, parent: str, arm: str) -> str:
    tags = {RUN_NAME: f"{story.result.run_id}/{arm}", PARENT: parent}
    run = _find_or_create(client, experiment_id, story.result.run_id, arm, tags)
    settings = next((item for item in mitigations(story.result) if item["name"] == arm), {"name": arm})
    _log_params(client, run, _flat(settings))
    _log_metrics(client, run, arm_metrics(story, arm))
    return str(run.info.run_id)


def _find_or_create(client: MlflowClient, experiment_id: str, audit_id: str, arm: str, tags: Mapping[str, str]) -> Run:
    """Return the audit's run for ``arm``, the parent for an empty one, with its tags up to date."""
    own = {AUDIT_ID: audit_id, ARM: arm, **tags}
    # The arm is compared here, not in the filter: a run without an arm is the parent.
    found = client.search_runs([experiment_id], filter_string=f"tags.`{AUDIT_ID}` = '{_literal(audit_id)}'")
    for run in found:
        if run.data.tags.get(ARM) == arm:
            for key, value in own.items():
                client.set_tag(run.info.run_id, key, value)
            return run
    return client.create_run(experiment_id, tags=own)


def _literal(text: str) -> str:
    """Refuse what would end a string literal of MLflow's filter language."""
    if "'" in text:
        raise TrackingError(
            f"expected a name without a single quote, found {text!r}; rename it before logging the audit"
        )
    return text


def _log_params(client: MlflowClient, run: Run, params: Mapping[str, str]) -> None:
    """Log parameters that the run does not have yet; MLflow forbids changing one."""
    from mlflow.entities import Param

    new = [Param(key, value) for key, value in params.items() if key not in run.data.params]
    if new:
        client.log_batch(run.info.run_id, params=new[:MAX_PARAMS])


def _log_metrics(client: MlflowClient, run: Run, metrics: Mapping[str, float], model_id: str | None = None) -> None:
    """Log metrics whose value changed, so that logging twice leaves one value in the history."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    changed = [
        Metric(key, value, now, 0, model_id=model_id)
        for key, value in metrics.items()
        if run.data.metrics.get(key) != value
    ]
    for start in range(0, len(changed), BATCH):
        client.log_batch(run.info.run_id, metrics=changed[start : start + BATCH])


def audit_params(result: AuditResult) -> dict[str, str]:
    """Flatten what fixes the results to at most ``MAX_PARAMS`` parameters, without secrets."""
    config = {key: value for key, value in result.config.items() if key not in CHANGES_NO_RESULT}
    return dict(list(_flat(config).items())[:MAX_PARAMS])


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in redact_tree(dict(value)).items():
        name = _key(f"{prefix}{key}")
        if isinstance(item, Mapping):
            flat |= _flat(item, f"{name}.")
        else:
            flat[name] = str(item)[:MAX_PARAM_LENGTH]
    return flat


def headline_metrics(story: Story) -> dict[str, float]:
    """Return the parent run's metrics, about forty: every arm's under ``<arm>/<metric>``."""
    metrics = {"prompts": float(len(story.prompts)), "arms": float(len(story.arms))}
    for arm in story.arms:
        metrics |= {f"{_key(arm)}/{key}": value for key, value in arm_metrics(story, arm).items()}
    return metrics


def arm_metrics(story: Story, arm: str) -> dict[str, float]:
    """Return one arm's metrics, under the same names in every arm, so that child runs compare column by column."""
    return {key: value for key, value in (_fairness(story, arm) | _quality(story, arm)).items() if value is not None}


def _fairness(story: Story, arm: str) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for attribute in story.attributes:
        name = _key(attribute.name)
        worst = worst_prompt(story, attribute.name, arm)
        metrics[f"{name}/fairness_discrepancy_mean"] = mean_discrepancy(story, attribute.name, arm)
        metrics[f"{name}/fairness_discrepancy_worst"] = worst[1] if worst else None
        metrics[f"{name}/findings"] = findings_count(story, attribute.name, arm)
        mean = mean_over_prompts(story, attribute.name, arm)
        metrics[f"{name}/plug_in_mean"] = mean.plug_in_soft if mean else None
        metrics[f"{name}/unclassified_share"] = unclassified(story, attribute.name, arm).value
    return metrics


def _quality(story: Story, arm: str) -> dict[str, float | None]:
    quality = story.quality.get(arm)
    if quality is None:
        return {}
    metrics: dict[str, float | None] = {"clip_t": _value(quality.clip_t), "clip_i": _value(quality.clip_i)}
    for name, figure in (("fid", quality.fid), ("kid", quality.kid)):
        metrics[f"{name}_to_baseline"] = _value(figure)
        metrics[f"{name}_noise_floor"] = figure.extra.get("noise_floor") if figure else None
    metrics["prompt_shown"] = quality.prompt_shown.value if quality.prompt_shown else None
    metrics |= {f"{_key(name)}/share_shift": shift for name, shift in quality.attribute_shift.items()}
    return metrics


def _value(figure: Measurement | None) -> float | None:
    return figure.value if figure else None


def _key(text: str) -> str:
    """Keep the characters that MLflow allows in a metric's or a parameter's name."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)
