"""What Ray raises in place of an answer is given its kind, since the kind decides what happens next."""

import errno

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfDiskError, RayTaskError

from ray_jobs.exit_codes import ExitCode
from ray_jobs.failures import code_of
from ray_jobs.faults import TRIED_AGAIN, FaultKind, kind_of, reason_of


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
        (ActorDiedError(raised(ValueError("no weights"))), FaultKind.NO_START),
        (NodeDiedError("gone"), FaultKind.LOST_NODE),
        (OutOfDiskError("full"), FaultKind.FULL_DISK),
    ],
)
def test_an_exception_has_the_kind_of_its_cause(error, kind):
    assert kind_of(error) == kind


def test_a_worker_on_a_node_that_the_cluster_has_lost_was_lost_with_it():
    assert kind_of(ActorDiedError(), dead_nodes=["ab12"], node="ab12") == FaultKind.LOST_NODE
    assert kind_of(ActorDiedError(), dead_nodes=["ab12"], node="cd34") == FaultKind.LOST_WORKER


def test_only_what_every_machine_would_say_is_not_tried_again():
    assert set(FaultKind) - TRIED_AGAIN == {FaultKind.ERROR}


def test_a_reason_is_one_line_without_the_trace():
    assert reason_of(raised(ValueError("no such layer"))) == "ValueError: no such layer"


def test_a_full_disk_on_the_driver_is_told_as_such_and_other_errors_of_the_system_are_bugs():
    assert code_of(OSError(errno.ENOSPC, "No space left on device")) == ExitCode.INFRASTRUCTURE
    assert code_of(OSError(errno.EINVAL, "Invalid argument")) is None
