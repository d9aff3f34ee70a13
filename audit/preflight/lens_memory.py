"""Forecasts the disk space and memory of a dissection from a model's configs, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from audit.config.fields import WITHOUT_NETWORK
from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.slices import DissectionRequest
from audit.dissect.settings import dissected_groups, dissection_of
from audit.preflight.lens import mid_block_shape

if TYPE_CHECKING:
    from audit.dissect.recording.forecast import Forecast


def lens_forecast(request: DissectionRequest) -> Forecast | None:
    """Forecast the dissection of a request; None if the model is not on this machine, or cannot be dissected."""
    if request.model.source in WITHOUT_NETWORK:
        return None
    from audit.dissect.recording.forecast import forecast
    from audit.models.families.registry import steps_here

    lenses = [dissection_of(one) for one in request.of_each_lens()]
    found = {lens.hookpoint: _map_here(request.model, request.sampling, lens.hookpoint) for lens in lenses}
    shapes = {hookpoint: shape for hookpoint, shape in found.items() if shape is not None}
    if len(shapes) < len(found):
        return None
    groups = [len(names) for names in dissected_groups(request.lens, request.attributes).values()]
    return forecast(lenses, groups, steps_here(request.model, request.sampling), shapes)


def _map_here(model: ModelConfig, sampling: SamplingConfig, hookpoint: str) -> tuple[int, int, int] | None:
    """Return the shape (C, H, W) of a map at the sampled image size; that of a mid block takes no dry run."""
    known = mid_block_shape(model, sampling) if hookpoint == "mid_block" else None
    if known is not None:
        return known
    from audit.models.check import hookpoints_of
    from audit.models.families.registry import size_here
    from audit.models.source import pipeline_source

    directory = Path(pipeline_source(model))
    if not directory.is_dir():
        return None
    try:
        found = hookpoints_of(directory, model).get(hookpoint)
    except (ValueError, OSError):  # reported by validate
        return None
    published = sampling.model_copy(update={"height": None, "width": None})
    own, usual = size_here(model, sampling), size_here(model, published)
    if found is None or own is None or usual is None:
        return found
    channels, height, width = found
    down, across = own[0] / usual[0], own[1] / usual[1]
    if width == 1:  # tokens in a row
        return channels, round(height * down * across), 1
    return channels, max(1, round(height * down)), max(1, round(width * across))
