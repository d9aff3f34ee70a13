"""Replaces the statement of a finished run, without making or measuring an image again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from audit.config.errors import ConfigErrors
from audit.config.fields import Section
from audit.config.file import read_tree, validated
from audit.config.optional.statement import StatementConfig
from audit.storage.outside.safe_text import redact_tree
from audit.storage.run_directory import CONFIG, RunDirectory

KEY = "statement"


class _StatementFile(Section):
    """A config of which only the statement is read; it may be the whole config of the audit."""

    model_config = ConfigDict(extra="ignore")

    statement: StatementConfig


def read_statement(path: Path) -> dict[str, Any]:
    """Return the section ``statement`` of a YAML file, as plain data without secrets.

    Args:
        path: The config of the audit, or a file with this section alone.

    Raises:
        ConfigErrors: If the file cannot be read, has no such section, or has mistakes in it.
    """
    root, findings = read_tree(path)
    found = validated(root, findings, _StatementFile)
    errors = [error for error in findings.errors if not error.where or error.where.startswith(KEY)]
    if errors or found is None:
        raise ConfigErrors(errors)
    plain: dict[str, Any] = redact_tree(found.statement.model_dump(mode="json"))
    return plain


def with_statement(config: dict[str, Any], statement: dict[str, Any]) -> dict[str, Any]:
    """Return a stored config with another statement; an empty one is left out."""
    others = {key: value for key, value in config.items() if key != KEY}
    return {**others, KEY: statement} if statement else others


def store_statement(run: RunDirectory, statement: dict[str, Any]) -> None:
    """Write a statement into the config of a run."""
    run.write_json(CONFIG, with_statement(run.read_json(CONFIG), statement))
