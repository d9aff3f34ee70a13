"""Compiles the repeated blocks of a denoiser with ``torch.compile``, so that hooks on blocks still run as they are.

Diffusers names the classes of the blocks that repeat in a network. Its own ``compile_repeated_blocks`` compiles the
call of a module *with* its hooks: a hook that is registered later is ignored without a message
(``torch._dynamo.config.skip_nnmodule_hook_guards``), and one that is registered before is traced once. Here only the
``forward`` of a block is compiled. Hooks on the block and on everything around it are called by torch as ever. A module
inside a compiled block cannot be hooked, and :func:`refuse_inside` says so.

Every shape has a graph of its own. Otherwise the shape that is seen first would decide how later ones are rounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

LOG = logging.getLogger(__name__)

_UNNAMED = {
    "PixArtTransformer2DModel": ("BasicTransformerBlock",),
    "SanaTransformer2DModel": ("SanaTransformerBlock",),
    "SD3Transformer2DModel": ("JointTransformerBlock",),
}
"""Denoisers of supported families for which diffusers names no repeated blocks → classes of these blocks."""

_SHAPES = 64
"""Graphs of one class of blocks: a U-Net has up to 4 widths, and an audit samples a few sizes of batches."""


def repeated_blocks(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks that repeat in a denoiser, by address; empty if it has none."""
    named: Sequence[str] = getattr(denoiser, "_repeated_blocks", ()) or _UNNAMED.get(type(denoiser).__name__, ())
    return {path: module for path, module in denoiser.named_modules() if type(module).__name__ in named}


def compile_blocks(denoiser: nn.Module, device: torch.device, backend: str = "inductor") -> str:
    """Compile the repeated blocks of a denoiser in place; on a GPU, a U-Net also keeps its maps in channels_last.

    Compiling takes place when a block is first called with a shape.

    Args:
        denoiser: On ``device``, with its LoRAs.
        device: Of the denoiser.
        backend: Of ``torch.compile``.

    Returns:
        What was changed, for the record of an audit: ``BasicTransformerBlock, channels_last``; empty if there is
        nothing to compile, which is logged.
    """
    blocks = repeated_blocks(denoiser)
    if not blocks:
        LOG.warning(
            "model.compile: expected a denoiser with repeated blocks, found %s; it runs as published",
            type(denoiser).__name__,
        )
        return ""
    for block in blocks.values():
        block.forward = _compiled(block.forward, backend)
    changed = sorted({type(block).__name__ for block in blocks.values()})
    if device.type == "cuda" and _is_unet(denoiser):
        # Weights of convolutions in this layout give maps in it, and GPUs convolve it without rearranging.
        denoiser.to(memory_format=torch.channels_last)
        changed.append("channels_last")
    return ", ".join(changed)


def block_around(denoiser: nn.Module, path: str) -> str | None:
    """Return the address of the repeated block that holds the module at ``path``, unless it is this module itself."""
    blocks = repeated_blocks(denoiser)
    return next((parent for parent in _parents(path) if parent in blocks), None)


def refuse_inside(denoiser: nn.Module, path: str) -> None:
    """Refuse a place inside a compiled block, where hooks are not called.

    Raises:
        UnfitModelError: The module at ``path`` is inside a compiled block.
    """
    for parent in _parents(path):
        if hasattr(denoiser.get_submodule(parent).forward, _MARK):
            raise UnfitModelError(inside_compiled(path, parent))


def inside_compiled(path: str, block: str) -> str:
    """Return the message about a place inside a compiled block."""
    return (
        f"hookpoint {path!r}: expected a place outside compiled blocks, found one inside {block!r}; choose that block, "
        "or set model.compile: false"
    )


_MARK = "_compiled_here"


def _compiled(own: Callable[..., Any], backend: str) -> Callable[..., Any]:
    import torch._dynamo.config as limits  # takes a second to import
    from torch._dynamo.exc import TorchDynamoException

    limits.recompile_limit = max(limits.recompile_limit, _SHAPES)
    compiled = torch.compile(own, fullgraph=True, dynamic=False, backend=backend)

    @wraps(own)
    def forward(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - as the block takes and returns
        try:
            return compiled(*map(_in_one_layout, inputs), **{name: _in_one_layout(x) for name, x in named.items()})
        except TorchDynamoException as error:
            reason = reason_in_short(error).partition(" Set TORCHDYNAMO_VERBOSE")[0]
            raise UnfitModelError(
                f"model.compile: torch cannot compile the blocks of this model here ({reason}); install a C++ compiler "
                "if there is none, or set model.compile: false"
            ) from error

    setattr(forward, _MARK, True)
    return forward


def _in_one_layout(value: Any) -> Any:  # noqa: ANN401 - any argument of a block
    """Return tokens in their usual layout: an edit may return another one, whose graph would round otherwise."""
    return value.contiguous() if isinstance(value, Tensor) else value


def _is_unet(denoiser: nn.Module) -> bool:
    return hasattr(denoiser, "conv_in") and hasattr(denoiser, "up_blocks")


def _parents(path: str) -> Iterator[str]:
    parts = path.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))
