"""An audit in MLflow: one parent run, a child run per arm, the tables and the report as artifacts.

The only importer of mlflow. Every call names its run id, so no run of the caller's is ever touched; an audit that is
logged again updates its runs, found by the tag ``difflens.audit_id``. What the store has taken is noted in the run
directory's outbox item by item. An audit hands itself over in a process of its own, see
:mod:`reports.tracking.handover`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from audit.config.sections import RegisteredModelConfig
from audit.records.quality import Measurement
from audit.records.result import SCHEMA_VERSION, AuditResult
from audit.results.gates.verdicts import overall_verdict
from audit.storage.outside.safe_text import redact, redact_tree
from audit.storage.place import sqlite_file
from audit.storage.run_directory import AUDIT, CHANGES_NO_RESULT, MODEL_FINGERPRINT, RunDirectory
from reports.export.audit_json import read_audit_json
from reports.export.markdown import escaped
from reports.index.lookups import findings_count, mean_discrepancy, mean_over_prompts, unclassified, worst_prompt
from reports.index.settings import mitigations, setting
from reports.index.story import Story, story_of
from reports.tracking.outbox import (
    ARM,
    FILE,
    REGISTERED_MODEL,
    RUN,
    STATUS,
    Outbox,
    TrackedRun,
    audit_id,
    filled_outbox,
)
from reports.tracking.registered_model import OtherWeightsError, tag_version
from reports.words.formats import settled
from reports.words.headline import headline

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

AUDIT_ID = "difflens.audit_id"
ARM_TAG = "difflens.arm"
FINGERPRINT = "difflens.model_fingerprint"
SCHEMA_TAG = "difflens.schema_version"
VERDICT = "difflens.verdict"
UNFINISHED = "difflens.unfinished_shards"
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"
IS_EXTERNAL = "mlflow.model.isExternal"

MAX_PARAMS = 100
MAX_PARAM_LENGTH = 6000
BATCH = 800
"""MLflow's limits: parameters per batch and characters per value; a batch holds 1000 entries of all kinds."""

_SHOWN = 300
"""Characters of a store's answer that a message repeats."""
_TRY_AGAIN = (408, 429)


class TrackingError(RuntimeError):
    """The tracking store cannot take the audit, or not all of it; the audit itself is safe in its run directory."""


class UnreachableError(TrackingError):
    """The store gives no answer, or none that says more than that it is in trouble: later it may."""


@dataclass(frozen=True)
class _Audit:
    """What there is to tell.

    Attributes:
        run: The run directory.
        story: Its result.
        begun: When the audit began, ms since 1970.
        ended: When its results were durable.
        registered: The registered model version to tag.
    """

    run: RunDirectory
    story: Story
    begun: int
    ended: int
    registered: RegisteredModelConfig | None


def log_audit(
    run: RunDirectory, *, uri: str, experiment: str, registered: RegisteredModelConfig | None = None
) -> Outbox:
    """Log a finished audit, or what the store does not have of it yet; twice is the same as once.

    Args:
        run: The run directory with ``audit.json``, ``results.parquet`` and ``report.html``.
        uri: Tracking server or database, for example ``sqlite:///runs/mlflow.db``.
        experiment: Name of the experiment; it is made where there is none.
        registered: A registered model version to tag.

    Returns:
        The outbox, with nothing left in it; its ``tracked`` says where the audit is.

    Raises:
        FileNotFoundError: The run directory lacks one of the files.
        UnreachableError: The store cannot be reached or is in trouble; what it has taken so far is in the outbox.
        TrackingError: The store is a file store, or refuses.
    """
    story = story_of(read_audit_json(run))
    outbox = filled_outbox(run, story.result, redact(uri), experiment, registered).write(run)
    with _failures_told(run, uri):
        client = _client(uri)
        experiment_id = _experiment(client, uri, experiment)
        audit = _Audit(run, story, *_times(run, story.result), registered)
        outbox = outbox.at(_places(client, audit, redact(uri), experiment_id)).write(run)
        for item in outbox.left:
            outbox = _tell(client, audit, outbox, item).taken(item).write(run)
    return outbox


