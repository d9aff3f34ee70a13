"""Reads the progress of a run from its directory; no cluster is needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audit.storage.run_directory import FAILURES, PROGRESS, RunDirectory
from ray_jobs.run.progress.driver_process import is_gone

QUIET_SECONDS = 900.0
"""A running driver writes after each shard; a longer silence is reported."""

REQUIRED = frozenset({"state", "done", "total", "failed", "images_per_second", "eta_seconds", "host", "pid", "updated"})
"""Keys that the progress of every release has."""


class NoRunError(ValueError):
    """The directory holds no run."""


@dataclass(frozen=True)
class Status:
    """Progress of a run.

    A driver that was killed leaves ``running`` behind. Seen from its own machine its process is looked for; from
    anywhere else only its silence tells.

    Attributes:
        progress: ``progress.json`` as the driver left it, see ``ray_jobs.run.progress.display.Snapshot``.
        silent_seconds: Since the driver's last word.
        failures: How often each kind of fault is in ``failures.json``.
        driver_gone: Whether the run is marked as running and its driver has ended; also False if that cannot be seen.
    """

    progress: dict[str, Any]
    silent_seconds: float
    failures: dict[str, int]
    driver_gone: bool = False

    @property
    def silent(self) -> bool:
        """Whether the run is marked as running and has not written for long."""
        return bool(self.progress["state"] == "running" and self.silent_seconds > QUIET_SECONDS)


def status_of(run: RunDirectory, now: datetime | None = None) -> Status:
    """Read the progress of a run.

    Raises:
        NoRunError: If the directory holds no progress, or half of it.
    """
    if not run.has(PROGRESS):
        raise NoRunError(f"{run.path}: expected a run directory with {PROGRESS}, found none; start the audit first")
    progress = run.read_json(PROGRESS)
    missing = sorted(REQUIRED - progress.keys())
    if missing:
        raise NoRunError(
            f"{run.file(PROGRESS)}: expected the progress of an audit, found no {', '.join(missing)}; run the audit "
            "again"
        )
    failures = run.read_json(FAILURES)["failures"] if run.has(FAILURES) else []
    silent = (now or datetime.now(UTC)) - datetime.fromisoformat(progress["updated"])
    gone = progress["state"] == "running" and is_gone(progress) is True
    return Status(progress, silent.total_seconds(), dict(Counter(entry["kind"] for entry in failures)), gone)


def status_lines(status: Status) -> list[str]:
    """Describe the progress in words."""
    at = status.progress
    parts = [f"{at['done']:,} of {at['total']:,} shards"]
    parts += [f"{at['failed']:,} failed"] if at["failed"] else []
    parts += [f"{at['images_per_second']:.1f} images/s"] if at["images_per_second"] else []
    state = "stopped" if status.driver_gone else at["state"]
    if state == "running" and at["eta_seconds"]:
        parts.append(f"{at['eta_seconds'] / 60:.0f} min left")
    lines = [f"{state}: {', '.join(parts)}"]
    if status.failures:
        lines.append("faults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(status.failures.items())))
    if status.driver_gone:
        lines.append(f"its driver (process {at['pid']}) has ended without finishing; run the audit again to resume")
    elif status.silent:
        minutes = status.silent_seconds / 60
        host = at.get("host", "its driver")
        lines.append(f"no progress for {minutes:.0f} min from {host}: it may have ended; run the audit again to resume")
    return lines
