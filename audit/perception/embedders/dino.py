"""DINOv2: class-token features of a vision transformer, for FD-DINOv2 and for the similarity of paired images.

Stein et al. (2023, arXiv:2306.04675) use ViT-L/14 at 224 pixels with bicubic resizing for FD-DINOv2. timm holds the
network; weights in the layouts of transformers and of DINOv2's authors are renamed, which is exact.

The published weights have position embeddings for 518 pixels. They are interpolated as in DINOv2's own code; timm and
transformers interpolate in other ways, and their features differ slightly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audit.models.files.state_file import Shapes, read_shapes, read_state, shapes_of, unlike
from audit.models.files.untrusted_model import UnfitModelError, check_directory
from audit.perception.embedders.resizing import normalised, resized
from audit.perception.preparation import resized_with_gradients
from audit.storage.outside.json_object import read_json_object
from audit.storage.provenance import short_fingerprint

T = TypeVar("T")

SIDE, PATCH = 224, 14
GRID = SIDE // PATCH

CONFIG, WEIGHTS = "config.json", "model.safetensors"

HEAD_WIDTH = 64
"""Width of an attention head in every published DINOv2."""

_OFFSET = 0.1
"""What DINOv2's code adds to the number of patches before it divides, against rounding errors."""

_SIZES = {(384, 12): "vit-s14", (768, 12): "vit-b14", (1024, 24): "vit-l14", (1536, 40): "vit-g14"}
"""Width and depth → published size."""

_ASSUMED = {"patch_size": PATCH, "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True}
"""Values in a config of transformers that every published DINOv2 has and that the network here is built with."""

_RENAMED = (
    (r"^(dinov2\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(dinov2\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(dinov2\.)?embeddings\.", ""),
    (r"^(dinov2\.)?encoder\.layer\.", "blocks."),
    (r"^(dinov2\.)?layernorm\.", "norm."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.(weights_in|w12)\.", ".mlp.fc1."),
    (r"\.mlp\.(weights_out|w3)\.", ".mlp.fc2."),
)
"""Names of transformers and of DINOv2's own code → names of timm."""

_MASK = "mask_token"
"""A tensor that only training uses; some published files have it."""


class DinoFeatures:
    """Class-token features after the last normalisation, (n, d), of DINOv2 without registers.

    Args:
        weights: A file in the layout of timm or of DINOv2's authors, or a directory in the layout of transformers.
        device: Device for the computation.

    Raises:
        UnfitModelError: The file or directory holds something else.
        UntrustedModelError: The directory holds code, or only pickled weights.
    """

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        file, heads = _file_of(weights)
        state = _with_timm_names(read_state(file), _joined)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        network = _network_like(file, shapes, heads)
        network.load_state_dict(state | {"pos_embed": resized_positions(state["pos_embed"])})
        self._network, self._device = network.eval().to(device), device
        size = _size(shapes)
        self.signature = f"net:dinov2-{size}:{weights.name}:{short_fingerprint(file)}|resize:pil-bicubic-{SIDE}"

    @torch.inference_mode()
    def embed(self, images: Tensor) -> NDArray[Any]:
        """Embed uint8 images ``(n, 3, H, W)`` of any size as ``(n, d)``."""
        embedded: Tensor = self._network(normalised(resized(images.to(self._device), SIDE)))
        return embedded.cpu().numpy()

    def with_gradients(self, pictures: Tensor) -> Tensor:
        """Embed pictures ``(n, 3, H, W)`` in [0, 1] as ``(n, d)``, with gradients to the pictures."""
        x = resized_with_gradients(pictures.to(self._device), (SIDE, SIDE), "bicubic")
        embedded: Tensor = self._network(normalised(x))
        return embedded


def dino_problem(weights: Path) -> str | None:
    """Return why a file or directory cannot be loaded as DINOv2, from configs and headers; None if it can."""
    try:
        file, heads = _file_of(weights)
        shapes = _with_timm_names(read_shapes(file), _joined_shape)
        with torch.device("meta"):
            _network_like(file, shapes, heads)
    except ValueError as error:  # of files; UnfitModelError and UntrustedModelError are among them
        return str(error)
    return None


def resized_positions(positions: Tensor) -> Tensor:
    """Return position embeddings (1, 1 + N, d) for the patches of ``SIDE`` pixels, interpolated as in DINOv2's code.

    Source: ``interpolate_pos_encoding`` in facebookresearch/dinov2, bicubic with a scale of (patches + 0.1) / √N.
    """
    side, width = _grid(positions.shape[1]), positions.shape[2]
    if side == GRID:
        return positions
    grid = positions[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    scale = (GRID + _OFFSET) / side
    grid = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, width)], dim=1)


