"""The JSON Schema of ``models.json``, from its records.

``python -m reports.models.schema > reports/schemas/models.schema.json`` writes the committed copy.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter

from audit.results.models.records import VERSION, ModelComparison

SCHEMA = "models.schema.json"


def models_schema() -> dict[str, Any]:
    """Return the schema; every key is always written, and the version is that of this release."""
    schema = TypeAdapter(ModelComparison).json_schema()
    schema["properties"]["version"] = {"const": VERSION}
    schema["required"] = list(schema["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    json.dump(models_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
