"""Kinds of fault of a shard or a worker, and the policy of the pool for each."""

from __future__ import annotations

import builtins
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
    """Kinds of fault, as named in the failure manifest; docs/reference/faults.md describes the policy for each."""

    LOST_WORKER = "lost_worker"
    """The worker's process died."""
    LOST_NODE = "lost_node"
    """The worker's machine was lost."""
    LOST_DRIVER = "lost_driver"
    """An earlier driver of this run was killed."""
    NO_START = "no_start"
    """A worker could not start: its constructor raised."""
    REFUSED = "refused"
    """A worker rejected its input (model, judge, lens or config); every other worker would reject it too."""
    TIMED_OUT = "timed_out"
    """No answer within the deadline: the worker hangs, or is much slower than the others."""
    OUT_OF_MEMORY = "out_of_memory"
    """The memory of the machine or its GPU was too small even for single images."""
    SMALLER_BATCH = "smaller_batch"
    """The memory was too small for the batch; the worker made the shard in smaller batches."""
    BROKEN_DEVICE = "broken_device"
    """The GPU reported an error that makes its context unusable."""
    FULL_DISK = "full_disk"
    """A write failed: no space, or a quota was exceeded."""
    STORAGE = "storage"
    """Another error of reading or writing."""
    NO_IMAGE = "no_image"
    """The model returned constant images: NaN in its latents, or blank images of a safety filter."""
    CORRUPT_SHARD = "corrupt_shard"
    """The file of a finished shard is unreadable."""
    ERROR = "error"
    """The task itself raised; it would raise on every machine."""


TRIED_AGAIN = frozenset(FaultKind) - {FaultKind.ERROR, FaultKind.REFUSED}
"""Kinds that are caused by the machine, not by the task."""

OF_MACHINE = {
    "OutOfMemoryError": FaultKind.OUT_OF_MEMORY,
    "MemoryError": FaultKind.OUT_OF_MEMORY,
    "AcceleratorError": FaultKind.BROKEN_DEVICE,
}
"""Task exceptions by class name that are caused by the machine. Names, so that torch need not be imported here."""

OF_INPUT = ("ValueError", "UnfitModelError", "UntrustedModelError", "LensMismatch", "ConfigErrors")
"""Exceptions by class name that are caused by the input. Names, because Ray keeps only the name of an exception in a
constructor."""

OF_CODE = ("TypeError", "KeyError", "IndexError", "AttributeError", "NotImplementedError", "AssertionError")
"""Start exceptions by class name that are caused by the code."""

_OURS = ("audit", "ray_jobs", "reports")
"""Packages whose exceptions have messages for users, as a ValueError and an error of the operating system have."""

_NUMBERED = "[Errno "
"""Start of the message of an OSError that has an ``errno``, all that is left of one in a constructor."""

_FRAME = re.compile(r'\s+File ".*", line \d+, in ')
_RAISED = re.compile(r"(?P<module>(?:\w+\.)*)(?P<name>\w+)(?:: (?P<message>.*))?", re.DOTALL)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error codes of the operating system for a full disk or quota."""


def kind_of(error: RayError, dead_nodes: Sequence[str] = (), node: str = "", *, starting: bool = False) -> FaultKind:
    """Classify the error that Ray raised instead of an answer.

    Args:
        error: The exception.
        dead_nodes: Ids of the nodes that the cluster lost.
        node: Id of the actor's node, empty if it never reported it.
        starting: Whether the actor was being started, or prepared for other tasks.
    """
    if isinstance(error, RayTaskError):
        return _kind_of_start(error) if starting else _kind_of_cause(error.cause)
    if isinstance(error, OutOfMemoryError):
        return FaultKind.OUT_OF_MEMORY
    if isinstance(error, OutOfDiskError):
        return FaultKind.FULL_DISK
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _kind_of_start(error)
    lost_node = isinstance(error, NodeDiedError) or node in dead_nodes or _says_lost_node(error)
    return FaultKind.LOST_NODE if lost_node else FaultKind.LOST_WORKER


def reason_of(error: RayError) -> str:
    """Return the root cause in one line, without the worker's traceback.

    The name of the exception is left out if its message is written for users: that of a ``ValueError`` or ``OSError``,
    of this project's own exceptions, and of an error of the operating system with its number. Other exceptions keep it,
    because ``'mid_block'`` alone is no reason and ``KeyError: 'mid_block'`` is one. A bug that is a ``ValueError``
    loses its name too.
    """
    if not isinstance(error, RayTaskError) and not getattr(error, "actor_init_failed", False):
        return " ".join(str(error).split()) or type(error).__name__
    module, name, text = _raised_by_task(error)
    message = " ".join(text.split())
    if not message:
        return name
    return message if _is_for_users(module, name, message) else f"{name}: {message}"


def _is_for_users(module: str, name: str, message: str) -> bool:
    """Return whether the message of an exception is written for users, by the module and the name of its class."""
    builtin = getattr(builtins, name, None) if module in ("", "builtins") else None
    of_system = isinstance(builtin, type) and issubclass(builtin, OSError) and message.startswith(_NUMBERED)
    return of_system or builtin in (ValueError, OSError) or module.partition(".")[0] in _OURS


def is_of_input(error: RayError) -> bool:
    """Return whether a task failed because of its input, so that the message is about what the user wrote."""
    return isinstance(error, RayTaskError) and type(error.cause).__name__ in OF_INPUT


def is_full_disk(error: BaseException) -> bool:
    """Return whether a write failed because the disk or quota was full."""
    return isinstance(error, OSError) and error.errno in FULL


def _kind_of_start(error: RayError) -> FaultKind:
    _, name, _ = _raised_by_task(error)
    if name in OF_INPUT:
        return FaultKind.REFUSED
    return FaultKind.ERROR if name in OF_CODE else FaultKind.NO_START


def _raised_by_task(error: RayError) -> tuple[str, str, str]:
    """Return module, class name and message of an exception; a constructor's is read from the end of its traceback."""
    if isinstance(error, RayTaskError):
        kind = type(error.cause)
        return kind.__module__, kind.__name__, str(error.cause)
    lines = str(error).splitlines()
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    after = lines[frames[-1] + 1 :] if frames else lines[-1:]
    while after and after[0][:1].isspace():  # skip the source line and the marks under it
        after = after[1:]
    raised = " ".join(line.strip() for line in after if line.strip())
    match = _RAISED.fullmatch(raised)
    if match is None:
        return type(error).__module__, type(error).__name__, raised
    return match["module"].rstrip("."), match["name"], match["message"] or ""


def _kind_of_cause(cause: BaseException) -> FaultKind:
    if is_full_disk(cause):
        return FaultKind.FULL_DISK
    named = next((OF_MACHINE[kind.__name__] for kind in type(cause).__mro__ if kind.__name__ in OF_MACHINE), None)
    if named is not None:
        return named
    return FaultKind.STORAGE if isinstance(cause, OSError) else FaultKind.ERROR


def _says_lost_node(error: RayError) -> bool:
    return isinstance(error, ActorDiedError) and (error.preempted or "node has died" in str(error))
