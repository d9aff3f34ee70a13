"""Paths that start from the directory of the config file: ``{here}/model``.

Other relative paths start from the working directory. A config that travels together with the files that it names, as
in an offline bundle, works from any directory.
"""

from __future__ import annotations

from pathlib import Path

from audit.config.document.tree import Node

HERE = "{here}"
"""Text at the beginning of a value that stands for the directory of the config file."""


def expand_here(node: Node, directory: Path) -> None:
    """Replace ``{here}`` at the beginning of every text under a node.

    Args:
        node: Root of the tree; it is changed.
        directory: Of the config file.
    """
    if isinstance(node.value, dict):
        for child in node.value.values():
            expand_here(child, directory)
    elif isinstance(node.value, list):
        for child in node.value:
            expand_here(child, directory)
    elif isinstance(node.value, str) and (node.value == HERE or node.value.startswith(f"{HERE}/")):
        node.value = f"{directory.absolute()}{node.value.removeprefix(HERE)}"
