"""Checks the lens that a config names or describes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.config.fields import WITHOUT_NETWORK
from audit.config.mitigations.arms import ArmConfig, located
from audit.config.mitigations.section import chosen_by_method
from audit.config.problems import MODEL_KEYS, Location, Problem, listing, suggestion
from audit.config.sections import LensConfig, ModelConfig, SamplingConfig
from audit.dissect.settings import LENS_FILE, LENS_FORMAT
from audit.records.located.places import Place
from audit.storage.outside.json_object import read_json_object


class UnknownBlocksError(ValueError):
    """The model is not on this machine, so its blocks are not known."""


def check_lens(
    lens: LensConfig, model: ModelConfig, sampling: SamplingConfig, hookpoints: Mapping[Location, str]
) -> Iterator[Problem]:
    """Find a lens that is missing or of another format, and hookpoints and sizes that the model does not have.

    Yields:
        Problems, each with its place in the config.
    """
    if lens.path is not None:
        yield from _named_lens(Path(lens.path))
    if model.source in WITHOUT_NETWORK:
        return
    from audit.models.families.registry import blocks_of

    blocks = blocks_of(model)
    for place, path in hookpoints.items():
        if chosen_by_method(place):
            yield from _no_own_module(place, path, model)
        else:
            yield from _no_module(place, path, blocks)
        yield from _no_text_of_blocks(place, model)
    for place, own in _each_lens(lens):
        yield from _too_few_latents(place, own, _latents(own, model, sampling))


def _each_lens(lens: LensConfig) -> Iterator[tuple[Location, LensConfig]]:
    """Yield the lens and its variants with their places in the config."""
    yield ("lens",), lens
    for number, variant in enumerate(lens.variants):
        yield ("lens", "variants", number), lens.model_copy(update=variant.model_dump(exclude_none=True))


def _too_few_latents(at: Location, lens: LensConfig, latents: int | None) -> Iterator[Problem]:
    for name in ("k", "features_per_group"):
        wanted = getattr(lens, name)
        if latents is not None and wanted > latents:
            message = f"expected at most the {latents} latents that there will be, found {wanted}; raise lens.expansion"
            yield Problem((*at, name), message, reads=(("lens", "expansion"), ("lens", "hookpoint"), *MODEL_KEYS))


def hookpoints_of(lens: LensConfig | None, mitigations: Sequence[ArmConfig]) -> dict[Location, str]:
    """Return the modules that an audit reads or edits, by their place in the config; a lens of None is not used."""
    edited: dict[Location, str] = {
        (*place, mitigation.edited_key, number): path
        for place, mitigation in located(mitigations)
        for number, path in enumerate(mitigation.edited_modules)
    }
    edited |= {
        ("mitigations", index, "if_needed", "blocks", number): path
        for index, arm in enumerate(mitigations)
        for number, path in enumerate(() if arm.if_needed is None else arm.if_needed.edited_modules)
    }
    edited |= {
        (*place, mitigation.edited_key): mitigation.own_module
        for place, mitigation in located(mitigations)
        if mitigation.own_module is not None
    }
    if lens is None:
        return edited
    return {(*place, "hookpoint"): own.hookpoint for place, own in _each_lens(lens)} | edited


def no_network(model: ModelConfig) -> str | None:
    """Return why nothing inside a model can be observed or edited; None if it has a network."""
    if model.source not in WITHOUT_NETWORK:
        return None
    found = f"{model.source!r}, {WITHOUT_NETWORK[model.source]}"
    return f"model.source: expected a model with a network, found {found}; name another model"


def unreadable(model: ModelConfig) -> str | None:
    """Return why prompts cannot be followed inside a model; None if they can, or if its family is not known here."""
    from audit.models.families.registry import blocks_of, family_here, reads_text

    missing = no_network(model)
    if missing is not None:
        return missing
    expected, remedy = "", "name another model"
    if reads_text(model) is False:
        expected = "a model that takes text"
    elif family_here(model) is not None and not blocks_of(model):
        expected, remedy = "a model whose inside is reached", "it is a black box; name another model"
    return f"model.source: expected {expected}, found {model.source!r}; {remedy}" if expected else None


def places_of(model: ModelConfig) -> tuple[Place, ...]:
    """Return the places of a model's denoiser that a location map covers, in the order of the calls.

    Raises:
        UnknownBlocksError: If the model is not on this machine.
        ValueError: If the model has no network, its inside is not reached, or it takes no text.
    """
    from audit.models.families.registry import places_here

    problem = unreadable(model)
    if problem is not None:
        raise ValueError(problem)
    paths = places_here(model)
    if paths is None:
        raise UnknownBlocksError(
            f"model.source: expected a model that is on this machine, found {model.source!r}; give its directory, or "
            "name the places with --place"
        )
    return paths


def in_known_blocks(model: ModelConfig, hookpoints: Mapping[Location, str]) -> dict[Location, str]:
    """Return the hookpoints that can be in a model's blocks; :func:`check_lens` reports the others."""
    from audit.models.families.registry import blocks_of

    if model.source in WITHOUT_NETWORK:
        return dict(hookpoints)
    blocks = blocks_of(model)
    return {
        place: path
        for place, path in hookpoints.items()
        if chosen_by_method(place) or not blocks or _block_of(path) in blocks
    }


