"""Hookpoints: finds a layer by its address, and borrows what it hands over or reads, without leaving a hook behind.

Legend: B images, C channels, H W the map, T image tokens, L text tokens, D text width, N numbers of all skips.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audit.models.kernels.compiled import refuse_inside
from audit.records.located.places import Kind

_TOKEN_AXES = 3
_TEXT = "encoder_hidden_states"
_TEXT_MASKS = ("encoder_attention_mask", "attention_mask")
"""Arguments of a block and of an attention that hide tokens of the text; a block's second is for its own tokens."""
_HIDDEN = "hidden_states"

MapEdit = Callable[[Tensor], Tensor]


@contextmanager
def edit_place(module: nn.Module, kind: Kind, edit: MapEdit, stream: int = 0) -> Iterator[None]:
    """Replace what a module hands over or reads by ``edit(map)`` while the code inside runs.

    Args:
        module: The module of the place.
        kind: What is replaced, see :class:`audit.records.located.places.Place`. Tokens and texts (B, T, C) are given as
            maps (B, C, T, 1), the skip connections of a block are joined to one map (B, N, 1, 1).
        edit: Returns the new map, of the same shape; returning its argument changes nothing, bit for bit.
        stream: Place of the image in a tuple that the module returns.

    Raises:
        TypeError: When the module is called, if it has no such place.
    """
    if kind == "text":
        held = edit_text(module, lambda text: _edited(text, edit))
    elif kind == "text-mask":
        held = edit_text_mask(module, lambda mask: _edited(mask, edit))
    elif kind == "skips":
        held = _edit_tuple(module, lambda output: _with_skips(output, edit))
    elif kind == "output":
        held = _edit_tuple(module, lambda output: _with_first(output, edit))
    elif kind == "update":
        held = _edit_update(module, edit, stream)
    elif kind == "input":
        held = _edit_input(module, edit)
    elif kind == "text-stream":
        _require_text_stream(module, stream)
        held = edit_output(module, edit, 1 - stream)
    else:
        held = edit_output(module, edit, stream)
    with held:
        yield


def _require_text_stream(module: nn.Module, stream: int) -> None:
    if stream != 1:
        raise TypeError(
            f"expected a block that returns tokens of text and image, found {type(module).__name__}; choose a block of "
            "a transformer with two streams, or another kind of place"
        )


@contextmanager
def _edit_tuple(module: nn.Module, change: Callable[[object], object]) -> Iterator[None]:
    """Replace every output of a module by ``change(output)``."""
    with module.register_forward_hook(lambda _module, _inputs, output: change(output)):
        yield


@contextmanager
def _edit_update(module: nn.Module, edit: MapEdit, stream: int) -> Iterator[None]:
    """Replace what a module adds to its input: output = input + ``edit(output − input)``.

    Raises:
        TypeError: When the module is called, if it reads no map of the shape of its output.
    """

    def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:  # noqa: ANN401 - torch's hook signature
        stored = stream_of(output, stream)
        own = inputs[0] if inputs else named.get(_HIDDEN)
        if not isinstance(own, Tensor) or own.shape != stored.shape:
            found = f"an input of shape {tuple(own.shape)}" if isinstance(own, Tensor) else "no tensor"
            raise TypeError(
                f"an update is what a module adds to an input of the shape {tuple(stored.shape)} of its output, found "
                f"{found} of {type(module).__name__}; choose a block such as 'mid_block.attentions.0'"
            )
        before = stored - own
        after = _edited(before, edit)
        return output if after is before else _replaced(output, stored, own + after)

    with module.register_forward_hook(hook, with_kwargs=True):
        yield


