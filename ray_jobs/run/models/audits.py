"""Runs the audits of several models, one after the other on one cluster, and compares the models after each of them.

Each audit is an ordinary run in its own directory, named by content. It is resumed, reported and bundled like any
other, and a later audit of the same model uses its baseline images. The comparison has a directory beside the runs.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from audit.config.models.read import ModelAudits
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.results.comparison.compare import NothingToCompareError
from audit.results.models.compare import compare_models
from audit.results.models.records import ModelComparison
from audit.storage.place import Place, place_of
from audit.storage.run_directory import MODEL_RUNS, CorruptShardError, RunConflictError, RunDirectory
from ray_jobs.cluster.connection import connect
from ray_jobs.pool.actor_pool import PoolError, RefusedError
from ray_jobs.run.audit import AuditOutcome, default_run_id, run_audit
from ray_jobs.run.parts import PreparationError
from ray_jobs.run.summary import NoImagesError
from ray_jobs.run.track import track_study
from reports.models.files import write_files

COMPARISONS = "models"
"""Directory beside the runs with the comparisons of models."""

OF_ONE_MODEL = (
    CorruptShardError, NoImagesError, PoolError, PreparationError, RefusedError, RunConflictError, UnfitModelError,
    UntrustedModelError,
)  # fmt: skip
"""Errors of one audit that another model need not have."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelsOutcome:
    """The outcome of the audits of several models.

    Attributes:
        place: Directory of the comparison.
        page: The page.
        comparison: The comparison of all models.
        outcomes: Model → outcome of its audit.
        tracking_url: Address of the comparison in MLflow, None if tracking is switched off or failed.
    """

    place: Place
    page: Place
    comparison: ModelComparison
    outcomes: Mapping[str, AuditOutcome]
    tracking_url: str | None

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Models in whose audit shards are missing; running the config again tries them again."""
        return tuple(model for model, outcome in self.outcomes.items() if not outcome.complete)


def run_models(audits: ModelAudits, *, address: str | None = None) -> ModelsOutcome:
    """Run the audit of every model, or resume it, and compare the finished ones after each.

    Args:
        audits: The audits.
        address: A Ray cluster; None for this machine.

    Raises:
        RuntimeError, ValueError: In the cases of :func:`ray_jobs.run.audit.run_audit`. If only one model cannot be
            audited, the others are audited and compared first.
        NothingToCompareError: If the models have no prompt and attribute in common.
    """
    run_ids = {audit.model: default_run_id(audit.config) for audit in audits.audits}
    directory = RunDirectory(comparison_place(audits.output, audits.name, run_ids))
    directory.write_json(MODEL_RUNS, {"name": audits.name, "runs": run_ids})
    outcomes, failed = dict[str, AuditOutcome](), list[Exception]()
    page, comparison = directory.path, None
    unlike = NothingToCompareError("expected at least two models, found one")
    first = audits.audits[0].config
    with connect(address, first.workers):
        for number, audit in enumerate(audits.audits, start=1):
            _log.info("Model %d of %d: %s", number, len(audits.audits), audit.model)
            try:
                outcomes[audit.model] = run_audit(audit.config, address=address)
            except OF_ONE_MODEL as error:
                _log.error("The audit of %s failed: %s", audit.model, error)
                failed.append(error)
                continue
            if len(outcomes) > 1:
                try:
                    comparison = _compared(audits, outcomes)
                except NothingToCompareError as error:  # a model without a classified image must not stop the others
                    unlike = error
                else:
                    page = write_files(comparison, directory.path)
    if failed and comparison is not None:
        _log.error("The other models are compared in %s", page)
    if failed or comparison is None:
        raise failed[0] if failed else unlike
    url = track_study(first.tracking, directory, "the comparison")
    return ModelsOutcome(directory.path, page, comparison, outcomes, url)


def _compared(audits: ModelAudits, outcomes: Mapping[str, AuditOutcome]) -> ModelComparison:
    """Compare the models whose audits are finished."""
    waiting = [audit.model for audit in audits.audits if audit.model not in outcomes]
    runs = {model: RunDirectory(outcome.run_path) for model, outcome in outcomes.items()}
    return compare_models(audits.name, runs, waiting)


def comparison_place(output: str, name: str, run_ids: Mapping[str, str]) -> Place:
    """Return the directory of a comparison, which is named by its models and their runs."""
    text = " ".join(f"{model}={run_id}" for model, run_id in run_ids.items())
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return place_of(output).absolute() / COMPARISONS / f"{name}-{digest}"
