"""Hookpoints: addresses of the layers whose output is read or edited."""

from __future__ import annotations

import difflib

from torch import nn


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
