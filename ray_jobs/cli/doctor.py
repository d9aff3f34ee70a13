"""Is everything here: packages, weights, Ray, GPUs, tracking server, disk.

Each check is a function that finds out one thing by trying it, and says what to do where it is missing.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.config.settings import AuditConfig
from audit.preflight.judges import warnings_of
from audit.preflight.output import unwritable
from audit.preflight.readiness import check_ready
from audit.preflight.tracking import unreachable_tracking, unusable_tracking
from audit.storage.outside.safe_text import redact
from audit.storage.place import Place, place_of
from audit.storage.provenance import cpu_model, package_versions
from ray_jobs.run.exit_codes import ExitCode

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "ray", "mlflow", "pandas", "pyarrow", "pydantic")
"""What an audit imports, by the names of the package index."""

MIN_FREE_BYTES = 1 << 30
"""Room for a run: images, tables and the tracking store of some tens of thousands of images."""

_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        ok: Whether it is as an audit needs it.
        detail: What was found.
        remedy: What to do; empty where all is well.
        needed: Whether an audit cannot do without it.
        mistake: Whether the config is what must be corrected, and not the machine.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
    mistake: bool = False


def examine(config: AuditConfig, address: str | None) -> tuple[Check, ...]:
    """Check this machine for an audit.

    Args:
        config: The audit; its output and tracking server are looked at.
        address: A Ray cluster; None starts one here and stops it again.
    """
    return (
        check_python(),
        check_packages(),
        check_weights(config),
        *check_config(config),
        check_processors(),
        check_ray(config, address),
        check_tracking(config),
        check_output(place_of(config.output)),
    )


def healthy(checks: Sequence[Check]) -> bool:
    """Whether nothing that is needed is missing."""
    return all(check.ok for check in checks if check.needed)


def doctor_exit_code(checks: Sequence[Check]) -> ExitCode:
    """Return the exit code of the doctor: a config that must be corrected is no fault of the machine."""
    missing = [check for check in checks if check.needed and not check.ok]
    if not missing:
        return ExitCode.PASS
    return ExitCode.USAGE if all(check.mistake for check in missing) else ExitCode.INFRASTRUCTURE


def check_python() -> Check:
    """Look at the interpreter."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def check_packages() -> Check:
    """Look at the versions of what an audit imports."""
    versions = package_versions(PACKAGES)
    missing = [name for name, version in versions.items() if version == "not installed"]
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Check("packages", not missing, found, f"pip install {' '.join(missing)}" if missing else "")


def check_weights(config: AuditConfig) -> Check:
    """Look for the calibration model's weights, the bundled ones or those of another world."""
    from audit.calibration.bundle import bundle_of

    bundle = bundle_of(config.model)
    if bundle is None:
        return Check("weights", True, f"the audit brings its own model: {config.model.source}", needed=False)
    parts = {"pipeline": bundle.pipeline, "judge": bundle.judge, "features": bundle.features, "clip": bundle.clip}
    missing = [name for name, path in parts.items() if not any(path.glob("**/*.safetensors"))]
    found = f"{bundle.path}: " + (f"no {', '.join(missing)}" if missing else ", ".join(parts))
    return Check("weights", not missing, found, "train them: make calibration" if missing else "")


def check_config(config: AuditConfig) -> tuple[Check, ...]:
    """Compare the config with what its model, judges, CLIP and feature network are and can be asked.

    What else a config can get wrong is the business of ``validate``; output and tracking have checks of their own.
    """
    own = {"output", "tracking"}
    mistakes = [problem for problem in check_ready(config) if problem.location[0] not in own]
    checks = [
        Check(".".join(map(str, problem.location)), False, problem.message, "correct the config", mistake=True)
        for problem in mistakes
    ]
    if not checks:
        networks = f"judge {config.judge.source}, clip {config.quality.clip}, features {config.quality.features}"
        checks.append(Check("config", True, f"fits model {config.model.source}, {networks}"))
    return (
        *checks,
        *(
            Check("config", False, warning, needed=False)
            for warning in warnings_of(config.judge, config.model, config.attributes)
        ),
    )


def check_processors() -> Check:
    """Look for GPUs; an audit of a published model wants one, the calibration model does not."""
    import torch

    cores = f"{os.cpu_count()} CPU cores ({cpu_model()})"
    if not torch.cuda.is_available():
        return Check("GPU", False, f"none; {cores}", "none needed for the calibration model", needed=False)
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found = ", ".join(f"{card.name} {card.total_memory / 2**30:.0f} GiB" for card in cards)
    return Check("GPU", True, f"{found}; {cores}", needed=False)


def check_ray(config: AuditConfig, address: str | None) -> Check:
    """Start Ray here, or attach to the cluster at ``address``."""
    from ray_jobs.cluster.connection import ClusterError, connect, worker_count

    place = address or "this machine"
    try:
        with connect(address, config.workers) as cluster:
            workers = worker_count(config.workers, cluster)
            found = f"{place}: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs, room for {workers} workers"
    except (ClusterError, OSError, RuntimeError, TimeoutError) as error:
        return Check("Ray", False, f"{place}: {error}", "start the cluster, or leave --address out to use this machine")
    return Check("Ray", True, found)


def check_tracking(config: AuditConfig) -> Check:
    """Ask the tracking server whether it is there; a database only for a place to be."""
    uri = config.tracking_uri
    if not config.tracking.enabled:
        return Check("tracking", True, "switched off in the config", needed=False)
    obstacle = unusable_tracking(uri) or unreachable_tracking(uri) or _no_answer(uri)
    shown = redact(uri)
    remedy = "start it, correct tracking.uri, or set tracking.enabled: false" if obstacle else ""
    return Check("tracking", obstacle is None, f"{shown}: {redact(obstacle)}" if obstacle else shown, remedy)


def check_output(output: Place) -> Check:
    """Find out whether runs can be kept there: on a disk with room, or in an object store that answers."""
    if isinstance(output, Path):
        return check_disk(output)
    obstacle = unwritable(output)
    remedy = "correct the store, its credentials, or --set output=" if obstacle else ""
    return Check("store", obstacle is None, obstacle or f"{output} can be listed, written to and deleted from", remedy)


def check_disk(output: Path) -> Check:
    """Look at the room where runs are kept."""
    obstacle = unwritable(output)
    if obstacle:
        return Check("disk", False, obstacle, "choose another directory with --set output=DIR")
    nearest = next(path for path in (output, *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    remedy = "make room, or choose another directory with --set output=DIR" if free < MIN_FREE_BYTES else ""
    return Check("disk", free >= MIN_FREE_BYTES, f"{free / 2**30:.1f} GiB free for {output}", remedy)


def _no_answer(uri: str) -> str | None:
    """Ask an MLflow server for its health; None where it answers, or where the URI is no server."""
    if not uri.startswith(("http://", "https://")):
        return None
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=_ANSWER_SECONDS):  # noqa: S310 - http, see above
            return None
    except urllib.error.HTTPError as error:
        return None if error.code in (401, 403) else f"expected an MLflow server, found one that answers {error.code}"
    except OSError as error:
        return f"expected an MLflow server, found no answer ({error})"
