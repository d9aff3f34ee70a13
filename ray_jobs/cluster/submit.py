"""Audits on a remote cluster through Ray's Jobs API: submit, follow and cancel.

Ray Client is not used, since its driver would run on this side of the network. The cluster receives this project as a
wheel and the config as a file. Weights and results are found by paths that must be the same on every node.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from audit.calibration.bundle import bundle_of
from audit.config.models.read import ModelAudits
from audit.config.settings import AuditConfig
from audit.evidence.protocol import protocol_beside
from audit.storage.place import place_of
from ray_jobs.cluster.connection import ClusterError
from ray_jobs.cluster.project_wheel import build_wheel
from ray_jobs.cluster.relative_paths import relative_paths

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

CONFIG_FILE = "audit.yaml"
"""Name of the config in the job's working directory."""

BUNDLED = "bundled"
POLL_SECONDS = 2.0
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


HOW_TO_AUTHENTICATE = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token or RAY_AUTH_TOKEN_PATH to a file that holds it "
    "(~/.ray/auth_token is read without either)"
)
"""How Ray's clients receive a token."""


class NotSubmittedError(ValueError):
    """The config cannot run on a cluster as it is."""


class DashboardAddressError(ValueError):
    """The address is not that of a dashboard."""


def submit(
    config: AuditConfig | ModelAudits,
    address: str,
    run_id: str | None = None,
    gate_exit_code: int | None = None,
    protocol: bytes | None = None,
) -> str:
    """Submit an audit to a cluster and return the job's id without waiting for the job.

    Args:
        config: The audit, or the audits of several models.
        address: Address of the cluster's dashboard, for example ``http://head:8265``.
        run_id: Name of the run directory under ``config.output``; by default the name that ``run_audit`` chooses.
        gate_exit_code: Exit code of the job if gates fail or are inconclusive, since Ray marks non-zero codes as
            FAILED. None for the codes of ``difflens-audit run``.
        protocol: Content of the protocol that was registered for the audit, which the job finds beside its config.

    Raises:
        NotSubmittedError: If the results would be deleted with the job, or the config has relative paths.
        DashboardAddressError: If the address is not that of a dashboard.
        ClusterError: If the cluster cannot be reached, or refuses.
    """
    audits = {audit.model: audit.config for audit in config.audits} if isinstance(config, ModelAudits) else {"": config}
    output = place_of(config.output)
    if isinstance(output, Path) and not output.is_absolute():
        raise NotSubmittedError(
            "output: expected an absolute path that every node of the cluster sees, or an address such as "
            f"s3://bucket/runs, found {config.output!r}, which is deleted with the job's directory; set output"
        )
    relative = {f"{model} {key}".lstrip(): p for model, own in audits.items() for key, p in relative_paths(own).items()}
    if relative:
        raise NotSubmittedError(
            "expected absolute paths that every node of the cluster sees, found relative paths, missing in the job's "
            f"directory: {', '.join(f'{key}: {path}' for key, path in relative.items())}"
        )
    command = ["python", "-m", "ray_jobs", "run", CONFIG_FILE, *(["--run-id", run_id] if run_id else [])]
    if gate_exit_code is not None:
        command += ["--gate-exit-code", str(gate_exit_code)]
    with tempfile.TemporaryDirectory() as scratch, _jobs(address) as jobs:
        place = Path(scratch) / "job"
        place.mkdir()
        data = config.as_file() if isinstance(config, ModelAudits) else config.model_dump(mode="json")
        (place / CONFIG_FILE).write_text(json.dumps(data, indent=1), encoding="utf-8")
        if protocol is not None:
            protocol_beside(place / CONFIG_FILE).write_bytes(protocol)
        wheel = build_wheel(Path(scratch), with_weights=any(map(needs_bundle, audits.values())))
        job: str = jobs.submit_job(
            entrypoint=shlex.join(command),
            runtime_env={"working_dir": str(place), "py_modules": [str(wheel)]},
            metadata={"difflens.audit": config.name},
        )
    return job


def needs_bundle(config: AuditConfig) -> bool:
    """Return whether an audit uses the bundled weights."""
    clip = config.judge.zero_shot.clip if config.judge.zero_shot is not None else None
    measures = (config.judge.source, clip, config.quality.clip, config.quality.features)
    return bundle_of(config.model) is not None or BUNDLED in measures


def follow(job: str, address: str) -> Iterator[str]:
    """Yield the output of a job in pieces, until it ends.

    Raises:
        ClusterError: If the cluster cannot be reached, or has no such job.
    """
    printed = 0
    with _jobs(address) as jobs:
        while True:
            ended = jobs.get_job_status(job) in ENDED  # before the logs, so that the last output is not lost
            text = jobs.get_job_logs(job)
            if len(text) > printed:
                yield text[printed:]
                printed = len(text)
            if ended:
                return
            time.sleep(POLL_SECONDS)


def logs(job: str, address: str) -> str:
    """Return the output of a job so far.

    Raises:
        ClusterError: If the cluster cannot be reached, or has no such job.
    """
    with _jobs(address) as jobs:
        text: str = jobs.get_job_logs(job)
        return text


def cancel(job: str, address: str) -> bool:
    """Stop a job and return whether it was still running; finished shards are kept.

    Raises:
        ClusterError: If the cluster cannot be reached, or has no such job.
    """
    with _jobs(address) as jobs:
        return bool(jobs.stop_job(job))


def exit_code_of(job: str, address: str) -> int | None:
    """Return the exit code of a job's audit, None if the audit did not end.

    Raises:
        ClusterError: If the cluster cannot be reached, or has no such job.
    """
    with _jobs(address) as jobs:
        code: int | None = jobs.get_job_info(job).driver_exit_code
        return code


@contextmanager
def _jobs(address: str) -> Iterator[JobSubmissionClient]:
    """Connect to the Jobs API; with ``RAY_AUTH_MODE=token`` Ray adds the token to each request. Messages omit it."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    _check_dashboard(address)
    try:
        yield JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ClusterError(
            f"expected a token that the cluster at {address} accepts, found {_token_given()}; {HOW_TO_AUTHENTICATE}"
        ) from error
    except (ConnectionError, OSError) as error:
        raise ClusterError(f"expected Ray's dashboard at {address}, found none ({_first_line(error)})") from error
    except RuntimeError as error:
        raise ClusterError(f"the cluster at {address} refused the request: {_first_line(error)}") from error


def _check_dashboard(address: str) -> None:
    """Refuse an address that Ray's client would resolve for half a minute, or treat as a Ray cluster address.

    Raises:
        DashboardAddressError: If it has another scheme than http and https, or names no host.
    """
    try:
        parts = urlsplit(address)
        found = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:  # the port is not a number
        found = None
    if found is None or any(sign.isspace() for sign in address):
        bare = re.fullmatch(r"[\w.-]+(:\d+)?", address)
        remedy = f"write http://{address}{'' if ':' in address else ':8265'}" if bare else "its default port is 8265"
        raise DashboardAddressError(
            f"expected the address of Ray's dashboard such as http://head:8265, found {address!r}; {remedy}"
        )


def _token_given() -> str:
    """Describe the token of this process without its value."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return "none"
    named = [name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)]
    return f"a rejected token in {named[0]}" if named else "none, or a rejected token in ~/.ray/auth_token"


def _first_line(error: Any) -> str:  # noqa: ANN401 - any exception
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