@contextmanager
def _edit_input(module: nn.Module, edit: MapEdit) -> Iterator[None]:
    """Replace the first thing that a module reads by ``edit(input)``.

    Raises:
        TypeError: When the module is called, if it reads no tensor.
    """

    def hook(read_by: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401 - torch's hook signature
        stored = inputs[0] if inputs else named.get(_HIDDEN)
        if not isinstance(stored, Tensor):
            raise TypeError(
                f"a module whose input is read must read a tensor, found {type(read_by).__name__}, which reads none "
                "first; choose another module"
            )
        after = _edited(stored, edit)
        if after is stored:
            return None
        return ((after, *inputs[1:]), named) if inputs else (inputs, named | {_HIDDEN: after})

    with module.register_forward_pre_hook(hook, with_kwargs=True):
        yield


def _with_first(output: object, edit: MapEdit) -> object:
    """Edit the result of a block, and leave a copy of it among the skip connections."""
    before = stream_of(output)
    after = _edited(before, edit)
    if after is before:
        return output
    return (after, *output[1:]) if isinstance(output, tuple) else after


def _with_skips(output: object, edit: MapEdit) -> object:
    """Edit the skip connections of a down block, and leave its result."""
    skips = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    if not isinstance(skips, tuple) or not skips:
        raise TypeError(
            f"a place with skip connections must return them, found {type(output).__name__} without; choose a down "
            "block of a U-Net such as 'down_blocks.0'"
        )
    before = torch.cat([skip.flatten(1) for skip in skips], 1)[:, :, None, None]
    after = edit(before)
    if after is before:
        return output
    _require_shape(before, after)
    parts = torch.split(after.flatten(1), [skip[0].numel() for skip in skips], 1)
    edited = tuple(_laid_out_as(skip, part.reshape(skip.shape)) for part, skip in zip(parts, skips, strict=True))
    return (output[0], edited, *output[2:]) if isinstance(output, tuple) else output


def _edited(stored: Tensor, edit: MapEdit) -> Tensor:
    """Edit a map, or tokens as a map."""
    before = as_map(stored)
    after = edit(before)
    if after is before:
        return stored
    _require_shape(before, after)
    return _laid_out_as(stored, after if stored is before else _as_tokens(after))


def _laid_out_as(stored: Tensor, after: Tensor) -> Tensor:
    """Return equal values in the memory layout of another tensor, since other layouts give other last bits."""
    return after if after.stride() == stored.stride() else torch.empty_like(stored).copy_(after)


def _require_shape(before: Tensor, after: Tensor) -> None:
    if after.shape != before.shape:
        raise ValueError(
            f"an edit must keep the shape of the map: expected {tuple(before.shape)}, found {tuple(after.shape)}"
        )


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
        after = _edited(stored, edit)
        return output if after is stored else _replaced(output, stored, after)

    with module.register_forward_hook(hook):
        yield


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
        block: Takes text embeddings as ``encoder_hidden_states``, by name or by its place among the arguments, as the
            blocks and attentions of diffusers do.
        edit: Returns text embeddings (2B or B, L, D) in place of its argument, of the same shape.
    """
    names = list(inspect.signature(block.forward).parameters)

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        return _with_argument(names, _TEXT, edit(_text_of(module, names, inputs, named)), inputs, named)

    with block.register_forward_pre_hook(hook, with_kwargs=True):
        yield


@contextmanager
def edit_text_mask(block: nn.Module, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace what hides tokens of the text that a block reads by ``edit(mask)`` while the code inside runs.

    Args:
        block: As for :func:`edit_text`.
        edit: Returns what is added to the scores of the tokens (2B or B, 1, L) in place of its argument, of the same
            shape: 0 for a token that is read, a large negative number for one that is hidden. A block without a mask
            reads zeros.
    """
    names = list(inspect.signature(block.forward).parameters)
    argument = next((name for name in _TEXT_MASKS if name in names), _TEXT_MASKS[0])

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401 - torch's hook signature
        text, own = _text_of(module, names, inputs, named), _argument(names, argument, inputs, named)
        before = own if isinstance(own, Tensor) else text.new_zeros(len(text), 1, text.shape[1])
        after = edit(before)
        return None if after is before else _with_argument(names, argument, after, inputs, named)

    with block.register_forward_pre_hook(hook, with_kwargs=True):
        yield


def _text_of(module: nn.Module, names: Sequence[str], inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    text = _argument(names, _TEXT, inputs, named)
    if isinstance(text, Tensor):
        return text
    raise TypeError(
        f"a block whose text is replaced must read text, found {type(module).__name__}, which reads none; choose a "
        "block with cross-attention such as 'mid_block'"
    )


def _argument(names: Sequence[str], name: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> object:
    """Return an argument of a call, which may be given by its place among the names or by name."""
    return dict(zip(names, inputs, strict=False)).get(name, named.get(name))


def _with_argument(
    names: Sequence[str], name: str, value: Tensor, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs of a call with another value of one argument, given as it was."""
    place = names.index(name) if name in names else len(inputs)
    if place < len(inputs):
        return (*inputs[:place], value, *inputs[place + 1 :]), named
    return inputs, named | {name: value}


def find_hookpoint(network: nn.Module, path: str) -> nn.Module:
    """Return the module at ``path``, for example ``mid_block`` or ``up_blocks.1.attentions.0``.

    Raises:
        ValueError: There is no such module; the message names the nearest ones.
        UnfitModelError: It is inside a compiled block, where hooks are not called.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if path and path in modules:
        refuse_inside(network, path)
        return modules[path]
    nearest = difflib.get_close_matches(path, modules, n=3, cutoff=0.4)
    blocks = [name for name, _ in network.named_children()]
    hint = f"nearest: {', '.join(nearest)}" if nearest else f"top level: {', '.join(blocks)}"
    raise ValueError(f"hookpoint {path!r} is not a module of the {type(network).__name__}; {hint}")
