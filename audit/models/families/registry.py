"""The model families by the pipeline classes that their members are published as."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.config.sections import ModelConfig
from audit.models.families.interface import Family
from audit.models.families.stable_diffusion.family import StableDiffusion
from audit.models.families.unet2d.family import Unet2d
from audit.models.files.pipeline_files import read_index
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.source import pipeline_source

_MEMBERS: tuple[Family, ...] = (StableDiffusion(), Unet2d())

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
    if family is None:
        known = "; ".join(f"{one.name} ({' or '.join(one.pipelines)})" for one in _MEMBERS)
        raise UnfitModelError(f"expected a pipeline of a supported family: {known}; found {named}, not supported yet")
    return family


def family_here(model: ModelConfig) -> Family | None:
    """Return the family of a model; None if the model is not on this machine, or its family is not supported."""
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
    if model.source == "rendered":
        return True
    family = family_here(model)
    return None if family is None else family.reads_text
