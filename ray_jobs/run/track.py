"""An audit's way into MLflow at its own end: an outage costs a warning and a bounded wait, never a result."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from threading import Thread

from audit.config.sections import TrackingConfig
from audit.config.settings import AuditConfig
from audit.preflight.tracking import unreachable_tracking
from audit.storage.place import sqlite_uri
from audit.storage.run_directory import RunDirectory
from reports.tracking.handover import Letter, Messenger, prepare

LOG = logging.getLogger(__name__)


def track(config: AuditConfig, run: RunDirectory) -> str | None:
    """Hand a finished audit to MLflow, within ``tracking.timeout_seconds``.

    Returns:
        Where it is in MLflow, None where tracking is switched off or the store did not take it.
    """
    if not config.tracking.enabled:
        return None
    letter = letter_of(run, config.tracking)
    try:
        prepare(letter)
        with Messenger(config.tracking.timeout_seconds) as messenger:
            receipt = messenger.deliver(letter)
    except OSError as error:
        LOG.warning("the audit is not in MLflow: %s; %s", error, _later(run))
        return None
    if receipt.problem:
        LOG.warning("the audit is not in MLflow: %s; %s", receipt.problem, _later(run))
    elif receipt.note:
        LOG.info("MLflow: %s", receipt.note)
    return receipt.url


def letter_of(run: RunDirectory, tracking: TrackingConfig, uri: str | None = None) -> Letter:
    """Address a run.

    Args:
        run: Its run directory.
        tracking: Where its config wants it.
        uri: Another store than that; None for the config's, and where that names none for the database beside the run.

    Raises:
        ValueError: If none is named, and the run lies in an object store, beside which no database can be.
    """
    beside = sqlite_uri(run.path.absolute().parent / "mlflow.db") if isinstance(run.path, Path) else ""
    store = uri or tracking.uri or beside
    if not store:
        raise ValueError(f"expected a tracking store for {run.path}, found none in its config; name one with --uri")
    return Letter(run.path, store, tracking.experiment, tracking.registered_model)


def warn_of_outage(config: AuditConfig) -> Thread | None:
    """Say at the start of an audit that its tracking server does not answer, without waiting for an answer."""
    if not config.tracking.enabled:
        return None

    def ask() -> None:
        obstacle = unreachable_tracking(config.tracking_uri)
        if obstacle:
            LOG.warning("%s; the audit goes on, and its results wait in the run directory", obstacle)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    return thread


def _later(run: RunDirectory) -> str:
    path = str(run.path)
    if isinstance(run.path, Path) and run.path.is_relative_to(Path.cwd()):
        path = str(run.path.relative_to(Path.cwd()))
    path = f"./{path}" if path.startswith("-") else path  # else an option
    return f"hand it over later: {shlex.join(['difflens-audit', 'sync', path])}"
