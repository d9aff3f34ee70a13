"""The external model in MLflow that represents the audited weights."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from audit.records.result import AuditResult
from audit.storage.outside.safe_text import redact
from audit.storage.run_directory import MODEL_FINGERPRINT
from reports.index.settings import setting
from reports.tracking.client import literal
from reports.words.closed_models import model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

FINGERPRINT = "difflens.model_fingerprint"
IS_EXTERNAL = "mlflow.model.isExternal"


def logged_model_of(client: MlflowClient, result: AuditResult, experiment_id: str) -> str:
    """Find or create the external model that represents the audited weights; audits of the same weights share it."""
    same = f"tags.`{FINGERPRINT}` = '{literal(model_fingerprint(result))}'"
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
        name=re.sub(r"[/:.%\"'\s]+", "-", redact(model_name(result.config))).strip("-") or "model",
        tags={FINGERPRINT: fingerprint, IS_EXTERNAL: "true"},
        params={"source": redact(source), "fingerprint": fingerprint},
        model_type="text-to-image",
    )


def _finish_logged_model(client: MlflowClient, model: LoggedModel) -> None:
    """Add the file that makes a model registrable, as ``mlflow.create_external_model`` does, and mark it ready."""
    from mlflow.models.model import MLMODEL_FILE_NAME
    from mlflow.models.utils import get_external_mlflow_model_spec

    with TemporaryDirectory() as directory:
        get_external_mlflow_model_spec(model).save(str(Path(directory) / MLMODEL_FILE_NAME))
        client.log_model_artifacts(model.model_id, directory)
    client.finalize_logged_model(model.model_id, "READY")


def model_fingerprint(result: AuditResult) -> str:
    """Return the fingerprint of the audited weights; the model's source if the provenance has none."""
    return str(result.provenance.get(MODEL_FINGERPRINT) or setting(result.config, "model", "source"))
