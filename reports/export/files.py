"""Writes the export files of a finished audit: all files except the HTML report."""

from __future__ import annotations

from audit.records.result import AuditResult
from audit.storage.run_directory import INTERSECTIONS, JUNIT, MODEL_CARD, SUMMARY, TABLE, RunDirectory
from reports.export.audit_json import intersections_to_csv, to_csv, write_audit_json
from reports.export.junit import to_junit
from reports.export.markdown import to_markdown
from reports.export.model_card import to_model_card


def write_exports(run: RunDirectory, result: AuditResult) -> None:
    """Write ``audit.json``, and from its content CSV tables, a Markdown summary, JUnit XML and a model-card snippet."""
    write_audit_json(run, result)
    texts = {
        TABLE: to_csv(result),
        INTERSECTIONS: intersections_to_csv(result),
        SUMMARY: to_markdown(result),
        JUNIT: to_junit(result),
        MODEL_CARD: to_model_card(result),
    }
    for name, text in texts.items():
        run.write_bytes(name, text.encode())