def _no_module(at: Location, hookpoint: str, blocks: Sequence[str]) -> Iterator[Problem]:
    part = _block_of(hookpoint)
    if blocks and part not in blocks:
        message = f"expected a module of the denoiser ({listing(blocks)}), found {hookpoint!r}"
        remedy = suggestion(part, blocks) or (
            "; choose one that difflens-audit hookpoints lists, such as one that difflens-audit locate shows to matter"
        )
        yield Problem(at, message + remedy)


def _block_of(hookpoint: str) -> str:
    return hookpoint.rpartition(":")[2].split(".")[0]


def _no_own_module(at: Location, path: str, model: ModelConfig) -> Iterator[Problem]:
    """Find a module that a method chooses itself, and that only the denoisers of other families have."""
    from audit.models.families.registry import family_here

    family = family_here(model)
    if family is not None and family.cross_attention and path not in family.blocks:
        message = (
            f"expected modules with cross-attention, found none: {family.name} has no {path}, where this method finds "
            f"it itself; name some, for example {at[-1]}: [transformer_blocks.0]"
        )
        yield Problem(at, message, reads=(("model", "source"),))


def _no_text_of_blocks(at: Location, model: ModelConfig) -> Iterator[Problem]:
    """Find blocks that are to read a caption, in a denoiser whose blocks do not read the embeddings of a text."""
    from audit.models.families.registry import family_here

    family = family_here(model)
    if "blocks" in at and family is not None and family.denoiser and not family.cross_attention:
        message = (
            "expected a denoiser whose blocks read the embeddings of the text, such as a U-Net or PixArt, found "
            f"{family.name}; remove blocks, so that the whole network reads the caption"
        )
        yield Problem(at, message, reads=(("model", "source"),))


def _named_lens(directory: Path) -> Iterator[Problem]:
    if not (directory / LENS_FILE).is_file():
        message = f"expected a lens, found no {LENS_FILE} in {directory}; make one with difflens-audit dissect"
        yield Problem(("lens", "path"), message)
        return
    try:
        version = read_json_object(directory / LENS_FILE, "the card of a lens").get("format_version")
    except ValueError as error:
        yield Problem(("lens", "path"), str(error))
        return
    if version != LENS_FORMAT:
        message = f"expected a lens of format {LENS_FORMAT}, found format {version} in {directory}; dissect again"
        yield Problem(("lens", "path"), message)


def _latents(lens: LensConfig, model: ModelConfig, sampling: SamplingConfig) -> int | None:
    """Count the latents of an autoencoder on the mid block; None if the shape of the model is not known here."""
    shape = mid_block_shape(model, sampling) if lens.hookpoint == "mid_block" else None
    if shape is None:
        return None
    channels, height, width = shape
    return lens.expansion * channels * (height * width if lens.whole_map else 1)


def mid_block_shape(model: ModelConfig, sampling: SamplingConfig) -> tuple[int, int, int] | None:
    """Return channels, height and width of the map of a U-Net's mid block, from configs alone.

    Returns:
        None if the model is not on this machine, or has no U-Net.
    """
    from audit.models.families.registry import size_here

    channels = (_unet_config(model) or {}).get("block_out_channels")
    if not isinstance(channels, list) or not channels or not isinstance(channels[-1], int):
        return None
    size = size_here(model, sampling)
    if size is None:
        return None
    halved = 2 ** (len(channels) - 1)
    return channels[-1], math.ceil(size[0] / halved), math.ceil(size[1] / halved)


def _unet_config(model: ModelConfig) -> dict[str, Any] | None:
    from audit.models.files.pipeline_files import part_directory
    from audit.models.source import pipeline_source

    try:
        directory = part_directory(Path(pipeline_source(model)), "unet")
        return read_json_object(directory / "config.json", "the shape of a U-Net", any_number=True)
    except ValueError:  # reported by check_model, or a model on the hub
        return None
