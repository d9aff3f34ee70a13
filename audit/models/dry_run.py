"""One call of a denoiser on torch's meta device, which has shapes and no numbers: which modules return maps?

Tokens (B, T, C) count as maps (B, C, T, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from audit.config.problems import listing
from audit.models.hooks import as_map, edit_place, find_hookpoint, stream_of
from audit.records.located.places import Place

_MAP_AXES = 4


def check_hookpoint(denoiser: nn.Module, path: str, call: Callable[[], object], stream: Callable[[str], int]) -> None:
    """Call the denoiser with a hook at a place, and look at what the hook is given.

    Args:
        denoiser: On the meta device.
        path: The place, in its written form.
        call: Calls the denoiser once.
        stream: Address → place of the image in a tuple that the module returns.

    Raises:
        ValueError: There is no such place, the denoiser does not call its module, or there is no map (B, C, H, W).
    """
    place = Place.parse(path)
    seen: list[tuple[int, ...]] = []

    def look(h: Tensor) -> Tensor:
        seen.append(tuple(h.shape))
        return h

    module = find_hookpoint(denoiser, place.module)
    try:
        with edit_place(module, place.kind, look, stream(place.module)):
            call()
    except TypeError as error:
        raise ValueError(f"hookpoint {path!r}: {error}") from error
    if not seen or any(len(shape) != _MAP_AXES for shape in seen):
        found = f"outputs of shape {seen[0]}" if seen else "that no call of the denoiser passes through it"
        raise ValueError(f"hookpoint {path!r}: expected a map (B, C, H, W), found {found}; choose a block: 'mid_block'")


def check_cross_attention(denoiser: nn.Module, path: str) -> None:
    """Look for cross-attention in a module.

    Raises:
        ValueError: It has none.
    """
    own = find_hookpoint(denoiser, Place.parse(path).module)
    if not any(_reads_text(module) for module in own.modules()):
        blocks = dict.fromkeys(_block_of(name) for name, one in denoiser.named_modules() if _reads_text(one))
        raise ValueError(f"expected a module with cross-attention ({listing(blocks) or 'none'}), found {path!r}")


def _block_of(attention: str) -> str:
    """Return the address of the part of a U-Net, or of the block of a transformer, that an attention is in."""
    part, inside, _ = attention.partition(".transformer_blocks.")
    return part if inside else attention.rpartition(".")[0]


def _reads_text(module: nn.Module) -> bool:
    return bool(getattr(module, "is_cross_attention", False))


def maps_of(
    denoiser: nn.Module, call: Callable[[], object], stream: Callable[[str], int]
) -> dict[str, tuple[int, int, int]]:
    """Call the denoiser once and return the shape ``(C, H, W)`` of every module that returns a map for each row.

    Args:
        denoiser: On the meta device.
        call: Calls the denoiser once.
        stream: Address → place of the image in a tuple that the module returns.

    Returns:
        Address of the module → shape of its map, in the order of the calls.
    """
    found: dict[str, tuple[int, int, int]] = {}

    def look(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's hook signature
            try:
                h = as_map(stream_of(output, stream(path)))
            except TypeError:
                return
            if h.ndim == _MAP_AXES:
                _rows, channels, height, width = h.shape
                found.setdefault(path, (channels, height, width))

        return hook

    with ExitStack() as held:
        for path, module in denoiser.named_modules():
            if path:
                held.callback(module.register_forward_hook(look(path)).remove)
        call()
    return found
