"""Builds trees of new documents from parts of a file, whose nodes keep their positions, and names errors by the file.

A file that describes several audits becomes one tree for each of them. An error in one of these trees is shown where
the file has the value, and with the path that the value has there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from audit.config.document.tree import Node, Place, where
from audit.config.errors import ConfigError
from audit.config.problems import Location


def scalar(near: Node, value: str) -> Node:
    """Return a text with the position of another node."""
    return Node(value, near.place, (), near.key_place)


def mapping(near: Node, keys: dict[str, Node]) -> Node:
    """Return keys and values with the position of another node."""
    return Node(keys, near.place, (), near.key_place)


def relocated(node: Node, location: Location) -> Node:
    """Copy a tree with other locations; the places in the file stay."""
    value = node.value
    if isinstance(value, dict):
        value = {key: relocated(child, (*location, key)) for key, child in value.items()}
    elif isinstance(value, list):
        value = [relocated(child, (*location, index)) for index, child in enumerate(value)]
    return replace(node, value=value, location=location)


def positions(root: Node) -> dict[Place, list[str]]:
    """Return the paths of all keys and values of the file by their place, the outermost first."""
    found, nodes = dict[Place, list[str]](), [root]
    for node in nodes:
        for place in {node.key_place or node.place, node.place}:
            found.setdefault(place, []).append(where(node.location))
        children = node.value.values() if isinstance(node.value, dict) else node.value
        nodes.extend(children if isinstance(node.value, dict | list) else ())
    return found


def placed(error: ConfigError, written: Mapping[Place, Sequence[str]]) -> ConfigError:
    """Return an error of an audit with the path that the value has in the file.

    An error about a missing key is placed at the innermost section that exists. Its path keeps the missing key.

    Args:
        error: An error of the tree of one audit.
        written: Paths of the file by place, from :func:`positions`.
    """
    paths = written.get(Place(error.file, error.line, error.column), ())
    if not paths or error.line is None:
        return error
    has_keys = any(path.startswith(f"{paths[0]}.") for own in written.values() for path in own)
    return replace(error, where=_path_in_file(error.where, paths, has_keys=has_keys))


def _path_in_file(own: str, paths: Sequence[str], *, has_keys: bool) -> str:
    """Return the path in the file for a path in an audit, from the paths that the file has at its place.

    Args:
        own: Path in the audit.
        paths: Paths in the file, the outermost first.
        has_keys: Whether the file has keys under the first of them.
    """
    section, missing = own, ""
    while section:
        section, _, key = section.rpartition(".")
        for path in paths:
            if path.rpartition(".")[2] == key:
                return f"{path}{missing}"
        missing = f".{key}{missing}"
    if not paths[0]:  # the file has no part of the path, so its name in the audit is its name in the file
        return own
    # The section has another name in the file, as an entry of models is the section model of its audit. A plain value
    # can become a section of an audit too; it has no keys in the file.
    return f"{paths[0]}.{own.rpartition('.')[2]}" if "." in own and has_keys else paths[0]