def _tell(client: MlflowClient, audit: _Audit, outbox: Outbox, item: str) -> Outbox:
    tracked = outbox.tracked
    if tracked is None:
        raise ValueError("expected the audit's runs to be known before anything is told of them")
    if item == RUN:
        _tell_run(client, audit, tracked)
    elif item.startswith(ARM):
        _tell_arm(client, audit, tracked, item.removeprefix(ARM))
    elif item.startswith(FILE):
        with audit.run.on_disk(item.removeprefix(FILE)) as path:
            client.log_artifact(tracked.run_id, str(path))
    elif item == STATUS:
        _tell_status(client, audit, tracked)
    elif item == REGISTERED_MODEL and audit.registered:
        note = tag_version(client, audit.registered, audit.story.result, tracked.run_id)
        return replace(outbox, note=note)
    return outbox


@contextmanager
def _failures_told(run: RunDirectory, uri: str) -> Iterator[None]:
    """Turn what MLflow, its database and its HTTP client raise into one message; whatever else is raised is a bug."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    def message(found: str) -> str:
        return (
            f"expected {redact(uri)} to take the audit, found {found}. The results are safe in {run.path}; "
            f"`difflens-audit sync {run.path}` hands them over"
        )

    try:
        yield
    except MlflowException as error:
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        if status >= 500 or status in _TRY_AGAIN:
            raise UnreachableError(message(_trouble(error))) from error
        raise TrackingError(message(f"a refusal: {_short(error)}")) from error
    except (RequestException, SQLAlchemyError) as error:
        raise UnreachableError(message(_trouble(error))) from error
    except OtherWeightsError as error:
        raise TrackingError(f"the audit is in MLflow, but its verdict is on no registered model: {error}") from error


def _trouble(error: Exception) -> str:
    text = str(error)
    if "timed out" in text:
        return "no answer in time"
    status = re.search(r"too many (\d+) error responses", text)
    if status:
        return f"a server that answers {status[1]}"
    system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    if system:
        return f"no connection ({system[1]})"
    return f"it in trouble: {_short(error)}"


def _short(error: Exception) -> str:
    lines = redact(str(error)).splitlines()
    return lines[0][:_SHOWN] if lines else type(error).__name__


def _client(uri: str) -> MlflowClient:
    if _is_file_store(uri):
        raise TrackingError(
            f"expected a tracking server or a database, found the file store {redact(uri)!r}, which MLflow no longer "
            "writes; use sqlite:///mlflow.db, and move old runs there with `mlflow migrate-filestore`"
        )
    from mlflow import MlflowClient

    path = sqlite_file(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _is_file_store(uri: str) -> bool:
    return uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks"))


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Find or make the experiment; a database keeps its artifacts beside it instead of under the working directory."""
    found = client.get_experiment_by_name(name)
    if found is None:
        database = sqlite_file(uri)
        location = (database.resolve().parent / "mlartifacts").as_uri() if database else None
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"expected experiment {name!r} to be active, found it deleted; restore it in MLflow with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or change tracking.experiment"
        )
    return str(found.experiment_id)


def _times(run: RunDirectory, result: AuditResult) -> tuple[int, int]:
    """Return when the audit began and when its results were durable, in ms: a late telling must not date it later."""
    ended = run.storage.written(AUDIT)
    created = result.provenance.get("created")
    begun = datetime.fromisoformat(str(created)).timestamp() if created else ended
    return int(min(begun, ended) * 1000), int(ended * 1000)


def _places(client: MlflowClient, audit: _Audit, uri: str, experiment_id: str) -> TrackedRun:
    """Find the audit's logged model and runs, and make those that are missing."""
    runs = _runs(client, audit, experiment_id)
    children = {arm: str(runs[arm].info.run_id) for arm in audit.story.arms}
    model_id = _logged_model(client, audit.story.result, experiment_id)
    return TrackedRun(uri, experiment_id, str(runs[""].info.run_id), children, model_id)


