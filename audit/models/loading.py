"""Loading a published model: safetensors only, from a directory or a hub id.

Diffusers takes seconds to import, and a worker that draws needs none of it: it is imported only if a model is loaded.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from audit.config.sections import ModelConfig
from audit.models.adapters import add_adapters
from audit.models.check import refuse_unfit
from audit.models.families.interface import LoadedModel
from audit.models.families.registry import family_of
from audit.models.files.pipeline_files import find_weights, part_directory, read_index, some
from audit.models.files.single_file import CONFIG_REMEDY
from audit.models.files.untrusted_model import NOT_LOADED, UnfitModelError, reason_in_short
from audit.models.kernels.compiled import compile_blocks
from audit.models.schedulers.trial import replaced_scheduler
from audit.models.source import pipeline_source, single_file

LOG = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_model(model: ModelConfig, device: torch.device, scheduler: str | None = None) -> LoadedModel:
    """Load a model of any family on ``device``.

    Args:
        model: Section ``model`` of the config.
        device: Of the networks.
        scheduler: Class of the scheduler that replaces the published one, None to keep it.

    Raises:
        UntrustedModelError: The directory holds code, only pickled weights, or custom classes.
        UnfitModelError: Its family is not supported, it is incomplete, or cannot be sampled as it was published; or a
            LoRA does not fit it.
        OSError: No such directory or repository.
    """
    source, file = Path(pipeline_source(model)), single_file(model)
    if file is not None and model.config is None:
        raise UnfitModelError(f"{file}: expected the configs of this checkpoint, found none; {CONFIG_REMEDY}")
    directory = source if source.is_dir() or file is not None else _downloaded(model)
    refuse_unfit(directory, model)
    index = read_index(directory)
    family = family_of(index)
    networks = (
        {part: _network(directory, part, model, family.network_class(part, index)) for part in family.networks(index)}
        if file is None
        else _networks_of_file(file, directory, model, family.networks(index))
    )
    for network in networks.values():
        # Weights keep requires_grad, as stock pipelines leave it: without it, kernels on a CPU round otherwise.
        network.eval().to(device)
    pipeline = family.build(directory, networks, index)
    published = getattr(pipeline, "scheduler", None)  # pipelines of several stages have none of this name
    if published is not None:
        pipeline.scheduler = replaced_scheduler(published, scheduler)
    add_adapters(pipeline, model.adapters)
    loaded = LoadedModel(family, pipeline, family.reader(pipeline), _as_published(index, published))
    return replace(loaded, compiled=_compiled(loaded, device)) if model.compile else loaded


def _compiled(model: LoadedModel, device: torch.device) -> str:
    """Compile the denoiser's blocks and return what was changed; empty if nothing was."""
    if model.family.denoiser:
        return compile_blocks(model.denoiser, device)
    LOG.warning("model.compile has no effect: the inside of %s is not reached", type(model.pipeline).__name__)
    return ""


def _as_published(index: Mapping[str, Any], scheduler: object | None) -> dict[str, Any]:
    """Return what the model was published with, for the record of an audit."""
    published: dict[str, Any] = {"pipeline": index["_class_name"]}
    if scheduler is not None:
        published["published_scheduler"] = type(scheduler).__name__
    if "safety_checker" in index:
        named = (index["safety_checker"] or [None])[-1]
        known = f"published with {named}" if named else "published without one"
        published["safety_checker"] = f"off ({known})"
    return published


def _network(directory: Path, part: str, model: ModelConfig, kind: Any) -> Any:  # noqa: ANN401 - of either library
    """Load one part, all of whose tensors come from its files.

    Args:
        directory: Of the pipeline.
        part: Its name in ``model_index.json``.
        model: The config's model.
        kind: Class of the part.

    Raises:
        UnfitModelError: A tensor of the part is not in its files, or the files hold one more.
    """
    place = part_directory(directory, part)
    network, report = kind.from_pretrained(
        place,
        variant=find_weights(directory, part, model.variant).variant,
        dtype=DTYPES[model.dtype],
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    odd = {
        why: sorted(map(str, report.get(why) or ())) for why in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(odd.values()):
        found = "; ".join(f"{why.replace('_', ' ')} {some(names)}" for why, names in odd.items() if names)
        raise UnfitModelError(f"{place}: expected every tensor of {kind.__name__} and no other, found {found}")
    return network


def _networks_of_file(file: Path, directory: Path, model: ModelConfig, parts: Sequence[str]) -> dict[str, Any]:
    """Load every part from a single-file checkpoint, whose tensors :func:`refuse_unfit` has compared with the classes.

    Raises:
        UnfitModelError: Diffusers cannot read it, or left a tensor without weights.
    """
    import diffusers

    kind = getattr(diffusers, read_index(directory)["_class_name"])
    left_out = dict.fromkeys(part for part in NOT_LOADED if part in inspect.signature(kind.__init__).parameters)
    try:
        pipeline = kind.from_single_file(
            str(file), config=str(directory), dtype=DTYPES[model.dtype], local_files_only=True, **left_out
        )
    except Exception as error:
        raise UnfitModelError(
            f"{file}: expected a checkpoint of {kind.__name__}, found one that cannot be loaded "
            f"({reason_in_short(error)}); give another file"
        ) from error
    networks = {part: getattr(pipeline, part) for part in parts}
    empty = [
        f"{part}.{name}" for part in parts for name, tensor in networks[part].state_dict().items() if tensor.is_meta
    ]
    if empty:
        raise UnfitModelError(f"{file}: expected every tensor of {kind.__name__}, found no {some(empty)}")
    return networks


def _downloaded(model: ModelConfig) -> Path:
    """Download the safetensors and configs of a pipeline from the hub, so that it is checked before it is loaded."""
    from diffusers import DiffusionPipeline

    folder = DiffusionPipeline.download(
        model.source, revision=model.revision, variant=model.variant, use_safetensors=True, trust_remote_code=False
    )
    return Path(folder)
