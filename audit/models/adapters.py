"""Adds LoRAs to a loaded pipeline, beside its weights: merging and unmerging them would not restore the weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from audit.config.sections import AdapterConfig
from audit.models.files.adapter_file import AdapterFile
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

LOG = logging.getLogger(__name__)


def add_adapters(pipeline: Any, adapters: Sequence[AdapterConfig]) -> None:  # noqa: ANN401 - a pipeline of diffusers
    """Add LoRAs to a pipeline, each with its scale.

    Raises:
        UnfitModelError: A file is no LoRA, or does not fit this pipeline, or fits it only in part.
    """
    if not adapters:
        return
    if find_spec("peft") is None:
        raise UnfitModelError("model.adapters: expected peft, found it not installed; run: pip install peft")
    if not hasattr(pipeline, "load_lora_weights"):
        raise UnfitModelError(
            f"model.adapters: expected a pipeline that takes LoRAs, found {type(pipeline).__name__}; remove them"
        )
    for number, adapter in enumerate(adapters):
        _add(pipeline, AdapterFile.read(Path(adapter.path)), _name(number))
    names = [_name(number) for number in range(len(adapters))]
    pipeline.set_adapters(names, [adapter.scale for adapter in adapters])


def _add(pipeline: Any, file: AdapterFile, name: str) -> None:  # noqa: ANN401 - a pipeline of diffusers
    try:
        pipeline.load_lora_weights(
            str(file.path.parent), weight_name=file.path.name, adapter_name=name, local_files_only=True
        )
    except Exception as error:
        raise UnfitModelError(
            f"{file.path}: expected a LoRA for {type(pipeline).__name__}, found one that cannot be loaded "
            f"({reason_in_short(error)}); give one that was made for this model"
        ) from error
    loaded = sum(1 for _ in _factors(pipeline, name))
    # Diffusers drops what it cannot place with a line in the log. It may split a stored factor, never join two.
    if loaded < len(file.factors):
        raise UnfitModelError(
            f"{file.path}: expected a LoRA whose {len(file.factors)} tensors all fit this model, found {loaded}; "
            "give one that was made for this model"
        )


def _factors(pipeline: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - a pipeline of diffusers
    """Find the factors of one LoRA in the networks of a pipeline."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            for parameter, _ in part.named_parameters():
                if ".lora_" in parameter and f".{name}." in parameter:
                    yield parameter


def _name(number: int) -> str:
    return f"lora{number}"
