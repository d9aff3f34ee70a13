"""The section ``statement``: what the auditor declares about the audit, which no figure depends on."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from audit.config.fields import LINES, Section, Text, mistake


def _is_date(text: str) -> str:
    try:
        found: str | None = date.fromisoformat(text).isoformat()
    except ValueError:
        found = None
    if found != text:
        raise mistake(f"expected a date such as 2027-01-31, found {text!r}")
    return text


# A block of YAML ends with a line break, which is taken off.
Paragraph = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000, pattern=LINES)]
DateText = Annotated[str, AfterValidator(_is_date), Field(json_schema_extra={"format": "date"})]


class StatementConfig(Section):
    """What the auditor declares. The report prints the keys that are set. It changes no figure and no run's name."""

    responsible: Text | None = None
    """Person or body that answers for the audit."""
    role: Text | None = None
    """Role of the responsible person, for example ``head of model evaluation``."""
    independence: Paragraph | None = None
    """Relation of the auditor to those who make, sell or use the model."""
    intended_use: Paragraph | None = None
    """Use of the model for which the audit was made."""
    population: Paragraph | None = None
    """What the prompts stand for: the population of requests, users or occupations."""
    known_gaps: Paragraph | None = None
    """Known differences between this audit and the real use of the model."""
    model_energy: Paragraph | None = None
    """Energy that the model's training and use need, as its maker states it. The audit measures only its own energy."""
    valid_until: DateText | None = None
    """Last day on which the audit may be relied upon, as ``2027-01-31``. The report states if it is over."""

    @model_serializer(mode="wrap")
    def _without_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that the config does not set."""
        return {name: value for name, value in plain(self).items() if value is not None}
