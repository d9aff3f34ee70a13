"""Sends a finished audit to MLflow; an outage causes a warning and a bounded wait, and never loses a result."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from threading import Thread

from audit.config.sections import TrackingConfig
from audit.preflight.tracking import unreachable_tracking
from audit.storage.place import sqlite_uri
from audit.storage.run_directory import RunDirectory
from reports.tracking.handover import Letter, Messenger, Receipt, prepare

LOG = logging.getLogger(__name__)


def track(tracking: TrackingConfig, run: RunDirectory) -> str | None:
    """Send a finished audit to MLflow, within ``tracking.timeout_seconds``.

    Returns:
        Its address in MLflow, None if tracking is switched off or the store did not accept it.
    """
    if not tracking.enabled:
        return None
    letter = letter_of(run, tracking)
    try:
        prepare(letter)
        with Messenger(tracking.timeout_seconds) as messenger:
            receipt = messenger.deliver(letter)
    except OSError as error:
        LOG.warning("the audit is not in MLflow: %s; %s", error, _later(run))
        return None
    if receipt.problem:
        LOG.warning("the audit is not in MLflow: %s; %s", receipt.problem, _later(run))
    elif receipt.note:
        LOG.info("MLflow: %s", receipt.note)
    return receipt.url


def track_study(tracking: TrackingConfig, directory: RunDirectory, what: str) -> str | None:
    """Send what is no audit to MLflow, within ``tracking.timeout_seconds``: a comparison of models, an exploration.

    Args:
        tracking: Section ``tracking`` of the config.
        directory: Its directory, which is two levels below the directory of the runs.
        what: Its name in a warning, for example ``the comparison``.

    Returns:
        Its address in MLflow, None if tracking is switched off or the store did not accept it.
    """
    if not tracking.enabled:
        return None
    runs = directory.path.parent.parent
    store = tracking.uri or (sqlite_uri(runs / "mlflow.db") if isinstance(runs, Path) else "")
    if not store:
        LOG.warning("%s is not in MLflow: no tracking store is named; set tracking.uri", what)
        return None
    try:
        with Messenger(tracking.timeout_seconds) as messenger:
            receipt = messenger.deliver(Letter(directory.path, store, tracking.experiment))
    except OSError as error:
        receipt = Receipt(problem=str(error))
    if receipt.problem:
        LOG.warning("%s is not in MLflow: %s; run the command again to send it", what, receipt.problem)
    return receipt.url


def letter_of(run: RunDirectory, tracking: TrackingConfig, uri: str | None = None) -> Letter:
    """Address a run to its tracking store.

    Args:
        run: The run.
        tracking: Section ``tracking`` of its config.
        uri: Store that replaces the one of the config; None for that of the config, or else a database beside the run.

    Raises:
        ValueError: If no store is named and the run is in an object store, which cannot hold a database.
    """
    beside = sqlite_uri(run.path.absolute().parent / "mlflow.db") if isinstance(run.path, Path) else ""
    store = uri or tracking.uri or beside
    if not store:
        raise ValueError(f"expected a tracking store for {run.path}, found none in its config; name one with --uri")
    return Letter(run.path, store, tracking.experiment, tracking.registered_model)


def warn_of_outage(tracking: TrackingConfig, uri: str) -> Thread | None:
    """Warn at the start of an audit if its tracking server does not answer, without waiting for the answer.

    Args:
        tracking: Section ``tracking`` of the config.
        uri: URI in effect.
    """
    if not tracking.enabled:
        return None

    def ask() -> None:
        obstacle = unreachable_tracking(uri)
        if obstacle:
            LOG.warning("%s; the audit continues, and its results stay in the run directory", obstacle)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    return thread


def _later(run: RunDirectory) -> str:
    path = str(run.path)
    if isinstance(run.path, Path) and run.path.is_relative_to(Path.cwd()):
        path = str(run.path.relative_to(Path.cwd()))
    path = f"./{path}" if path.startswith("-") else path  # else an option
    return f"send it later: {shlex.join(['difflens-audit', 'sync', path])}"
