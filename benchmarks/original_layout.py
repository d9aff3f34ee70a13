"""Writes a diffusers pipeline as a single-file checkpoint with the names of the original Stable Diffusion code.

The names are those of CompVis's ``latent-diffusion`` and of Stability's ``generative-models``; diffusers has only the
inverse of this mapping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = Mapping[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def save_original(pipeline: Path, file: Path, *, open_clip: bool = False) -> Path:
    """Write a Stable Diffusion or SDXL directory as one file.

    Args:
        pipeline: Directory of diffusers, with safetensors.
        file: To write.
        open_clip: Write the text encoder of Stable Diffusion with OpenCLIP's names, as version 2 has it.

    Returns:
        The file.
    """
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in _unet(_part(pipeline, "unet"))}
    tensors |= {f"first_stage_model.{name}": tensor for name, tensor in _vae(_part(pipeline, "vae"))}
    first = _part(pipeline, "text_encoder")
    if (pipeline / "text_encoder_2").is_dir():
        tensors |= _clip(first, "conditioner.embedders.0.transformer.")
        tensors |= _open_clip(_part(pipeline, "text_encoder_2"), "conditioner.embedders.1.model.")
    else:
        tensors |= (
            _open_clip(first, "cond_stage_model.model.") if open_clip else _clip(first, "cond_stage_model.transformer.")
        )
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def _part(pipeline: Path, part: str) -> dict[str, Tensor]:
    (file,) = (pipeline / part).glob("*.safetensors")
    return load_file(file)


def _unet(tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    layers = 1 + max(
        int(found[1]) for name in tensors if (found := re.match(r"down_blocks\.\d+\.resnets\.(\d+)", name))
    )
    attended = {name.split(".")[1] for name in tensors if re.match(r"up_blocks\.\d+\.attentions", name)}
    for name, tensor in tensors.items():
        yield _unet_name(name, layers, attended), tensor


def _unet_name(name: str, layers: int, attended: set[str]) -> str:
    for own, original in _UNET_ENDS.items():
        if name.startswith(f"{own}."):
            return original + name.removeprefix(own)
    side, rest = name.split("_", 1)
    if side == "mid":
        _, kind, number, inner = rest.split(".", 3)
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{_inside(kind, inner)}"
    _, block, kind, number, inner = rest.split(".", 4)
    if kind == "downsamplers":
        return f"input_blocks.{(int(block) + 1) * (layers + 1)}.0.op.{inner.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{(int(block) + 1) * (layers + 1) - 1}.{2 if block in attended else 1}.{inner}"
    start = (1 if side == "down" else 0) + int(block) * (layers + 1) + int(number)
    where = "input_blocks" if side == "down" else "output_blocks"
    return f"{where}.{start}.{1 if kind == 'attentions' else 0}.{_inside(kind, inner)}"


def _inside(kind: str, inner: str) -> str:
    if kind == "attentions":
        return inner
    layer, tensor = inner.rsplit(".", 1)
    return f"{_RESNET[layer]}.{tensor}"


def _vae(tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    levels = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"encoder\.down_blocks\.(\d+)", name)))
    for name, tensor in tensors.items():
        renamed = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
        renamed = re.sub(r"mid_block\.resnets\.(\d+)", lambda found: f"mid.block_{int(found[1]) + 1}", renamed)
        for own, original in (
            ("down_blocks.", "down."),
            (".resnets.", ".block."),
            ("samplers.0.", "sample."),
            ("conv_shortcut", "nin_shortcut"),
            ("conv_norm_out", "norm_out"),
            ("mid_block.attentions.0", "mid.attn_1"),
            ("group_norm", "norm"),
            ("to_out.0", "proj_out"),
        ):
            renamed = renamed.replace(own, original)
        renamed = re.sub(r"\.to_([qkv])\.", r".\1.", renamed)
        is_projection = "mid.attn_1" in renamed and tensor.ndim == 2
        yield renamed, tensor[:, :, None, None] if is_projection else tensor


def _clip(tensors: Tensors, begin: str) -> dict[str, Tensor]:
    return {f"{begin}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}


def _open_clip(tensors: Tensors, begin: str) -> dict[str, Tensor]:
    found: dict[str, Any] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        renamed = name.removeprefix("text_model.")
        projection = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", renamed)
        if projection is not None:
            layer, which, kind = projection.groups()
            joined.setdefault(f"transformer.resblocks.{layer}.attn.in_proj_{kind}", {})[which] = tensor
            continue
        if renamed == "text_projection.weight":
            found["text_projection"] = tensor.T
            continue
        for own, original in _OPEN_CLIP.items():
            renamed = renamed.replace(own, original)
        found[renamed] = tensor
    found |= {name: torch.cat([parts[which] for which in "qkv"]) for name, parts in joined.items()}
    return {begin + name: tensor for name, tensor in found.items()}
