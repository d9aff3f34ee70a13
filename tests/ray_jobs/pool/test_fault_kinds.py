"""Tests the classification of Ray's errors, which determines the pool's reaction."""

import errno
import json

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfDiskError, RayTaskError

from audit.models.files.untrusted_model import UnfitModelError
from audit.storage.object_store import StorageError
from ray_jobs.cli.failures import code_of
from ray_jobs.fetch.errors import UnreachableError
from ray_jobs.pool.faults import TRIED_AGAIN, FaultKind, kind_of, reason_of
from ray_jobs.run.exit_codes import ExitCode
from ray_jobs.run.prepare.fits import FitError


def raised(cause):
    error = RayTaskError("do", "a long traceback", cause)
    error.cause = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(ValueError("wrong")), FaultKind.ERROR),
        (raised(torch.OutOfMemoryError("CUDA out of memory")), FaultKind.OUT_OF_MEMORY),
        (raised(MemoryError()), FaultKind.OUT_OF_MEMORY),
        (raised(torch.AcceleratorError("CUDA error: an illegal memory access")), FaultKind.BROKEN_DEVICE),
        (raised(OSError(errno.ENOSPC, "No space left on device")), FaultKind.FULL_DISK),
        (raised(OSError(errno.EDQUOT, "Disk quota exceeded")), FaultKind.FULL_DISK),
        (raised(ConnectionResetError("the store hung up")), FaultKind.STORAGE),
        (ActorDiedError(), FaultKind.LOST_WORKER),
        (ActorDiedError(raised(OSError("no weights"))), FaultKind.NO_START),
        (NodeDiedError("gone"), FaultKind.LOST_NODE),
        (OutOfDiskError("full"), FaultKind.FULL_DISK),
    ],
)
def test_an_exception_has_the_kind_of_its_cause(error, kind):
    assert kind_of(error) == kind


def test_a_worker_on_a_node_that_the_cluster_has_lost_was_lost_with_it():
    assert kind_of(ActorDiedError(), dead_nodes=["ab12"], node="ab12") == FaultKind.LOST_NODE
    assert kind_of(ActorDiedError(), dead_nodes=["ab12"], node="cd34") == FaultKind.LOST_WORKER


def test_only_errors_that_are_the_same_on_every_machine_are_not_retried():
    assert set(FaultKind) - TRIED_AGAIN == {FaultKind.ERROR, FaultKind.REFUSED}


def test_a_refusal_at_the_start_is_distinguished_from_a_machine_fault():
    trace = "\x1b[36mray::ShardWorker.__init__()\x1b[39m\n  File worker.py, line 1\n"
    said = "a.pt: expected the weights of FairFace, found 9 outputs instead of 18"
    refused = RayTaskError("init", f"{trace}audit.models.files.untrusted_model.UnfitModelError: {said}", ValueError())
    assert kind_of(ActorDiedError(refused)) == FaultKind.REFUSED
    assert reason_of(ActorDiedError(refused)) == said
    other = RayTaskError("init", f"{trace}OSError: No such file: UnfitModelError.pt", OSError())
    assert kind_of(ActorDiedError(other)) == FaultKind.NO_START


def test_a_reason_is_one_line_without_the_trace():
    assert reason_of(raised(ValueError("no such layer"))) == "no such layer"


@pytest.mark.parametrize(
    "error", [UnfitModelError("a: b"), FitError("a:\n  b"), StorageError("a: b"), UnreachableError("a: b")]
)
def test_a_message_for_users_has_no_name_of_a_class(error):
    assert reason_of(raised(error)) == "a: b"


def test_an_error_of_the_system_says_what_happened_itself():
    error = raised(FileNotFoundError(errno.ENOENT, "No such file or directory", "x.pt"))
    assert reason_of(error) == "[Errno 2] No such file or directory: 'x.pt'"


@pytest.mark.parametrize(
    "error", [KeyError("a"), TimeoutError("timed out"), RuntimeError("CUDA error"), json.JSONDecodeError("a", "", 0)]
)
def test_a_bug_keeps_the_name_that_explains_it(error):
    assert reason_of(raised(error)) == f"{type(error).__name__}: {error}"


def test_a_full_disk_on_the_driver_is_reported_and_other_system_errors_are_bugs():
    assert code_of(OSError(errno.ENOSPC, "No space left on device")) == ExitCode.INFRASTRUCTURE
    assert code_of(OSError(errno.EINVAL, "Invalid argument")) is None


def start_raised(*lines):
    frames = 'ray::Worker.__init__() (pid=1, ip=127.0.0.1)\n  File "w.py", line 9, in __init__\n    load()\n'
    error = RayTaskError(
        "__init__", frames + '  File "w.py", line 3, in load\n    raise it\n    ^^^^^^^^\n' + "\n".join(lines), None
    )
    return ActorDiedError(error)


@pytest.mark.parametrize(
    ("raised_last", "kind", "reason"),
    [
        (["ValueError: no lens: make one"], FaultKind.REFUSED, "no lens: make one"),
        (["audit.models.files.untrusted_model.UnfitModelError: a", "  b"], FaultKind.REFUSED, "a b"),
        (["KeyError: 'mid_block'"], FaultKind.ERROR, "KeyError: 'mid_block'"),
        (["RuntimeError: CUDA error"], FaultKind.NO_START, "RuntimeError: CUDA error"),
        (["OSError: [Errno 5] Input/output error"], FaultKind.NO_START, "[Errno 5] Input/output error"),
        (["TimeoutError: timed out"], FaultKind.NO_START, "TimeoutError: timed out"),
        (["MemoryError"], FaultKind.NO_START, "MemoryError"),
    ],
)  # fmt: skip
def test_refused_starts_are_distinguished_from_machine_faults(raised_last, kind, reason):
    error = start_raised(*raised_last)
    assert kind_of(error) == kind
    assert reason_of(error) == reason
