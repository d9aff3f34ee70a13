"""Checks of this machine for an audit: packages, weights, Ray, GPUs, tracking server, disk.

Each function tests one thing and returns a remedy if it fails.
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
from itertools import chain
from pathlib import Path

from audit.config.fields import AGE_AND_GENDER
from audit.config.problems import Problem
from audit.config.settings import AuditConfig
from audit.perception.faces.files import GET_LIBRARIES
from audit.preflight.judges import warnings_of
from audit.preflight.output import unwritable
from audit.preflight.readiness import check_composed, check_explored, check_ready, needs_of
from audit.preflight.tracking import unreachable_tracking, unusable_tracking
from audit.preflight.weights.missing import missing_files
from audit.preflight.weights.needs import Need, finds_persons_by_faces
from audit.storage.outside.safe_text import redact
from audit.storage.place import Place, place_of
from audit.storage.provenance import cpu_model, package_versions
from ray_jobs.run.exit_codes import ExitCode

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "ray", "mlflow", "pandas", "pyarrow", "pydantic")
"""Packages that an audit imports, by their names on the package index."""

MIN_FREE_BYTES = 1 << 30
"""Space for a run: images, tables and the tracking store of some tens of thousands of images."""

BUNDLE_COMMAND = "difflens-audit fetch CONFIG --to DIR"

_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: What was checked.
        ok: Whether the check passed.
        detail: What was found.
        remedy: What to do; empty if the check passed.
        needed: Whether an audit is impossible without it.
        mistake: Whether the config must be corrected, not the machine.
        command: Exact command that does what is needed, for a shell; empty if there is none.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
    mistake: bool = False
    command: str = ""


def examine(config: AuditConfig, address: str | None) -> tuple[Check, ...]:
    """Check this machine for an audit.

    Args:
        config: The audit; its output and tracking server are checked.
        address: A Ray cluster; None starts one on this machine and stops it again.
    """
    return (
        check_python(),
        check_packages(),
        check_weights(config),
        *check_faces(config),
        *check_files(config),
        *check_config(config),
        check_processors(),
        check_ray(config, address),
        check_tracking(config),
        check_output(place_of(config.output)),
    )


def healthy(checks: Sequence[Check]) -> bool:
    """Return whether every needed check passed."""
    return all(check.ok for check in checks if check.needed)


def doctor_exit_code(checks: Sequence[Check]) -> ExitCode:
    """Return the exit code of the doctor; an error in the config has another code than a fault of the machine."""
    missing = [check for check in checks if check.needed and not check.ok]
    if not missing:
        return ExitCode.PASS
    return ExitCode.USAGE if all(check.mistake for check in missing) else ExitCode.INFRASTRUCTURE


def check_python() -> Check:
    """Check the Python version."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def check_packages() -> Check:
    """Check the versions of the packages that an audit imports."""
    versions = package_versions(PACKAGES)
    missing = [name for name, version in versions.items() if version == "not installed"]
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Check("packages", not missing, found, f"pip install {' '.join(missing)}" if missing else "")


def check_weights(config: AuditConfig) -> Check:
    """Check the weights of the calibration model, bundled or of another world."""
    from audit.calibration.bundle import bundle_of

    bundle = bundle_of(config.model)
    if bundle is None:
        return Check("weights", True, f"not needed, the model is {config.model.source}", needed=False)
    parts = {"pipeline": bundle.pipeline, "judge": bundle.judge, "features": bundle.features, "clip": bundle.clip}
    missing = [name for name, path in parts.items() if not any(path.glob("**/*.safetensors"))]
    found = f"{bundle.path}: " + (f"no {', '.join(missing)}" if missing else ", ".join(parts))
    return Check("weights", not missing, found, "train them with: make calibration" if missing else "")


def check_faces(config: AuditConfig) -> tuple[Check, ...]:
    """Check the packages that find faces, if a judge or ``compose`` needs them; ``check_config`` checks their files."""
    judges = (config.judge, *config.second_opinions)
    by_faces = finds_persons_by_faces(config.compositions, config.model)
    names = ["dlib-bin"] if by_faces or any(judge.face_settings is not None for judge in judges) else []
    names += ["onnxruntime"] if any(judge.source == AGE_AND_GENDER for judge in judges) else []
    versions = package_versions(names)
    missing = "not installed" in versions.values()
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (Check("faces", not missing, found, GET_LIBRARIES if missing else ""),) if names else ()


def check_files(config: AuditConfig) -> tuple[Check, ...]:
    """Look for every file, directory and hub model that the config names.

    What the hub offers is not needed here if the hub answers, because a run downloads it.
    """
    missing = tuple(missing_files(needs_of(config)))
    if not missing:
        return ()
    from_hub = any(one.automatic for one in missing)
    silence = hub_silence() if from_hub else None
    checks = [
        Check(
            one.need.key,
            False,
            one.described,
            one.remedy,
            needed=not one.automatic or silence is not None,
            command=one.command,
        )
        for one in missing
    ]
    if from_hub:
        found = silence or "it answers, so that a run downloads what is missing"
        remedy = f"on a connected machine: {BUNDLE_COMMAND}, then copy DIR here"
        checks.append(Check("hub", silence is None, found, remedy if silence else ""))
    return tuple(checks)


