"""One call of a denoiser on torch's meta device, which has shapes and no numbers: what does a hookpoint return?"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from audit.models.hooks import edit_output, find_hookpoint


def check_hookpoint(denoiser: nn.Module, path: str, call: Callable[[], object]) -> None:
    """Call the denoiser with a hook at a module, and look at what the hook is given.

    Args:
        denoiser: On the meta device.
        path: Address of the module.
        call: Calls the denoiser once.

    Raises:
        ValueError: There is no such module, the denoiser does not call it, or its output is not a map (B, C, H, W).
    """
    seen: list[tuple[int, ...]] = []

    def look(h: Tensor) -> Tensor:
        seen.append(tuple(h.shape))
        return h

    with edit_output(find_hookpoint(denoiser, path), look):
        try:
            call()
        except TypeError as error:
            raise ValueError(f"hookpoint {path!r}: {error}") from error
    if not seen or any(len(shape) != 4 for shape in seen):
        found = f"outputs of shape {seen[0]}" if seen else "that no call of the U-Net passes through it"
        raise ValueError(f"hookpoint {path!r}: expected a map (B, C, H, W), found {found}; choose a block: 'mid_block'")
