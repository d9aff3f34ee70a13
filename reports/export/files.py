"""Writes the export files of a finished audit: all files except the HTML report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from audit.evidence.adherence import with_adherence
from audit.evidence.statement_change import store_statement, with_statement
from audit.records.result import SCHEMA_VERSION, AuditResult
from audit.storage.run_directory import (
    IMPACT_RATIOS,
    INTERSECTIONS,
    JUNIT,
    MODEL_CARD,
    SUMMARY,
    TABLE,
    RunDirectory,
    UnreadableRunError,
)
from reports.export.audit_json import intersections_to_csv, read_audit_json, to_csv, write_audit_json
from reports.export.impact_csv import impact_ratios_to_csv
from reports.export.junit import to_junit
from reports.export.markdown import to_markdown
from reports.export.model_card import to_model_card


def write_exports(run: RunDirectory, result: AuditResult) -> None:
    """Write ``audit.json``, and from its content CSV tables, a Markdown summary, JUnit XML and a model-card snippet."""
    write_audit_json(run, result)
    for name, text in export_texts(result).items():
        run.write_bytes(name, text.encode())


def export_texts(result: AuditResult) -> dict[str, str]:
    """Return the content of every export except ``audit.json``, by the name of its file."""
    return {
        TABLE: to_csv(result),
        INTERSECTIONS: intersections_to_csv(result),
        IMPACT_RATIOS: impact_ratios_to_csv(result),
        SUMMARY: to_markdown(result),
        JUNIT: to_junit(result),
        MODEL_CARD: to_model_card(result),
    }


def replace_statement(run: RunDirectory, statement: dict[str, Any]) -> None:
    """Replace the auditor's statement in the config of a finished run and in its ``audit.json``.

    Args:
        run: The run.
        statement: The new section ``statement``.

    Raises:
        UnreadableRunError: If an older release wrote ``audit.json``; rewriting it would change more than the statement.
    """
    result = read_audit_json(run)
    if result.schema_version != SCHEMA_VERSION:
        raise UnreadableRunError(
            f"{run.path}: expected schema version {SCHEMA_VERSION} of audit.json to replace the statement, found "
            f"{result.schema_version}; run the audit again"
        )
    said = replace(result, config=with_statement(dict(result.config), statement))
    write_audit_json(run, with_adherence(run, said))
    store_statement(run, statement)
