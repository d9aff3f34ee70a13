"""Connects to the MLflow tracking store, and converts its failures to one readable error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from audit.storage.outside.safe_text import redact
from audit.storage.place import sqlite_file
from audit.storage.run_directory import RunDirectory
from reports.tracking.registered_model import OtherWeightsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SHOWN = 300
"""Number of characters of a store's answer that a message repeats."""
_TRY_AGAIN = (408, 429)


class TrackingError(RuntimeError):
    """The tracking store did not accept all of the audit. The results are complete in the run directory."""


class UnreachableError(TrackingError):
    """The store cannot be reached or has an internal error; a retry can succeed."""


@contextmanager
def tracking_errors(run: RunDirectory, uri: str) -> Iterator[None]:
    """Convert exceptions of MLflow, its database and its HTTP client to ``TrackingError``; others pass unchanged."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    def message(found: str) -> str:
        return (
            f"expected {redact(uri)} to accept the audit, found {found}. The results are safe in {run.path}; "
            f"run `difflens-audit sync {run.path}` to send them again"
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
        raise TrackingError(f"the audit is in MLflow, but no registered model was tagged: {error}") from error


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
    return f"an error of the store: {_short(error)}"


def _short(error: Exception) -> str:
    lines = redact(str(error)).splitlines()
    return lines[0][:_SHOWN] if lines else type(error).__name__


def client_of(uri: str) -> MlflowClient:
    """Return a client of a tracking server or a database.

    Raises:
        TrackingError: The URI is of a file store.
    """
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


def experiment_of(client: MlflowClient, uri: str, name: str) -> str:
    """Find or create the experiment; a database stores its artifacts in its own directory, not the working one."""
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


def literal(text: str) -> str:
    """Refuse a single quote, which would end a string literal in MLflow's filter language."""
    if "'" in text:
        raise TrackingError(
            f"expected a name without a single quote, found {text!r}; rename it before you log the audit"
        )
    return text