def _runs(client: MlflowClient, audit: _Audit, experiment_id: str) -> dict[str, Run]:
    """Return the audit's run of every arm, and under an empty name their parent.

    After anything was made, all are looked for again: where another process made its own meanwhile, or an answer was
    lost after the store had acted, there would be two.
    """
    found = _found_runs(client, audit, experiment_id)
    missing = [arm for arm in ("", *audit.story.arms) if arm not in found]
    if not missing:
        return found
    own = {AUDIT_ID: audit_id(audit.story.result)}
    for arm in missing:
        parent = {PARENT: str(found[""].info.run_id)} if arm else {}
        tags = {**own, ARM_TAG: arm, RUN_NAME: _name(audit.story.result, arm), **parent}
        found[arm] = client.create_run(experiment_id, start_time=audit.begun, tags=tags)
    return _found_runs(client, audit, experiment_id)


def _found_runs(client: MlflowClient, audit: _Audit, experiment_id: str) -> dict[str, Run]:
    """Return one run per arm and bin the others; which one stays is the same whoever looks."""
    name = _literal(audit_id(audit.story.result))
    found: dict[str, Run] = {}
    runs = client.search_runs([experiment_id], filter_string=f"tags.`{AUDIT_ID}` = '{name}'")
    for run in sorted(runs, key=lambda run: str(run.info.run_id)):
        arm = run.data.tags.get(ARM_TAG, "")
        if arm in found:
            client.delete_run(run.info.run_id)
        else:
            found[arm] = run
    return found


def _name(result: AuditResult, arm: str) -> str:
    return f"{result.run_id}/{arm}" if arm else result.run_id


def _literal(text: str) -> str:
    """Refuse what would end a string literal of MLflow's filter language."""
    if "'" in text:
        raise TrackingError(
            f"expected a name without a single quote, found {text!r}; rename it before logging the audit"
        )
    return text


def _logged_model(client: MlflowClient, result: AuditResult, experiment_id: str) -> str:
    """Find or make the external model that stands for the audited weights; audits of the same weights share it."""
    same = f"tags.`{FINGERPRINT}` = '{_literal(model_fingerprint(result))}'"
    found = client.search_logged_models([experiment_id], filter_string=same)
    model = min(found, key=lambda model: (model.creation_timestamp, model.model_id)) if found else None
    if model is None:
        model = _new_logged_model(client, result, experiment_id)
    if str(model.status) != "READY":
        _finish_logged_model(client, model)
    return str(model.model_id)


def _new_logged_model(client: MlflowClient, result: AuditResult, experiment_id: str) -> LoggedModel:
    source, fingerprint = setting(result.config, "model", "source"), model_fingerprint(result)
    return client.create_logged_model(
        experiment_id,
        name=re.sub(r"[/:.%\"'\s]+", "-", redact(source)).strip("-") or "model",
        tags={FINGERPRINT: fingerprint, IS_EXTERNAL: "true"},
        params={"source": redact(source), "fingerprint": fingerprint},
        model_type="text-to-image",
    )


def _finish_logged_model(client: MlflowClient, model: LoggedModel) -> None:
    """Give a model the file that lets it be registered, as ``mlflow.create_external_model`` does, and mark it ready."""
    from mlflow.models.model import MLMODEL_FILE_NAME
    from mlflow.models.utils import get_external_mlflow_model_spec

    with TemporaryDirectory() as directory:
        get_external_mlflow_model_spec(model).save(str(Path(directory) / MLMODEL_FILE_NAME))
        client.log_model_artifacts(model.model_id, directory)
    client.finalize_logged_model(model.model_id, "READY")


def model_fingerprint(result: AuditResult) -> str:
    """Return the audited weights' fingerprint; the model's source where provenance has none."""
    return str(result.provenance.get(MODEL_FINGERPRINT) or setting(result.config, "model", "source"))


