"""Hookpoints: finds a layer by its address, and borrows its output, or its text, without leaving a hook behind."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def edit_output(module: nn.Module, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace every output of ``module`` by ``edit(output)`` while the block runs.

    Args:
        module: The hookpoint; its output is a tensor, or a tuple whose first element is the map.
        edit: Returns the new map, of the same shape; returning its argument changes nothing, bit for bit.
    """

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:  # noqa: ANN401 - torch's hook signature
        before = _map_of(output)
        after = edit(before)
        if after.shape != before.shape:
            raise ValueError(
                f"an edit must keep the shape of the map: expected {tuple(before.shape)}, found {tuple(after.shape)}"
            )
        return (after, *output[1:]) if isinstance(output, tuple) else after

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


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


def _map_of(output: object) -> Tensor:
    first = output[0] if isinstance(output, tuple) and output else output
    if isinstance(first, Tensor):
        return first
    raise TypeError(
        "a hookpoint must return a tensor or a tuple that starts with one, "
        f"found {type(first).__name__}; choose a block of the U-Net such as 'mid_block'"
    )


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
