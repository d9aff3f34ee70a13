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
    """Return an error of an audit with the path that the value has in the benchmark's file."""
    paths = written.get(Place(error.file, error.line, error.column), ())
    if not paths or error.line is None:
        return error
    key = error.where.rpartition(".")[2]
    return replace(error, where=next((path for path in paths if path.rpartition(".")[2] == key), paths[0]))
