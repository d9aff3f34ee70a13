"""Compares the tensors of a part's files with those of its class, by name and shape, before any weight is read.

Loaders fill a missing tensor with random numbers or with uninitialised memory, and only log it. The class
is built from its config on torch's meta device, which has shapes and no numbers, so this costs no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audit.models.files.pipeline_files import some
from audit.models.files.stored_parts import PartFiles
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

_LAYER_COUNTS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers")
_HARMLESS = "embeddings.position_ids"
"""0, 1, 2, …: older releases of transformers stored it in text encoders, newer ones count for themselves."""

Shapes = Mapping[str, tuple[int, ...]]


def network_on_meta(
    part: str,
    directory: Path,
    config: Mapping[str, Any],
    tensors: int,
    kind: Any,  # noqa: ANN401 - a class of diffusers or transformers
) -> nn.Module:
    """Build a part from its config, without weights.

    Args:
        part: Its name in ``model_index.json``.
        directory: Of the part.
        config: The part's config.
        kind: Its class.
        tensors: How many tensors its files hold: a config that asks for more layers is refused before it fills memory.

    Raises:
        UnfitModelError: The class cannot be built from this config.
    """
    for key in _LAYER_COUNTS:
        counts = config.get(key) if isinstance(config.get(key), list) else [config.get(key)]
        for count in counts or []:
            if isinstance(count, int) and count > tensors:
                raise UnfitModelError(f"{part}/config.json: expected {key} of at most {tensors} tensors, found {count}")
    try:
        with torch.device("meta"):
            return _build(kind, directory).eval().requires_grad_(False)
    except Exception as error:
        raise UnfitModelError(
            f"{part}/config.json: expected a config that the part can be built from, found one that fails "
            f"({reason_in_short(error)}); download it again"
        ) from error


def unlike_class(weights: PartFiles, network: nn.Module, found: Shapes) -> Iterator[str]:
    """Find tensors that are missing, unexpected, doubled, or of another shape than the class has them.

    Args:
        weights: The files.
        network: The part on the meta device.
        found: Shapes of the tensors in the files.

    Yields:
        Messages, one for each kind.
    """
    expected = {_plain(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = _renamed(weights, network, found)
    missing = sorted(expected.keys() - stored.keys() - _tied(network, stored))
    part = weights.part
    unexpected = sorted(stored.keys() - expected.keys() - ({_HARMLESS} if part.startswith("text_encoder") else set()))
    others = [name for name in sorted(expected.keys() & stored.keys()) if expected[name] != stored[name]]
    at = f"{part}: expected the {len(expected)} tensors of {type(network).__name__}, found"
    if missing:
        yield f"{at} no {some(missing)}; they would be random: give the complete file"
    if unexpected:
        yield f"{at} also {some(unexpected)}; give the model that config.json describes"
    if len(stored) < len(found):
        twice = sorted(name for name, count in Counter(map(_plain, found)).items() if count > 1)
        named = f" ({some(twice)})" if twice else ""
        yield (
            f"{at} {len(found) - len(stored)} of them under an old and a new name{named}, of which one would be read; "
            "give the file as it was published"
        )
    if others:
        shapes = [f"{name} of shape {list(stored[name])} instead of {list(expected[name])}" for name in others]
        yield f"{at} {some(shapes)}; give the model that config.json describes"


def _build(kind: Any, directory: Path) -> nn.Module:  # noqa: ANN401 - a class of diffusers or transformers
    """Build a network from its config: diffusers keeps both in one class, transformers in two."""
    if hasattr(kind, "load_config"):
        network: nn.Module = kind.from_config(kind.load_config(directory, local_files_only=True))
        return network
    built: nn.Module = kind(kind.config_class.from_pretrained(directory, local_files_only=True))
    return built


def _renamed(weights: PartFiles, network: nn.Module, found: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the stored shapes under the names that the loader gives them."""
    renamed = {_plain(name): shape for name, shape in found.items()}
    convert = getattr(network, "_fix_state_dict_keys_on_load", None)  # of diffusers: the VAE's attention has old names
    if convert is not None and weights.indexed is None:
        convert(renamed)
    return renamed


def _tied(network: nn.Module, stored: Shapes) -> set[str]:
    """Return the tensors that a loader copies from a stored one: T5 has its embedding under two names."""
    tied = getattr(network, "all_tied_weights_keys", None) or {}
    pairs = [(_plain(one), _plain(other)) for one, other in tied.items()]
    return {name for pair in pairs for name, twin in (pair, pair[::-1]) if twin in stored}


def _plain(name: str) -> str:
    """Drop the prefix that transformers before 5 put before the text encoder's names."""
    return name.removeprefix("text_model.")
