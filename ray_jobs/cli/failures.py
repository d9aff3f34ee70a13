"""Classifies expected errors of users and of the infrastructure, each with its exit code; anything else is a bug."""

from __future__ import annotations

from audit.dissect.lens import LensMismatch
from audit.evidence.archive import BundleError
from audit.evidence.keys import KeyFileError
from audit.evidence.protocol import ProtocolError
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.perception.judges.trial import TrialError
from audit.results.comparison.compare import NothingToCompareError
from audit.results.replay.recorded import NotReplayableError
from audit.storage.object_store import StorageError
from audit.storage.place import PlaceError
from audit.storage.run_directory import CorruptShardError, RunConflictError, UnreadableRunError
from ray_jobs.cluster.connection import ClusterError
from ray_jobs.cluster.submit import DashboardAddressError, NotSubmittedError
from ray_jobs.fetch.errors import FetchError, UnreachableError
from ray_jobs.pool.actor_pool import PoolError, RefusedError
from ray_jobs.pool.faults import is_full_disk
from ray_jobs.run.exit_codes import ExitCode
from ray_jobs.run.parts import PreparationError
from ray_jobs.run.progress.status import NoRunError
from ray_jobs.run.summary import NoImagesError
from ray_jobs.run.sync import NothingToSyncError
from ray_jobs.schedule.cron import CronError, TimeZoneError
from ray_jobs.schedule.manifests.kubernetes import ManifestError
from ray_jobs.schedule.manifests.systemd import UnitError

CODES: dict[type[Exception], ExitCode] = {
    RunConflictError: ExitCode.USAGE,
    UnreadableRunError: ExitCode.USAGE,
    NoRunError: ExitCode.USAGE,
    ProtocolError: ExitCode.USAGE,
    BundleError: ExitCode.USAGE,
    KeyFileError: ExitCode.USAGE,
    NothingToCompareError: ExitCode.USAGE,
    NotReplayableError: ExitCode.USAGE,
    PlaceError: ExitCode.USAGE,
    LensMismatch: ExitCode.USAGE,
    CronError: ExitCode.USAGE,
    TimeZoneError: ExitCode.USAGE,
    ManifestError: ExitCode.USAGE,
    UnitError: ExitCode.USAGE,
    NothingToSyncError: ExitCode.USAGE,
    NotSubmittedError: ExitCode.USAGE,
    DashboardAddressError: ExitCode.USAGE,
    UntrustedModelError: ExitCode.USAGE,
    UnfitModelError: ExitCode.USAGE,
    TrialError: ExitCode.USAGE,
    FetchError: ExitCode.USAGE,
    RefusedError: ExitCode.USAGE,
    ClusterError: ExitCode.INFRASTRUCTURE,
    PoolError: ExitCode.INFRASTRUCTURE,
    PreparationError: ExitCode.INFRASTRUCTURE,
    NoImagesError: ExitCode.INCOMPLETE,
    CorruptShardError: ExitCode.INFRASTRUCTURE,
    StorageError: ExitCode.INFRASTRUCTURE,
    UnreachableError: ExitCode.INFRASTRUCTURE,
}


def code_of(error: Exception) -> ExitCode | None:
    """Return the exit code of an expected error, None for a bug."""
    if is_full_disk(error):
        return ExitCode.INFRASTRUCTURE
    if isinstance(error, PreparationError) and error.of_input:
        return ExitCode.USAGE
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
