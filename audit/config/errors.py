"""Errors in a config, formatted as ``file:line:column: where: expected, found, what to do``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.storage.outside.safe_text import printable, redact


@dataclass(frozen=True)
class ConfigError:
    """One error.

    Attributes:
        file: The file, or ``--set a.b`` for an error in an override.
        line: Line in the file, from 1; None for an override, and for a file that cannot be read.
        column: Column in the line, from 1; None in the same cases.
        where: Path of the value, for example ``mitigations[0].window``; empty for the file as a whole.
        message: What was expected, what was found, and what to do.
    """

    file: str
    line: int | None
    column: int | None
    where: str
    message: str

    def __str__(self) -> str:
        """Return ``file:line:column: where: message``."""
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.where, self.message) if part)


class ConfigErrors(Exception):
    """All errors of a config.

    Attributes:
        subject: Name of the input that has the errors, for messages that count them.
        errors: The errors, at least one, in file order; those of overrides come last.
    """

    subject = "config"

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        """Sort the errors, drop duplicates, and make the text that they quote safe to print and to log."""
        self.errors = tuple(sorted(set(map(_shown, errors)), key=_file_order))
        super().__init__("\n".join(map(str, self.errors)))


def _shown(error: ConfigError) -> ConfigError:
    file, where, message = (printable(redact(text)) for text in (error.file, error.where, error.message))
    return replace(error, file=file, where=where, message=message)


def _file_order(error: ConfigError) -> tuple[bool, int, int, str, str]:
    return (error.line is None, error.line or 0, error.column or 0, f"{error.file} {error.where}", error.message)
