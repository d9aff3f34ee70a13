"""Loading a published model: safetensors only, from a directory or a hub id.

Diffusers takes seconds to import, and a worker that draws needs none of it: it is imported only if a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audit.config.sections import ModelConfig
from audit.models.adapters import add_adapters
from audit.models.check import refuse_unfit
from audit.models.families.interface import LoadedModel
from audit.models.families.registry import family_of
from audit.models.files.pipeline_files import find_weights, part_directory, read_index, some
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.schedulers.trial import replaced_scheduler
from audit.models.source import pipeline_source

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
    source = Path(pipeline_source(model))
    directory = source if source.is_dir() else _downloaded(model)
    refuse_unfit(directory, model)
    index = read_index(directory)
    family = family_of(index)
    networks = {
        part: _network(directory, part, model, family.network_class(part, index)) for part in family.networks(index)
    }
    for network in networks.values():
        # Weights keep requires_grad, as stock pipelines leave it: without it, kernels on a CPU round otherwise.
        network.eval().to(device)
    pipeline = family.build(directory, networks, index)
    published = getattr(pipeline, "scheduler", None)  # pipelines of several stages have none of this name
    if published is not None:
        pipeline.scheduler = replaced_scheduler(published, scheduler)
    add_adapters(pipeline, model.adapters)
    return LoadedModel(family, pipeline, family.reader(pipeline), _as_published(index, published))


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


def _downloaded(model: ModelConfig) -> Path:
    """Download the safetensors and configs of a pipeline from the hub, so that it is checked before it is loaded."""
    from diffusers import DiffusionPipeline

    folder = DiffusionPipeline.download(
        model.source, revision=model.revision, variant=model.variant, use_safetensors=True, trust_remote_code=False
    )
    return Path(folder)
