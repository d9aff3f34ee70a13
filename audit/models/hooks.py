"""Hookpoints: finds a layer by its address, and borrows its output, or its text, without leaving a hook behind.

Legend: B images, C channels, H W the map, T image tokens.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_TOKEN_AXES = 3


@contextmanager
def edit_output(module: nn.Module, edit: Callable[[Tensor], Tensor], stream: int = 0) -> Iterator[None]:
    """Replace every output of ``module`` by ``edit(output)`` while the block runs.

    Args:
        module: The hookpoint; its output is a tensor, or a tuple. A map (B, C, H, W) is given as it is, tokens
            (B, T, C) as a map (B, C, T, 1).
        edit: Returns the new map, of the same shape; returning its argument changes nothing, bit for bit.
        stream: Place in the tuple: blocks of some transformers return tokens of the text and of the image.
    """

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:  # noqa: ANN401 - torch's hook signature
        stored = stream_of(output, stream)
        before = as_map(stored)
        after = edit(before)
        if after is before:
            return output
        if after.shape != before.shape:
            raise ValueError(
                f"an edit must keep the shape of the map: expected {tuple(before.shape)}, found {tuple(after.shape)}"
            )
        return _replaced(output, stored, after if stored is before else _as_tokens(after))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def stream_of(output: object, stream: int = 0) -> Tensor:
    """Return the tensor of a module's output that is read and edited.

    Raises:
        TypeError: There is no tensor at this place of the output.
    """
    found = output[stream] if isinstance(output, tuple) and len(output) > stream else output
    if isinstance(found, Tensor):
        return found
    raise TypeError(
        "a hookpoint must return a tensor or a tuple that starts with one, "
        f"found {type(found).__name__}; choose a block of the denoiser such as 'mid_block'"
    )


def as_map(output: Tensor) -> Tensor:
    """Return tokens (B, T, C) as a map (B, C, T, 1), so that lenses and edits need one form; a map as it is."""
    return output.transpose(1, 2).unsqueeze(-1) if output.ndim == _TOKEN_AXES else output


def _as_tokens(h: Tensor) -> Tensor:
    return h.squeeze(-1).transpose(1, 2)


def _replaced(output: object, before: Tensor, after: Tensor) -> object:
    """Put a tensor in the place of another one of a module's output.

    A down block of a U-Net returns its result twice, the second time as the last skip connection.
    """
    if output is before:
        return after
    if not isinstance(output, tuple):
        return output
    return tuple(
        after if part is before else _replaced(part, before, after) if isinstance(part, tuple) else part
        for part in output
    )


@contextmanager
def edit_text(block: nn.Module, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the text that a block of the denoiser reads by ``edit(text)`` while the code inside runs.

    Args:
        block: Takes text embeddings as ``encoder_hidden_states``, as the blocks and attentions of diffusers do.
        edit: Returns text embeddings (2B or B, L, D) in place of its argument, of the same shape.
    """

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        text = named.get("encoder_hidden_states")
        if not isinstance(text, Tensor):
            raise TypeError(
                f"a block whose text is replaced must read text, found {type(module).__name__}, which reads none; "
                "choose a block with cross-attention such as 'mid_block'"
            )
        return inputs, named | {"encoder_hidden_states": edit(text)}

    handle = block.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def find_hookpoint(network: nn.Module, path: str) -> nn.Module:
    """Return the module at ``path``, for example ``mid_block`` or ``up_blocks.1.attentions.0``.

    Raises:
        ValueError: There is no such module; the message names the nearest ones.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if path and path in modules:
        return modules[path]
    nearest = difflib.get_close_matches(path, modules, n=3, cutoff=0.4)
    blocks = [name for name, _ in network.named_children()]
    hint = f"nearest: {', '.join(nearest)}" if nearest else f"top level: {', '.join(blocks)}"
    raise ValueError(f"hookpoint {path!r} is not a module of the {type(network).__name__}; {hint}")
