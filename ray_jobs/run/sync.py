"""Sends finished runs to MLflow that an outage, a deadline or a kill kept from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from audit.config.sections import TrackingConfig
from audit.storage.outside.safe_text import redact
from audit.storage.place import Place
from audit.storage.run_directory import AUDIT, CONFIG, PROVENANCE, RunDirectory
from ray_jobs.run.track import letter_of
from reports.tracking.handover import Letter, Messenger, Receipt
from reports.tracking.outbox import REQUIRED


class NothingToSyncError(ValueError):
    """The path is not a finished run and holds none."""


@dataclass(frozen=True)
class Synced:
    """The outcome for one run.

    Attributes:
        run_path: The run directory.
        receipt: What the tracking store took; its problem says why not.
        skipped: Why nothing was tried, empty where it was.
    """

    run_path: Place
    receipt: Receipt
    skipped: str = ""

    @property
    def answer(self) -> str:
        """The outcome in one line."""
        if self.skipped:
            return f"skipped, {self.skipped}"
        if self.receipt.problem:
            return f"not in MLflow: {self.receipt.problem}"
        taken = f"{self.receipt.sent} items sent" if self.receipt.sent else "already up to date"
        return "; ".join(filter(None, (f"{taken}, {self.receipt.url}", self.receipt.note)))


def sync(paths: Sequence[Place], uri: str | None = None, seconds: float = 600.0) -> Iterator[Synced]:
    """Send runs, the oldest first, so that the latest audit decides about a registered model.

    Args:
        paths: Run directories, and directories that hold some.
        uri: Another store than the one that each run's config names.
        seconds: Longest time for one run.

    Yields:
        One record per run. If a store does not answer, other runs for it are not tried.

    Raises:
        NothingToSyncError: If a path is not a finished run and holds none; raised before anything is sent.
    """
    return _synced([(run, _letter(run, uri)) for run in runs_in(paths)], seconds)


def runs_in(paths: Sequence[Place]) -> tuple[RunDirectory, ...]:
    """Return the runs under the paths, each once, in the order of their start.

    Raises:
        NothingToSyncError: If a path is not a finished run and holds none.
    """
    found = {_whole(run.path): run for path in paths for run in _runs_at(path)}
    return tuple(sorted(found.values(), key=lambda run: (_begun(run), run.path.name)))


def _synced(letters: Sequence[tuple[RunDirectory, Letter | str]], seconds: float) -> Iterator[Synced]:
    down: dict[str, str] = {}
    with Messenger(seconds) as messenger:
        for run, letter in letters:
            if isinstance(letter, str):
                yield Synced(run.path, Receipt(), skipped=letter)
            elif letter.uri in down:
                problem = f"not tried, because {redact(letter.uri)} did not accept {down[letter.uri]}"
                yield Synced(run.path, Receipt(problem=problem, unreachable=True))
            else:
                receipt = messenger.deliver(letter)
                if receipt.unreachable:
                    down[letter.uri] = run.path.name
                yield Synced(run.path, receipt)


def _whole(place: Place) -> Place:
    return place.resolve() if isinstance(place, Path) else place


def _runs_at(path: Place) -> list[RunDirectory]:
    run = RunDirectory(path)
    if run.has(CONFIG) or run.has(AUDIT):
        missing = _unfinished(run)
        if missing:
            raise NothingToSyncError(f"{path}: expected a finished run, {missing}; finish the audit first")
        return [run]
    inside = [RunDirectory(path / name) for name in run.storage.folders()]
    runs = [run for run in inside if run.has(CONFIG)]
    if not runs:
        raise NothingToSyncError(f"{path}: expected a run directory or a directory of runs, found {_found_at(path)}")
    return runs


def _found_at(path: Place) -> str:
    if isinstance(path, Path):
        return "a directory without runs" if path.is_dir() else "a file" if path.exists() else "nothing"
    return "no run under that address"


def _unfinished(run: RunDirectory) -> str:
    missing = [name for name in REQUIRED if not run.has(name)]
    return f"found no {' and no '.join(missing)}" if missing else ""


def _letter(run: RunDirectory, uri: str | None) -> Letter | str:
    """Address a run by its own config, or return why it is not sent."""
    missing = _unfinished(run)
    if missing:
        return f"unfinished: {missing}"
    try:
        section: dict[str, Any] = run.read_json(CONFIG)["tracking"]
        tracking = TrackingConfig.model_validate(section)
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise NothingToSyncError(f"{run.file(CONFIG)}: expected the run's tracking section, found {error!r}") from error
    if not tracking.enabled and uri is None:
        return "tracking is switched off in its config; name a store with --uri"
    try:
        return letter_of(run, tracking, uri)
    except ValueError as error:
        raise NothingToSyncError(str(error)) from error


def _begun(run: RunDirectory) -> str:
    try:
        return str(run.read_json(PROVENANCE).get("created", ""))
    except (OSError, ValueError):
        return ""
