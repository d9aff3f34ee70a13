"""What a file with ``models`` may say: the keys of an audit, and under ``models`` one entry for each model.

An entry has the keys of the section ``model``. Beside them it may have ``sampling``, ``lens`` and ``mitigations``,
because these depend on the model's architecture. Everything else is written once and is equal for all models.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from audit.config.fields import MOST_MODELS, FileName, Section, ShortName

MERGED = ("sampling", "lens")
"""Sections of an entry whose keys replace the same keys of the shared section."""

LONGEST_NAME = 39
"""Longest name of a comparison, so that the name of an audit is at most 60 characters long."""


class ModelsFile(Section):
    """The keys that belong to all models together; those of the audits are checked in the audit of each model."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[FileName, StringConstraints(max_length=LONGEST_NAME)]
    """Name of the comparison; an audit is called ``<name>-<model>``."""
    models: dict[ShortName, dict[str, Any]] = Field(min_length=2, max_length=MOST_MODELS)
    """Name of a model → keys of the section ``model``, and optionally ``sampling``, ``lens`` and ``mitigations``."""
