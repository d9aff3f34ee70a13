"""Loads the segmenter that a config names: that of the calibration model's drawings, or CLIPSeg with texts."""

from __future__ import annotations

from pathlib import Path

from audit.calibration.bundle import NETWORK_CONFIG, NETWORK_FILES, bundle_of
from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError
from audit.perception.segmenters.interface import Segmenter
from audit.storage.outside.json_object import read_json_object
from audit.storage.provenance import short_fingerprint

BUNDLED_SEGMENTER = "bundled"


def load_segmenter(segmenter: SegmenterConfig, model: ModelConfig) -> Segmenter:
    """Load a segmenter onto this process's device.

    Raises:
        UnfitModelError: The directory holds something else, or the model has no bundled segmenter.
    """
    obstacle = segmenter_problem(segmenter, model)
    if obstacle is not None:
        raise UnfitModelError(obstacle)
    from audit.models.device import device_here  # imports torch

    if segmenter.source == BUNDLED_SEGMENTER:
        from audit.perception.segmenters.drawings import DrawingSegmenter

        return DrawingSegmenter(_bundled(model), device_here())
    from audit.perception.segmenters.clipseg import ClipSegmenter

    return ClipSegmenter(Path(segmenter.source), segmenter.parts, segmenter.threshold, device_here())


def segmenter_problem(segmenter: SegmenterConfig, model: ModelConfig) -> str | None:
    """Return why a segmenter cannot be used, without loading it; None if nothing is wrong."""
    if segmenter.source != BUNDLED_SEGMENTER:
        return _clipseg_problem(segmenter)
    if bundle_of(model) is None:
        return (
            f"concepts.segmenter.source: expected the directory of a CLIPSeg model for model {model.source!r}, found "
            "'bundled', which knows the calibration model's pictures alone; download CIDAS/clipseg-rd64-refined, name "
            "its directory, and list the parts"
        )
    if not (_bundled(model) / NETWORK_FILES[0]).is_file():
        return (
            f"expected the bundled segmenter in {_bundled(model)}, found none; train it: python -m "
            "audit.training.instruments.segmenter"
        )
    return None


def segmenter_parts(segmenter: SegmenterConfig, model: ModelConfig) -> tuple[str, ...]:
    """Return the parts that a segmenter names, in the order of its labels; no weights are read."""
    if segmenter.source != BUNDLED_SEGMENTER:
        return tuple(segmenter.parts)
    config = read_json_object(_bundled(model) / NETWORK_CONFIG, "the config of a segmenter")
    return tuple(config["parts"])


def segmenter_name(segmenter: SegmenterConfig, model: ModelConfig) -> str:
    """Return the source of a segmenter and the fingerprint of its weights: other weights may give other masks."""
    if segmenter.source == BUNDLED_SEGMENTER:
        return f"{BUNDLED_SEGMENTER}:{short_fingerprint(_bundled(model), NETWORK_FILES)}"
    return f"{segmenter.source}:{short_fingerprint(Path(segmenter.source))}"


def _bundled(model: ModelConfig) -> Path:
    bundle = bundle_of(model)
    if bundle is None:
        raise UnfitModelError(f"model {model.source!r} has no bundled segmenter; name a CLIPSeg directory")
    return bundle.segmenter


def _clipseg_problem(segmenter: SegmenterConfig) -> str | None:
    if not segmenter.parts:
        return (
            f"concepts.segmenter.parts: expected the parts to ask {segmenter.source!r} for, found none; write a name "
            "and a text for each, such as hair: the hair of a person"
        )
    from audit.perception.segmenters.clipseg import check_clipseg

    try:
        check_clipseg(Path(segmenter.source))
    except (UnfitModelError, UntrustedModelError) as error:
        return f"concepts.segmenter.source: {error}"
    return None
