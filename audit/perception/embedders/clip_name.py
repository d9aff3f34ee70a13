"""Names a CLIP model by its weights, without loading them."""

from __future__ import annotations

from pathlib import Path

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.storage.provenance import short_fingerprint


def clip_name(source: str, model: ModelConfig) -> str:
    """Return the source of a CLIP model, with the fingerprint of its weights if they are on this machine.

    Args:
        source: ``quality.clip`` of the config.
        model: The audited model, whose bundle may include a CLIP model.
    """
    bundle = bundle_of(model)
    directory = bundle.clip if bundle is not None and source == "bundled" else Path(source)
    return f"{source}:{short_fingerprint(directory)}" if directory.is_dir() else source
