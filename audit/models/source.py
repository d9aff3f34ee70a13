"""Where a model comes from and what its weights hash to; nothing here loads a network."""

from __future__ import annotations

import functools
from pathlib import Path

from audit.calibration.bundle import bundle_of, world_table
from audit.config.settings import ModelConfig
from audit.provenance import fingerprint

WEIGHT_FILES = ("**/*.safetensors", "**/*.json")


def pipeline_source(model: ModelConfig) -> str:
    """Directory or hub id of the diffusers pipeline of a model."""
    bundle = bundle_of(model)
    return str(bundle.pipeline) if bundle else model.source


def model_fingerprint(model: ModelConfig) -> str:
    """Hash of a model's weights and configs; of the table for ``rendered``; id and revision for a model on the hub."""
    if model.source == "rendered":
        table = world_table(model)
        return fingerprint(table.parent, (table.name,))
    source = pipeline_source(model)
    if Path(source).is_dir():
        return _directory_fingerprint(source)
    return f"{source}@{model.revision or 'main'}"


@functools.cache
def _directory_fingerprint(source: str) -> str:
    return fingerprint(Path(source), WEIGHT_FILES)
