"""File names of a schedule's manifests: one directory per kind, so that each kind can be applied separately."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from audit.storage.local_files import write_atomically
from audit.storage.place import place_of
from ray_jobs.schedule.cron import Cron
from ray_jobs.schedule.manifests.kubernetes import (
    Deployment,
    Manifest,
    ScheduledAudit,
    cronjob,
    raycronjob,
    rayjob,
    to_yaml,
)
from ray_jobs.schedule.manifests.systemd import Units, to_unit

KINDS: Mapping[str, Callable[[Deployment], tuple[Manifest, ...]]] = {
    "cronjob": cronjob,
    "rayjob": rayjob,
    "raycronjob": raycronjob,
}


def kubernetes_files(deployment: Deployment, kind: str | None) -> dict[str, str]:
    """Return the files for one kind of Kubernetes object, or for all kinds: path → text."""
    kinds = KINDS if kind is None else {kind: KINDS[kind]}
    return {f"{name}/{name}.yaml": to_yaml(make(deployment)) for name, make in kinds.items()}


def systemd_files(audit: ScheduledAudit, config: Path, cron: Cron, time_zone: str, user: str) -> dict[str, str]:
    """Return the two units for an audit on this machine, with the current interpreter, run as ``user``.

    Raises:
        UnitError: If a path or the user's name cannot be written in a unit file.
    """
    units = Units(
        name=audit.name,
        program=Path(sys.executable).with_name("difflens-audit"),
        config=config.absolute(),
        output=place_of(audit.output).absolute(),
        directory=Path.cwd(),
        cron=cron,
        time_zone=time_zone,
        user=user,
    )
    return {
        f"systemd/difflens-{audit.name}.service": to_unit(units.service),
        f"systemd/difflens-{audit.name}.timer": to_unit(units.timer),
    }


def write_files(directory: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write the files under a directory, each atomically, and return their paths."""
    written = []
    for name, text in files.items():
        write_atomically(directory / name, text.encode())
        written.append(directory / name)
    return tuple(written)