def hub_silence() -> str | None:
    """Return why nothing can be downloaded from the hub; None if it answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, so that nothing is downloaded"
    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=_ANSWER_SECONDS):  # noqa: S310 - set by the user
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return f"{constants.ENDPOINT}: expected the hub, found no answer ({error})"


def check_config(config: AuditConfig) -> tuple[Check, ...]:
    """Compare the config with its model, judges, CLIP and feature network, and with what other commands ask for.

    ``validate`` checks the rest of the config; output, tracking, missing files and packages have their own checks.
    """
    own = {"output", "tracking"}
    absent = [one.need for one in missing_files(needs_of(config))]
    no_libraries = not all(check.ok for check in check_faces(config))
    mistakes = [
        problem
        for problem in chain(check_ready(config), check_explored(config), check_composed(config))
        if problem.location[0] not in own
        and not (no_libraries and GET_LIBRARIES in problem.message)
        and not any(_is_about(problem, need) for need in absent)
    ]
    checks = [
        Check(".".join(map(str, problem.location)), False, problem.message, "correct the config", mistake=True)
        for problem in mistakes
    ]
    if not checks and not absent:
        features = config.quality.features
        named = features if isinstance(features, str) else f"{features.network} {features.weights}"
        networks = f"judge {config.judge.source}, clip {config.quality.clip}, features {named}"
        checks.append(Check("config", True, f"matches model {config.model.source}, {networks}"))
    return (
        *checks,
        *(
            Check("config", False, warning, needed=False)
            for warning in warnings_of(config.judge, config.model, config.attributes)
        ),
    )


def _is_about(problem: Problem, need: Need) -> bool:
    """Return whether a problem is that something is missing; files of a package have no place in the config."""
    return problem.location == need.location or (need.install is not None and need.install in problem.message)


def check_processors() -> Check:
    """Look for GPUs; a published model needs one, the calibration model does not."""
    import torch

    cores = f"{os.cpu_count()} CPU cores ({cpu_model()})"
    if not torch.cuda.is_available():
        return Check("GPU", False, f"no GPU; {cores}", "the calibration model needs none", needed=False)
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found = ", ".join(f"{card.name} {card.total_memory / 2**30:.0f} GiB" for card in cards)
    return Check("GPU", True, f"{found}; {cores}", needed=False)


def check_ray(config: AuditConfig, address: str | None) -> Check:
    """Start Ray on this machine, or connect to the cluster at ``address``."""
    from ray_jobs.cluster.connection import ClusterError, connect, worker_count

    place = address or "this machine"
    try:
        with connect(address, config.workers) as cluster:
            workers = worker_count(config.workers, cluster)
            room = f"room for {workers} worker{'s' * (workers != 1)}"
            found = f"{place}: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs, {room}"
    except (ClusterError, OSError, RuntimeError, TimeoutError) as error:
        return Check("Ray", False, f"{place}: {error}", "start the cluster, or omit --address to use this machine")
    return Check("Ray", True, found)


def check_tracking(config: AuditConfig) -> Check:
    """Check that the tracking server answers, or that a database has a writable location."""
    uri = config.tracking_uri
    if not config.tracking.enabled:
        return Check("tracking", True, "disabled in the config", needed=False)
    obstacle = unusable_tracking(uri) or unreachable_tracking(uri) or _no_answer(uri)
    shown = redact(uri)
    remedy = "start it, correct tracking.uri, or set tracking.enabled: false" if obstacle else ""
    return Check("tracking", obstacle is None, f"{shown}: {redact(obstacle)}" if obstacle else shown, remedy)


def check_output(output: Place) -> Check:
    """Check that runs can be stored: on a disk with enough space, or in an object store that answers."""
    if isinstance(output, Path):
        return check_disk(output)
    obstacle = unwritable(output)
    remedy = "correct the store, its credentials, or --set output=" if obstacle else ""
    return Check("store", obstacle is None, obstacle or f"{output} can be listed, written to and deleted from", remedy)


def check_disk(output: Path) -> Check:
    """Check the free disk space for runs."""
    obstacle = unwritable(output)
    if obstacle:
        return Check("disk", False, obstacle, "choose another directory with --set output=DIR")
    nearest = next(path for path in (output, *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    remedy = "free some space, or choose another directory with --set output=DIR" if free < MIN_FREE_BYTES else ""
    return Check("disk", free >= MIN_FREE_BYTES, f"{free / 2**30:.1f} GiB free for {output}", remedy)


def _no_answer(uri: str) -> str | None:
    """Check the health of an MLflow server; None if it answers, or if the URI is not a server's."""
    if not uri.startswith(("http://", "https://")):
        return None
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=_ANSWER_SECONDS):  # noqa: S310 - http, see above
            return None
    except urllib.error.HTTPError as error:
        return None if error.code in (401, 403) else f"expected an MLflow server, found one that answers {error.code}"
    except OSError as error:
        return f"expected an MLflow server, found no answer ({error})"
