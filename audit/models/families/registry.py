"""The model families by the pipeline classes that their members are published as."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.config.fields import CLOSED, WITHOUT_NETWORK
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.families.black_box import BlackBox, text_to_image_pipelines
from audit.models.families.flux import Flux
from audit.models.families.interface import Family
from audit.models.families.pixart import PixArtAlpha, PixArtSigma, Sana
from audit.models.families.stable_diffusion import LatentConsistency, StableDiffusion
from audit.models.families.stable_diffusion_3 import StableDiffusion3
from audit.models.families.stable_diffusion_xl import StableDiffusionXL
from audit.models.families.unet2d import Ddim, Unet2d
from audit.models.files.pipeline_files import PipelineConfigs, read_index
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.schedulers.published import steps_taken
from audit.models.source import pipeline_source
from audit.records.located.places import Place

_MEMBERS: tuple[Family, ...] = (
    StableDiffusion(),
    StableDiffusionXL(),
    StableDiffusion3(),
    Flux(),
    PixArtAlpha(),
    PixArtSigma(),
    Sana(),
    LatentConsistency(),
    Unet2d(),
    Ddim(),
)

BLACK_BOX: Family = BlackBox()
"""The family of every other text-to-image pipeline of diffusers."""

FAMILIES: Mapping[str, Family] = {pipeline: family for family in _MEMBERS for pipeline in family.pipelines}
"""Pipeline class → family."""


def family_of(index: Mapping[str, Any]) -> Family:
    """Return the family of a pipeline.

    Args:
        index: ``model_index.json``.

    Raises:
        UnfitModelError: No family has this pipeline class.
    """
    named = index.get("_class_name")
    family = FAMILIES.get(named) if isinstance(named, str) else None
    if family is None and named in text_to_image_pipelines():
        return BLACK_BOX
    if family is None:
        known = "; ".join(f"{one.name} ({' or '.join(one.pipelines)})" for one in _MEMBERS)
        raise UnfitModelError(f"expected a pipeline of a supported family: {known}; found {named}, not supported yet")
    return family


def family_here(model: ModelConfig) -> Family | None:
    """Return the family of a model; None if the model is not on this machine, or its family is not supported."""
    if model.source in CLOSED:
        return None
    try:
        return family_of(read_index(Path(pipeline_source(model))))
    except UnfitModelError:
        return None


def blocks_of(model: ModelConfig) -> tuple[str, ...]:
    """Return the top-level modules that hookpoints may begin with; those of every family if a model's is not known."""
    family = family_here(model)
    members = _MEMBERS if family is None else (family,)
    return tuple(dict.fromkeys(block for one in members for block in one.blocks))


def reads_text(model: ModelConfig) -> bool | None:
    """Return whether a model draws what a prompt says; None if its family is not known on this machine."""
    if model.source in WITHOUT_NETWORK:
        return True
    family = family_here(model)
    return None if family is None else family.reads_text


def size_here(model: ModelConfig, sampling: SamplingConfig) -> tuple[int, int] | None:
    """Return height and width of what a model denoises; None if they are not known on this machine."""
    configs = _configs_here(model)
    try:
        return None if configs is None else family_of(configs.index).size(configs, sampling)
    except ValueError:
        return None


def places_here(model: ModelConfig) -> tuple[Place, ...] | None:
    """Return the places of a model's denoiser; None if the model is not known on this machine."""
    configs = _configs_here(model)
    return None if configs is None else family_of(configs.index).places(configs)


def rows_here(model: ModelConfig, sampling: SamplingConfig) -> int:
    """Return how often an image passes the denoiser in a step; that of classifier-free guidance if it is not known."""
    configs = _configs_here(model)
    if configs is None:
        return 2 if sampling.guidance > 1 else 1
    return family_of(configs.index).rows(configs, sampling)


def steps_here(model: ModelConfig, sampling: SamplingConfig) -> int:
    """Return the steps of an image, with one call of the denoiser each; as set if the scheduler is not known here."""
    return steps_taken(str(scheduler_here(model, sampling)), sampling.steps)


def scheduler_here(model: ModelConfig, sampling: SamplingConfig) -> str | None:
    """Return the class of the scheduler that samples a model; None if it is not known on this machine."""
    if sampling.scheduler is not None:
        return sampling.scheduler
    configs = _configs_here(model)
    named = None if configs is None else configs.index.get("scheduler")
    return None if named is None else str(named[-1])


def _configs_here(model: ModelConfig) -> PipelineConfigs | None:
    """Read the configs of a model; None if the model is not on this machine or not as its family has it."""
    if model.source in WITHOUT_NETWORK:
        return None
    directory = Path(pipeline_source(model))
    try:
        index = read_index(directory)
        family = family_of(index)
        return None if any(family.unfit_index(index)) else PipelineConfigs.read(directory, family.configs(index))
    except UnfitModelError:
        return None