def _tell_run(client: MlflowClient, audit: _Audit, tracked: TrackedRun) -> None:
    from mlflow.entities import LoggedModelInput

    result = audit.story.result
    words = headline(audit.story)
    tags = {
        RUN_NAME: result.run_id,
        SCHEMA_TAG: str(SCHEMA_VERSION),  # whose figures the metrics are, also of a run that an older release made
        FINGERPRINT: model_fingerprint(result),
        VERDICT: overall_verdict(result.verdicts),
        UNFINISHED: str(_unfinished(result)),
        NOTE: f"{escaped(words.title)}\n\n{escaped(words.lead)}",  # MLflow renders it as Markdown
    }
    run = client.get_run(tracked.run_id)
    _log_batch(client, run, audit_params(result), tags)
    _log_metrics(client, run, headline_metrics(audit.story), audit.ended, tracked.model_id)
    if run.inputs is None or tracked.model_id not in {item.model_id for item in run.inputs.model_inputs}:
        client.log_inputs(tracked.run_id, models=[LoggedModelInput(tracked.model_id)])


def _tell_arm(client: MlflowClient, audit: _Audit, tracked: TrackedRun, arm: str) -> None:
    result = audit.story.result
    run = client.get_run(tracked.child_run_ids[arm])
    settings = next((item for item in mitigations(result) if item["name"] == arm), {"name": arm})
    _log_batch(client, run, _flat(settings), {RUN_NAME: _name(result, arm), PARENT: tracked.run_id})
    _log_metrics(client, run, arm_metrics(audit.story, arm), audit.ended)


def _tell_status(client: MlflowClient, audit: _Audit, tracked: TrackedRun) -> None:
    """End the runs; an audit that misses shards has not succeeded, and may yet go on."""
    status = "FAILED" if _unfinished(audit.story.result) else "FINISHED"
    for run_id in (*tracked.child_run_ids.values(), tracked.run_id):
        client.set_terminated(run_id, status, audit.ended)


def _unfinished(result: AuditResult) -> int:
    unfinished: Sequence[str] = result.provenance.get("unfinished_shards") or ()
    return len(unfinished)


def _log_batch(client: MlflowClient, run: Run, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Log tags, and parameters that the run does not have yet; MLflow forbids changing one."""
    from mlflow.entities import Param, RunTag

    new = [Param(key, value) for key, value in params.items() if key not in run.data.params]
    client.log_batch(run.info.run_id, params=new[:MAX_PARAMS], tags=[RunTag(*tag) for tag in tags.items()])


def _log_metrics(
    client: MlflowClient, run: Run, metrics: Mapping[str, float], time: int, model_id: str | None = None
) -> None:
    """Log metrics whose value changed, so that logging twice leaves one value in the history."""
    from mlflow.entities import Metric

    changed = [
        Metric(key, value, time, 0, model_id=model_id)
        for key, value in ((key, settled(value)) for key, value in metrics.items())
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
        metrics[f"{name}/fairness_discrepancy_worst"] = worst.value if worst else None
        metrics[f"{name}/findings"] = findings_count(story, attribute.name, arm)
        mean = mean_over_prompts(story, attribute.name, arm)
        metrics[f"{name}/soft_discrepancy_mean"] = mean.soft if mean else None
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
    metrics["fid_to_reference"] = _value(quality.fid_to_reference)
    metrics["kid_to_reference"] = _value(quality.kid_to_reference)
    metrics["prompt_shown"] = quality.prompt_shown.value if quality.prompt_shown else None
    metrics |= {f"{_key(name)}/share_shift": shift for name, shift in quality.attribute_shift.items()}
    return metrics


def _value(figure: Measurement | None) -> float | None:
    return figure.value if figure else None


def _key(text: str) -> str:
    """Keep the characters that MLflow allows in a metric's or a parameter's name."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)
