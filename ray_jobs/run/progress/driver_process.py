"""Identifies the process that drives an audit, so that others can see whether it still runs.

A process number alone says little: containers on one machine number their processes each for themselves, a machine that
was started again begins anew, and a number is given to another process in time. A process is therefore named with the
space that its number belongs to and the moment of its start. Only a process of the same space can be looked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROC = Path("/proc")

_START_AFTER_STATE = 19
"""``starttime`` is field 22 of /proc/PID/stat, ``state`` field 3 (proc_pid_stat(5))."""


def this_process() -> dict[str, Any]:
    """Return what identifies this process; empty if the system does not say."""
    state = _state_and_start(os.getpid())
    space = _space()
    return {"pid_space": space, "pid_start": state[1]} if state and space else {}


def is_gone(told: Mapping[str, Any]) -> bool | None:
    """Return whether the process that wrote ``told`` has ended.

    Args:
        told: Its ``pid`` and what ``this_process`` returned there.

    Returns:
        None where that cannot be seen from here: another machine, another container, or a file that does not say.
    """
    space, start, pid = told.get("pid_space"), told.get("pid_start"), told.get("pid")
    if not space or space != _space() or not isinstance(pid, int):
        return None
    found = _state_and_start(pid)
    return found is None or found[0] in "ZX" or found[1] != start


def _space() -> str:
    """Return the start of this machine and the namespace of its process numbers; empty if neither is known."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """Return the state of a process and its start in clock ticks since boot; None if there is none."""
    try:
        line = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = line.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return fields[0], int(fields[_START_AFTER_STATE])
