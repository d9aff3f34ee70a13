"""The MLflow run of a study that is no audit: found again by the name of its directory, filled, and then finished.

The directory's name contains everything that decides the figures. So a study that is made again updates its run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.storage.outside.safe_text import redact
from audit.storage.run_directory import RunDirectory
from reports.tracking.client import client_of, experiment_of, literal, tracking_errors
from reports.tracking.outbox import TrackedRun
from reports.tracking.runs import RUN_NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class StudyRun:
    """A study's run, open for its figures.

    Attributes:
        client: Client of the store.
        run: The run.
        tracked: Its address.
        ended: When the study ended, in milliseconds since 1970.
    """

    client: MlflowClient
    run: Run
    tracked: TrackedRun
    ended: int

    def log_files(self, place: RunDirectory, names: Iterable[str]) -> None:
        """Log files of the study's directory as artifacts."""
        for name in names:
            with place.on_disk(name) as path:
                self.client.log_artifact(self.tracked.run_id, str(path))


@contextmanager
def study_run(place: RunDirectory, result: str, tag: str, *, uri: str, experiment: str) -> Iterator[StudyRun]:
    """Find or create the run of a study, and mark it finished at the end.

    Args:
        place: Directory of the study.
        result: Name of the file with its result, which dates the run.
        tag: Tag with the name of the directory.
        uri: Tracking server or database.
        experiment: Name of the experiment.

    Raises:
        UnreachableError: The store cannot be reached or has an internal error.
        TrackingError: The URI is a file store, or the store refuses.
    """
    ended = int(place.storage.written(result) * 1000)
    with tracking_errors(place, uri):
        client = client_of(uri)
        experiment_id = experiment_of(client, uri, experiment)
        run = _found_or_created(client, experiment_id, tag, place.path.name, ended)
        run_id = str(run.info.run_id)
        yield StudyRun(client, run, TrackedRun(redact(uri), experiment_id, run_id, {}, ""), ended)
        client.set_terminated(run_id, "FINISHED", ended)


def _found_or_created(client: MlflowClient, experiment_id: str, tag: str, name: str, started: int) -> Run:
    found = client.search_runs([experiment_id], filter_string=f"tags.`{tag}` = '{literal(name)}'")
    if found:
        return min(found, key=lambda run: str(run.info.run_id))
    return client.create_run(experiment_id, start_time=started, tags={tag: name, RUN_NAME: name})
