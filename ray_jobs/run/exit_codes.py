"""Exit codes of ``difflens-audit``."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; they distinguish a failed gate from a failed machine."""

    PASS = 0
    """The audit is complete and no gate failed."""
    GATE_FAILED = 1
    """The audit is complete and a gate failed."""
    USAGE = 2
    """A mistake in the command or the config."""
    INCOMPLETE = 3
    """Some shards failed; run the audit again to retry them."""
    INFRASTRUCTURE = 4
    """The cluster, the workers or another service failed."""
    INCONCLUSIVE = 5
    """The audit is complete, and there are too few images to decide a gate."""


def exit_code(verdict: str, *, complete: bool) -> ExitCode:
    """Return the exit code of an audit.

    Args:
        verdict: All gates together: ``pass``, ``fail``, ``inconclusive``, ``warn`` where only gates that warn failed,
            or ``none`` where the config names no gates.
        complete: Whether every shard was finished; an incomplete audit decides nothing.

    Raises:
        KeyError: If the verdict is unknown.
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
    """Return ``instead`` if only the gates decided the exit code, for callers that treat any code but 0 as a crash.

    Args:
        code: Exit code of the audit.
        instead: Replaces 1 and 5; None keeps them.
    """
    return code if instead is None or code not in (ExitCode.GATE_FAILED, ExitCode.INCONCLUSIVE) else instead
