"""What the exit code of ``difflens-audit`` says to the script that called it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; a scheduler can tell a failed gate from a failed machine."""

    PASS = 0
    """Everything was done and no gate failed."""
    GATE_FAILED = 1
    """The audit is complete and a gate failed."""
    USAGE = 2
    """A mistake in the command or the config."""
    INCOMPLETE = 3
    """Some shards failed for good; run again to try them again."""
    INFRASTRUCTURE = 4
    """The cluster, the workers or another service could not do their part."""
    INCONCLUSIVE = 5
    """The audit is complete, and there are too few images to decide a gate."""


def exit_code(verdict: str, *, complete: bool) -> ExitCode:
    """Return the exit code of an audit.

    Args:
        verdict: All gates together: ``pass``, ``fail``, ``inconclusive``, ``warn`` where only gates that warn failed,
            or ``none`` where the config names no gates.
        complete: Whether every shard was finished; an incomplete audit decides nothing.

    Raises:
        KeyError: If there is no such verdict.
    """
    if not complete:
        return ExitCode.INCOMPLETE
    return {
        "pass": ExitCode.PASS,
        "warn": ExitCode.PASS,
        "none": ExitCode.PASS,
        "fail": ExitCode.GATE_FAILED,
        "inconclusive": ExitCode.INCONCLUSIVE,
    }[verdict]


def at_gates(code: int, instead: int | None) -> int:
    """Return ``instead`` where the gates alone decided the exit code, for a caller to whom all but 0 is a crash.

    Args:
        code: Of the audit.
        instead: What 1 and 5 become; None leaves them.
    """
    return code if instead is None or code not in (ExitCode.GATE_FAILED, ExitCode.INCONCLUSIVE) else instead
