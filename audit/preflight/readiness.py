"""Checks a config against this machine, before any work: files, the calibration world, shapes, the tracking server.

Nothing here loads a network or asks for a GPU. Each check finds :class:`Problem` records, so that a caller who has the
file at hand can show them at their lines, beside the mistakes of the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from audit.config.problems import Problem
from audit.config.settings import AuditConfig
from audit.preflight.instrument_checks import check_judges
from audit.preflight.lens import check_lens
from audit.preflight.model import check_model
from audit.preflight.output import check_output
from audit.preflight.prompts import check_gates, check_prompts, check_targets
from audit.preflight.quality import check_quality
from audit.preflight.tracking import check_tracking


def check_ready(config: AuditConfig) -> Iterator[Problem]:
    """Find what would stop an audit of this config on this machine.

    Yields:
        Problems, each with its place in the config; nothing where all is ready.
    """
    for section, check in _CHECKS.items():
        try:
            yield from check(config)
        except OSError as error:  # a name too long for the file system, a directory that must not be looked into
            message = f"expected a file or directory that can be looked at, found {str(error.filename)[:80]!r}"
            yield Problem((section,), f"{message} ({error.strerror}); check the path")


_CHECKS: Mapping[str, Callable[[AuditConfig], Iterator[Problem]]] = {
    "model": check_model,
    "prompts": check_prompts,
    "judge": check_judges,
    "lens": check_lens,
    "quality": check_quality,
    "targets": check_targets,
    "gates": check_gates,
    "output": check_output,
    "tracking": check_tracking,
}
"""Section of the config → what this machine must have for it."""