def _grid(tokens: int) -> int:
    """Return the side of the square of patches with ``tokens`` − 1 position embeddings; 0 if there is none."""
    side = round(max(tokens - 1, 0) ** 0.5)
    return side if side * side == tokens - 1 else 0


def _file_of(weights: Path) -> tuple[Path, int | None]:
    """Return the file of weights, and the number of attention heads if a config beside it says so."""
    if not weights.is_dir():
        return weights, None
    check_directory(weights)
    config = read_json_object(weights / CONFIG, "the config of a DINOv2 model")
    expected = {"model_type": "dinov2", **{name: value for name, value in _ASSUMED.items() if name in config}}
    for name, value in expected.items():
        if config.get(name) != value:
            found = f"expected {name} {value}, found {config.get(name, 'none')}; give another directory"
            raise UnfitModelError(f"{weights / CONFIG}: {found}")
    if not (weights / WEIGHTS).is_file():
        raise UnfitModelError(f"{weights}: expected {WEIGHTS}, found none; save the model as one safetensors file")
    heads = config.get("num_attention_heads")
    return weights / WEIGHTS, heads if isinstance(heads, int) and heads > 0 else None


def _with_timm_names(named: Mapping[str, T], join: Callable[[Sequence[T]], T]) -> dict[str, T]:
    """Rename tensors, or their shapes, to timm's names; query, key and value become one."""
    found: dict[str, T] = {}
    for name, value in named.items():
        renamed = name
        for pattern, replacement in _RENAMED:
            renamed = re.sub(pattern, replacement, renamed)
        found[renamed] = value
    for query in [name for name in found if ".attn.query." in name]:
        parts = [query.replace("query", part) for part in ("query", "key", "value")]
        if all(part in found for part in parts):
            found[query.replace("query", "qkv")] = join([found.pop(part) for part in parts])
    found.pop(_MASK, None)
    return found


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors))


def _joined_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _network_like(file: Path, shapes: Shapes, heads: int | None) -> nn.Module:
    """Return timm's network of the size that a file's tensors have, without weights.

    Raises:
        UnfitModelError: The tensors belong to another network.
    """
    wanted = {"cls_token": 3, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2, "blocks.0.mlp.fc2.weight": 2}
    missing = [name for name, axes in wanted.items() if len(shapes.get(name, ())) != axes]
    if missing:
        raise _unfit(file, f"no {', '.join(missing)}")
    if not _grid(shapes["pos_embed"][1]):
        raise _unfit(file, f"position embeddings of shape {list(shapes['pos_embed'])}, which is no square of patches")
    width = shapes["cls_token"][-1]
    if width % (heads or HEAD_WIDTH):
        raise _unfit(file, f"width {width}, which attention heads cannot share")
    network = _timm_network(shapes, heads or width // HEAD_WIDTH)
    resized_shape = (1, 1 + GRID**2, shapes["pos_embed"][-1])
    obstacle = unlike(shapes_of(network), {**shapes, "pos_embed": resized_shape})
    if obstacle is not None:
        raise _unfit(file, obstacle)
    return network


def _timm_network(shapes: Shapes, heads: int) -> nn.Module:
    from timm.layers import Mlp, SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    width = shapes["cls_token"][-1]
    inner, outer = shapes["blocks.0.mlp.fc1.weight"][0], shapes["blocks.0.mlp.fc2.weight"][1]
    mlp = (Mlp, nn.GELU) if inner == outer else (SwiGLUPacked, nn.SiLU)  # the giant one has gated layers
    network: nn.Module = VisionTransformer(
        img_size=SIDE,
        patch_size=PATCH,
        num_classes=0,
        global_pool="token",
        embed_dim=width,
        depth=_depth(shapes),
        num_heads=heads,
        mlp_ratio=inner / width,
        mlp_layer=mlp[0],
        act_layer=mlp[1],
        init_values=1e-5,
    )
    return network


def _depth(shapes: Shapes) -> int:
    return sum(name.endswith(".norm1.weight") for name in shapes)


def _size(shapes: Shapes) -> str:
    width, depth = shapes["cls_token"][-1], _depth(shapes)
    return _SIZES.get((width, depth), f"width-{width}-depth-{depth}")


def _unfit(file: Path, found: str) -> UnfitModelError:
    return UnfitModelError(
        f"{file}: expected the weights of DINOv2 without registers, found {found}; give a file in timm's layout, or a "
        "directory in the layout of transformers"
    )
