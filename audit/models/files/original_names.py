"""Renames the tensors of a single-file checkpoint as diffusers does, from its header: no weights are read.

The functions that rename are those of ``from_single_file``. They are given each tensor's name and shape in place of the
tensor, so that what a file lacks, or holds beside the parts, is known before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from audit.models.files.single_file import SingleFile
from audit.models.files.untrusted_model import UnfitModelError

_CLIP = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
"""Beginnings of the names of a text encoder of OpenAI's CLIP, in Stable Diffusion 1.x and in SDXL."""

_OPEN_CLIP = ("cond_stage_model.model.", "conditioner.embedders.1.model.")
"""The same of OpenCLIP, in Stable Diffusion 2.x and in SDXL."""

_POSITIONS = "text_model.embeddings.position_embedding.weight", "positional_embedding"


@dataclass(frozen=True)
class RenamedPart:
    """The tensors that one part of a pipeline is made from.

    Attributes:
        part: Its name in ``model_index.json``.
        found: Name in diffusers → shape.
        used: Original names of the tensors.
        indexed: None: one file has no index.
    """

    part: str
    found: Mapping[str, tuple[int, ...]]
    used: frozenset[str]
    indexed: None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by its name in diffusers."""
        return dict(self.found)


def renamed_part(file: SingleFile, part: str, config: Mapping[str, Any]) -> RenamedPart:
    """Rename the tensors of one part.

    Args:
        file: The checkpoint.
        part: Name of the part in ``model_index.json``.
        config: The part's config.

    Raises:
        UnfitModelError: The file lacks a tensor without which the others have no name, or the config fits another one.
    """
    stored = {name: _Stored(name, torch.empty(shape, device="meta")) for name, shape in file.tensors.items()}
    try:
        renamed = _rename(stored, part, config)
    except KeyError as error:
        raise UnfitModelError(
            f"{part}: expected the tensors of the part in {file.path.name}, found no {error.args[0]}; give the "
            "complete file, and the configs of this model"
        ) from error
    return RenamedPart(
        part,
        {name: tuple(tensor.shape) for name, tensor in renamed.items()},
        frozenset(tensor.name for tensor in renamed.values()),
    )


@dataclass(frozen=True)
class _Stored:
    """A tensor without numbers that keeps its original name when it is cut or copied."""

    name: str
    tensor: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    @property
    def ndim(self) -> int:
        return self.tensor.ndim

    @property
    def T(self) -> _Stored:
        return _Stored(self.name, self.tensor.T)

    def __getitem__(self, place: Any) -> _Stored:  # noqa: ANN401 - as torch takes it
        return _Stored(self.name, self.tensor[place])

    def clone(self) -> _Stored:
        return self

    detach = contiguous = clone


def _rename(stored: dict[str, _Stored], part: str, config: Mapping[str, Any]) -> dict[str, _Stored]:
    from diffusers.loaders import single_file_utils

    renaming: dict[str, Callable[..., dict[str, _Stored]]] = {
        "unet": single_file_utils.convert_ldm_unet_checkpoint,
        "vae": single_file_utils.convert_ldm_vae_checkpoint,
    }
    if part in renaming:
        return renaming[part](stored, dict(config))
    clip, open_clip = _POSITIONS
    width = config.get("hidden_size")
    # A pipeline of two text encoders has them apart by their width alone.
    for begin in _CLIP:
        if begin + clip in stored and (_is_first(begin) or stored[begin + clip].shape[-1] == width):
            return single_file_utils.convert_ldm_clip_checkpoint(stored)  # type: ignore[no-any-return]
    for begin in _OPEN_CLIP:
        if begin + open_clip in stored and (_is_first(begin) or stored[begin + open_clip].shape[-1] == width):
            network = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
            return single_file_utils.convert_open_clip_checkpoint(network, stored, begin)  # type: ignore[no-any-return]
    raise KeyError(f"text encoder of width {width}")


def _is_first(begin: str) -> bool:
    return begin.startswith("cond_stage_model.")
