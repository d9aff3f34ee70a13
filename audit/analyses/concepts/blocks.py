"""The blocks whose updates are read: an attention on the way down, one in the middle, and one on the way up.

Emergence and Evolution of Interpretable Concepts in Diffusion Models (arXiv 2504.15473) reads
``down_blocks.2.attentions.1``, ``mid_block.attentions.0`` and ``up_blocks.1.attentions.0`` of Stable Diffusion 1.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from audit.models.files.untrusted_model import UnfitModelError

_ATTENTION = re.compile(r"(?P<way>down|up)_blocks\.(?P<block>\d+)\.attentions\.(?P<layer>\d+)")
_MIDDLE = "mid_block.attentions.0"

Shape = tuple[int, int, int]


def default_blocks(modules: Iterable[str]) -> tuple[str, ...]:
    """Return the last attention of the way down, the one in the middle, and the first one of the way up.

    Args:
        modules: Addresses of the denoiser's modules.

    Raises:
        UnfitModelError: The denoiser has none of them.
    """
    known = tuple(modules)
    found: dict[str, list[tuple[int, int, str]]] = {"down": [], "up": []}
    for address in known:
        match = _ATTENTION.fullmatch(address)
        if match:
            found[match["way"]].append((int(match["block"]), int(match["layer"]), address))
    down, up = sorted(found["down"])[-1:], sorted(found["up"])[:1]
    blocks = (*(one[2] for one in down), *([_MIDDLE] if _MIDDLE in known else []), *(one[2] for one in up))
    if not blocks:
        raise UnfitModelError(
            "expected a U-Net with attentions in its blocks, found none; name blocks in concepts.blocks, see "
            "difflens-audit hookpoints"
        )
    return blocks


def check_blocks(blocks: Iterable[str], shapes: Mapping[str, Shape]) -> None:
    """Refuse blocks that return no map with height and width.

    Args:
        blocks: Addresses.
        shapes: Address → (C, H, W) of each module that returns a map; tokens have a width of 1.

    Raises:
        UnfitModelError: A block is unknown, or returns tokens.
    """
    for block in blocks:
        if block not in shapes:
            raise UnfitModelError(
                f"concepts.blocks: expected a module that returns a map, found {block!r}; see difflens-audit hookpoints"
            )
        if shapes[block][2] == 1:
            raise UnfitModelError(
                f"concepts.blocks: expected maps with height and width, found tokens of {block!r}; concepts need a "
                "U-Net"
            )
