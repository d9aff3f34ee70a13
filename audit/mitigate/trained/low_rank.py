"""Low-rank changes of attention matrices, W + s B A (LoRA, Hu et al. 2022), beside a model or borrowed by it.

Tensors are named as peft and diffusers name them, ``unet.PATH.lora_A.weight`` (or ``transformer.PATH…``), so a file of
them is a LoRA for any program. The model keeps its modules: peft would replace them, and with them the addresses of the
hookpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audit.config.mitigations.weights import DENOISER
from audit.models.files.untrusted_model import UnfitModelError
from audit.records.work import derive_seed

# r rank, i inputs, o outputs of a matrix (o, i)

DENOISERS = ("unet", "transformer")
"""Parts of a pipeline, of which each has one."""
ENCODERS = ("text_encoder", "text_encoder_2")
_DIFFUSERS, _CLIP = (".to_q", ".to_k", ".to_v", ".to_out.0"), (".q_proj", ".k_proj", ".v_proj", ".out_proj")
_T5 = tuple(f".SelfAttention.{name}" for name in "qkvo")
_ATTENTION = (*_DIFFUSERS, *_CLIP, *_T5)
_DOWN, _UP, _WRAPPED = ".lora_A.weight", ".lora_B.weight", ".base_layer"


def networks_of(pipeline: Any, parts: Sequence[str]) -> dict[str, nn.Module]:  # noqa: ANN401 - a pipeline of diffusers
    """Return part of a pipeline → network.

    Args:
        pipeline: Of diffusers.
        parts: ``text_encoder`` stands for every text encoder, ``denoiser`` for the U-Net or the transformer.
    """
    several = {ENCODERS[0]: ENCODERS, DENOISER: DENOISERS}
    names = [own for part in parts for own in several.get(part, (part,))]
    return {name: network for name in names if (network := getattr(pipeline, name, None)) is not None}


def attention_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers of all attention by address, as it is without adapters of peft."""
    layers = {path.removesuffix(_WRAPPED): layer for path, layer in network.named_modules()}
    return {path: layer for path, layer in layers.items() if path.endswith(_ATTENTION) and isinstance(layer, nn.Linear)}


def new_factors(networks: Mapping[str, nn.Module], rank: int, seed: int) -> dict[str, Tensor]:
    """Return A (r, i), uniform in ±1/√i as in peft, and B = 0 (o, r), of every attention layer.

    Raises:
        UnfitModelError: A network has no attention.
    """
    factors: dict[str, Tensor] = {}
    for part, network in networks.items():
        layers = attention_layers(network)
        if not layers:
            raise UnfitModelError(
                f"expected attention layers in the {type(network).__name__}, found none; use another method"
            )
        for path, layer in layers.items():
            name, bound = f"{part}.{path}", 1 / math.sqrt(layer.in_features)
            draw = torch.Generator().manual_seed(derive_seed(seed, "lora", name))
            down = (torch.rand(rank, layer.in_features, generator=draw) * 2 - 1) * bound
            factors[f"{name}{_DOWN}"] = down.to(layer.weight.device)
            factors[f"{name}{_UP}"] = torch.zeros(layer.out_features, rank, device=layer.weight.device)
    return factors


@contextmanager
def added(networks: Mapping[str, nn.Module], factors: Mapping[str, Tensor]) -> Iterator[None]:
    """Add B A x to what the layers return inside the block, with gradients to A and B."""
    with ExitStack() as held:
        for part, network in networks.items():
            for path, layer in _changed_layers(network, _of_part(factors, part)):
                down, up = (factors[f"{part}.{path}{factor}"] for factor in (_DOWN, _UP))
                held.callback(layer.register_forward_hook(partial(_add, down, up)).remove)
        yield


def _add(down: Tensor, up: Tensor, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + (inputs[0].to(down.dtype) @ down.T @ up.T).to(output.dtype)


class BorrowedLowRank:
    """Sets the weights of networks to W + s B A inside a ``with`` block; the changed matrices are kept.

    Args:
        factors: A and B by name.
        strength: s.
    """

    def __init__(self, factors: Mapping[str, Tensor], strength: float = 1.0) -> None:
        self._factors, self._strength = factors, strength
        self._kept: dict[str, tuple[nn.Module, dict[str, Tensor]]] = {}

    def has(self, *parts: str) -> bool:
        """Return whether one of the parts of a pipeline is changed."""
        return any(name.startswith(f"{part}.") for part in parts for name in self._factors)

    @contextmanager
    def denoiser(self, network: nn.Module) -> Iterator[None]:
        """Borrow the weights of the denoiser.

        Raises:
            UnfitModelError: The change was made for another network.
        """
        with self._borrowed(next(part for part in DENOISERS if self.has(part)), network):
            yield

    @contextmanager
    def encoders(self, pipeline: Any) -> Iterator[None]:  # noqa: ANN401 - a pipeline of diffusers
        """Borrow the weights of the text encoders of a pipeline.

        Raises:
            UnfitModelError: The change was made for other networks.
        """
        with ExitStack() as held:
            for part, network in networks_of(pipeline, ENCODERS[:1]).items():
                if self.has(part):
                    held.enter_context(self._borrowed(part, network))
            yield

    @contextmanager
    def _borrowed(self, part: str, network: nn.Module) -> Iterator[None]:
        layers = dict(_changed_layers(network, _of_part(self._factors, part)))
        if part not in self._kept or self._kept[part][0] is not network:
            with torch.inference_mode(False), torch.no_grad():
                changed = {path: self._matrix(f"{part}.{path}", layer.weight) for path, layer in layers.items()}
            self._kept[part] = (network, changed)
        own, changed = {path: layer.weight.data for path, layer in layers.items()}, self._kept[part][1]
        try:
            for path, layer in layers.items():
                layer.weight.data = changed[path]
            yield
        finally:
            for path, layer in layers.items():
                layer.weight.data = own[path]

    def _matrix(self, name: str, weight: Tensor) -> Tensor:
        down, up = (self._factors[f"{name}{factor}"].detach().to(weight.device) for factor in (_DOWN, _UP))
        return (weight.detach().float() + self._strength * (up.float() @ down.float())).to(weight.dtype)


def _of_part(factors: Mapping[str, Tensor], part: str) -> list[str]:
    """Return the addresses of the layers of a part."""
    start = f"{part}."
    return [name[len(start) : -len(_DOWN)] for name in factors if name.startswith(start) and name.endswith(_DOWN)]


def _changed_layers(network: nn.Module, paths: Sequence[str]) -> Iterator[tuple[str, nn.Linear]]:
    layers = attention_layers(network)
    for path in paths:
        if path not in layers:
            raise UnfitModelError(
                f"expected a fit for {type(network).__name__}, found one with the layer {path!r}, which it lacks; "
                "delete the fit to make it again"
            )
        yield path, layers[path]
