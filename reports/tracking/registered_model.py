"""Tags a version in MLflow's model registry with an audit's verdict, and moves its alias if every gate passes.

Tags and alias follow the audit that started last, not the one that was sent last: an audit that was delayed by an
outage must not overwrite a newer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit.config.sections import RegisteredModelConfig
from audit.records.result import AuditResult
from audit.results.gates.verdicts import overall_verdict
from audit.storage.run_directory import MODEL_FINGERPRINT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

AUDITED = "difflens.audited"
"""When the audit began, ISO 8601 in UTC, so that texts sort as times do."""
WEIGHTS = "difflens.model_fingerprint"
VERDICT = "difflens.verdict"


class OtherWeightsError(ValueError):
    """Another audit of this registered version measured other weights."""


def tag_version(client: MlflowClient, registered: RegisteredModelConfig, result: AuditResult, run_id: str) -> str:
    """Write an audit's verdict to a registered model version, and move its alias if every gate passes.

    Args:
        client: MLflow client of the store that has the registry.
        registered: The version, and the alias to move.
        result: The audit.
        run_id: The audit's parent run in MLflow.

    Returns:
        The result for the tags and the alias, as text.

    Raises:
        OtherWeightsError: An earlier audit of this version measured other weights.
        MlflowException: The version does not exist, or the store refuses.
    """
    version = client.get_model_version(registered.name, str(registered.version))
    place = f"{registered.name} version {registered.version}"
    _refuse_other_weights(version, result, place)
    if _audited(version) > _started(result):
        return f"{place} keeps the tags of a later audit"
    for key, value in _tags(result, run_id).items():
        client.set_model_version_tag(registered.name, str(registered.version), key, value)
    if registered.alias is None:
        return f"{place} is tagged"
    return f"{place} is tagged; {_alias(client, registered, registered.alias, result)}"


def every_gate_passes(result: AuditResult) -> bool:
    """Return whether the audit is complete, has gates, and all of them pass, including those of level ``warn``."""
    passes = [verdict.verdict == "pass" for verdict in result.verdicts]
    return bool(passes) and all(passes) and not result.provenance.get("unfinished_shards")


def _alias(client: MlflowClient, registered: RegisteredModelConfig, alias: str, result: AuditResult) -> str:
    if not every_gate_passes(result):
        return f"alias {alias} was not moved, since not every gate passes"
    holder = client.get_registered_model(registered.name).aliases.get(alias)
    # A database returns the version as a number, a server as text.
    if str(holder) == str(registered.version):
        return f"alias {alias} points to it already"
    if holder is not None and _audited(client.get_model_version(registered.name, str(holder))) > _started(result):
        return f"alias {alias} stays at version {holder}, which was audited later"
    client.set_registered_model_alias(registered.name, alias, str(registered.version))
    return f"alias {alias} now points to it"


def _refuse_other_weights(version: ModelVersion, result: AuditResult, place: str) -> None:
    known, found = version.tags.get(WEIGHTS), result.provenance.get(MODEL_FINGERPRINT)
    if known and known != found:
        raise OtherWeightsError(
            f"expected {place} to have the audited weights; an earlier audit of it measured {known}, this one "
            f"{found}; correct tracking.registered_model, or delete the version's tag {WEIGHTS}"
        )


def _tags(result: AuditResult, run_id: str) -> dict[str, str]:
    fingerprint = result.provenance.get(MODEL_FINGERPRINT)
    return {
        **({WEIGHTS: str(fingerprint)} if fingerprint else {}),
        VERDICT: overall_verdict(result.verdicts),
        "difflens.gates_passed": f"{sum(v.verdict == 'pass' for v in result.verdicts)} of {len(result.verdicts)}",
        "difflens.run_id": result.run_id,
        "difflens.mlflow_run_id": run_id,
        AUDITED: _started(result),
    }


def _audited(version: ModelVersion) -> str:
    return str(version.tags.get(AUDITED, ""))


def _started(result: AuditResult) -> str:
    return str(result.provenance.get("created", ""))
