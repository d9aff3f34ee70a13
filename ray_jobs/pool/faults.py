"""What can go wrong with a shard or with what computes it, and what the pool does about each kind."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from enum import StrEnum

from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)


class FaultKind(StrEnum):
    """Kinds of fault, as the manifest of failures names them; docs/reference/faults.md has the policy of each."""

    LOST_WORKER = "lost_worker"
    """The worker's process died."""
    LOST_NODE = "lost_node"
    """The machine of the worker went away."""
    LOST_DRIVER = "lost_driver"
    """An earlier driver of this run ended without a word."""
    NO_START = "no_start"
    """A worker could not be made: its constructor raised."""
    REFUSED = "refused"
    """A worker could not be made for what it was given: model, judge, lens or config; another would say the same."""
    TIMED_OUT = "timed_out"
    """No answer within the deadline: the worker hangs, or is far slower than the others."""
    OUT_OF_MEMORY = "out_of_memory"
    """Memory of the machine or of its GPU was too small even for single images."""
    SMALLER_BATCH = "smaller_batch"
    """Memory was too small for the batch; the worker made the shard in smaller ones."""
    BROKEN_DEVICE = "broken_device"
    """The GPU reported an error that leaves its context unusable."""
    FULL_DISK = "full_disk"
    """Nothing more could be written: no space, or no quota."""
    STORAGE = "storage"
    """Reading or writing failed otherwise."""
    NO_IMAGE = "no_image"
    """The model gave images of one single value: NaN in its latents, or the black of a safety filter."""
    CORRUPT_SHARD = "corrupt_shard"
    """The file of a finished shard cannot be read."""
    ERROR = "error"
    """The work itself raised; another machine would say the same."""


TRIED_AGAIN = frozenset(FaultKind) - {FaultKind.ERROR, FaultKind.REFUSED}
"""Kinds that tell of the machine and not of the task."""

OF_MACHINE = {
    "OutOfMemoryError": FaultKind.OUT_OF_MEMORY,
    "MemoryError": FaultKind.OUT_OF_MEMORY,
    "AcceleratorError": FaultKind.BROKEN_DEVICE,
}
"""Exceptions of a task, by class name, that tell of the machine. By name, because torch need not be imported here."""

OF_INPUT = ("ValueError", "UnfitModelError", "UntrustedModelError", "LensMismatch", "ConfigErrors")
"""Exceptions of a start, by class name, that tell of what the worker was given. By name, because that is what Ray keeps
of an exception in a constructor."""

OF_CODE = ("TypeError", "KeyError", "IndexError", "AttributeError", "NotImplementedError", "AssertionError")
"""Exceptions of a start, by class name, that tell of the code."""

_FRAME = re.compile(r'\s+File ".*", line \d+, in ')
_RAISED = re.compile(r"(?:[\w]+\.)*(?P<name>\w+)(?:: (?P<message>.*))?", re.DOTALL)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where there is no room to write."""


def kind_of(error: RayError, dead_nodes: Sequence[str] = (), node: str = "") -> FaultKind:
    """Classify what Ray raised in place of an answer.

    Args:
        error: The exception.
        dead_nodes: Ids of the nodes that the cluster has lost.
        node: Id of the node on which the actor was, empty where it never said.
    """
    if isinstance(error, RayTaskError):
        return _kind_of_cause(error.cause)
    if isinstance(error, OutOfMemoryError):
        return FaultKind.OUT_OF_MEMORY
    if isinstance(error, OutOfDiskError):
        return FaultKind.FULL_DISK
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _kind_of_start(error)
    lost_node = isinstance(error, NodeDiedError) or node in dead_nodes or _says_lost_node(error)
    return FaultKind.LOST_NODE if lost_node else FaultKind.LOST_WORKER


def reason_of(error: RayError) -> str:
    """Return the root of the error in one line, without the traceback of the worker."""
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"
    if getattr(error, "actor_init_failed", False):
        name, message = _raised_by_start(error)
        return f"{name}: {message}" if message else name
    return " ".join(str(error).split()) or type(error).__name__


def refusal_of(error: RayError) -> str:
    """Return what a worker said of what it was given, without the name of the exception."""
    name, message = _raised_by_start(error)
    return message or name


def is_full_disk(error: BaseException) -> bool:
    """Tell whether a write failed because there was no room."""
    return isinstance(error, OSError) and error.errno in FULL


def _kind_of_start(error: RayError) -> FaultKind:
    name, _ = _raised_by_start(error)
    if name in OF_INPUT:
        return FaultKind.REFUSED
    return FaultKind.ERROR if name in OF_CODE else FaultKind.NO_START


def _raised_by_start(error: RayError) -> tuple[str, str]:
    """Return class name and message of the exception that a constructor raised, from the end of its traceback."""
    lines = str(error).splitlines()
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    after = lines[frames[-1] + 1 :] if frames else lines[-1:]
    while after and after[0][:1].isspace():  # the source line, and marks under it
        after = after[1:]
    raised = " ".join(line.strip() for line in after if line.strip())
    match = _RAISED.fullmatch(raised)
    return (match["name"], match["message"] or "") if match else (type(error).__name__, raised)


def _kind_of_cause(cause: BaseException) -> FaultKind:
    if is_full_disk(cause):
        return FaultKind.FULL_DISK
    named = next((OF_MACHINE[kind.__name__] for kind in type(cause).__mro__ if kind.__name__ in OF_MACHINE), None)
    if named is not None:
        return named
    return FaultKind.STORAGE if isinstance(cause, OSError) else FaultKind.ERROR


def _says_lost_node(error: RayError) -> bool:
    return isinstance(error, ActorDiedError) and (error.preempted or "node has died" in str(error))
