"""A YAML text as a tree whose nodes know their positions, so that an error can be shown at its line and column.

YAML is read by its 1.2 core schema: ``no`` is a word and ``1e-3`` a number. YAML allows repeated keys and tags; a
config does not need them, so they are errors. Aliases are expanded within limits: a few lines cannot fill memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from audit.config.errors import ConfigError, ConfigErrors
from audit.config.problems import Location

MAX_VALUES = 50_000
"""Limit of values after aliases are expanded; nine nested aliases would make a billion."""
MAX_DEPTH = 20
"""Limit of nesting; the config itself needs four levels."""


@dataclass(frozen=True)
class Place:
    """Position of a key or value; ``line`` and ``column`` count from 1; None for a value that is not in a file."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass
class Node:
    """A value: a scalar, a list of nodes, or a dict of nodes by key.

    Attributes:
        value: The value.
        place: Its position.
        location: Its path in the file; it stays the same when neighbours are removed from the tree.
        key_place: Position of its key, for a value of a mapping.
    """

    value: Any
    place: Place
    location: Location
    key_place: Place | None = None

    @property
    def where(self) -> str:
        """The location as text: ``mitigations[0].window``."""
        return where(self.location)

    def plain(self) -> Any:  # noqa: ANN401 - a file can hold any value
        """Return the value as plain data."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, step: str | int) -> Node | None:
        """Return the node under a key or index, None if it does not exist."""
        found: Node | None = None
        if isinstance(self.value, dict):
            found = self.value.get(step)
        elif isinstance(self.value, list) and isinstance(step, int) and 0 <= step < len(self.value):
            found = self.value[step]
        return found

    def trail(self, location: Location) -> tuple[Node, ...]:
        """Return the nodes from here along a location; steps without a node are skipped."""
        nodes = [self]
        for step in location:
            child = nodes[-1].child(step)
            if child is not None:
                nodes.append(child)
        return tuple(nodes)

    def remove(self, node: Node) -> None:
        """Remove a direct child, if it is still there."""
        if isinstance(self.value, dict):
            if self.value.get(node.location[-1]) is node:
                del self.value[node.location[-1]]
        elif isinstance(self.value, list):
            self.value = [child for child in self.value if child is not node]

    def moved(self, place: Place, location: Location) -> Node:
        """Return the same values with another position and location."""
        value = self.value
        if isinstance(value, dict):
            value = {key: child.moved(place, (*location, key)) for key, child in value.items()}
        elif isinstance(value, list):
            value = [child.moved(place, (*location, index)) for index, child in enumerate(value)]
        return replace(self, value=value, place=place, location=location, key_place=place)


def where(location: Location) -> str:
    """Write a location as ``mitigations[0].window``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def kind(value: object) -> str:
    """Describe a plain value in a message: by itself if it is short, otherwise by its type."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if len(repr(value)) <= 80 else repr(value)[:76] + " …"


def parse(text: str, file: str) -> tuple[Node | None, tuple[ConfigError, ...]]:
    """Parse one YAML document.

    Args:
        text: The document.
        file: Its name, for messages.

    Returns:
        The tree, None for an empty document; and errors for what YAML allows but a config does not.

    Raises:
        ConfigErrors: If the text is not YAML, or exceeds the size limits.
    """
    try:
        parsed = yaml.compose(text, Loader=_CoreLoader)
    except yaml.YAMLError as error:
        raise ConfigErrors([_syntax_error(error, text, file)]) from error
    except RecursionError as error:
        message = f"expected at most {MAX_DEPTH} levels, found hundreds; reduce the nesting"
        raise ConfigErrors([ConfigError(file, 1, 1, "", message)]) from error
    if parsed is None:
        return None, ()
    builder = _TreeBuilder(file)
    root = builder.build(parsed, ())
    return root, tuple(builder.errors)


class _CoreLoader(yaml.SafeLoader):
    """Resolves scalars by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    (
        "int",
        r"[-+]?[0-9]{1,18}",
        [*"-+0123456789"],
    ),  # a longer number becomes a float, which is never accepted as an integer
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
):
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _starts)

_READ_SCALAR: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _text: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "str": str,
}


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        return ConfigError(file, mark.line + 1, mark.column + 1, "", f"expected YAML, found a syntax error: {reason}")
    position = getattr(error, "position", 0)  # a ReaderError: a character that YAML does not allow
    line_start = text.rfind("\n", 0, position) + 1
    message = f"expected printable text, found the character U+{ord(text[position]):04X}; remove it"
    return ConfigError(file, text.count("\n", 0, position) + 1, position - line_start + 1, "", message)


@dataclass
class _TreeBuilder:
    """Converts PyYAML's nodes into a tree with expanded aliases; collects errors for what a config may not contain."""

    file: str
    errors: list[ConfigError] = field(default_factory=list)
    values: int = 0

    def build(self, parsed: yaml.Node, location: Location) -> Node:
        """Return the tree under ``parsed``.

        Raises:
            ConfigErrors: If it exceeds the limits of size or depth after aliases are expanded.
        """
        self.values += 1
        if self.values > MAX_VALUES or len(location) > MAX_DEPTH:
            message = (
                f"expected at most {MAX_VALUES} values in {MAX_DEPTH} levels, found more with its aliases expanded"
            )
            raise ConfigErrors([self.error(parsed, location[:4], message + "; write less")])
        if isinstance(parsed, yaml.ScalarNode):
            value = self.scalar(parsed, location)
        elif isinstance(parsed, yaml.SequenceNode):
            value = [self.build(item, (*location, index)) for index, item in enumerate(parsed.value)]
        else:
            value = dict(self.children(parsed, location))
        if parsed.tag not in _READ_SCALAR and parsed.tag not in (_TAG + "map", _TAG + "seq"):
            self.errors.append(self.error(parsed, location, f"expected no tag, found {parsed.tag!r}; remove it"))
        return Node(value, self.place(parsed), location)

    def scalar(self, parsed: yaml.ScalarNode, location: Location) -> Any:  # noqa: ANN401 - a file can hold any value
        """Return the value of a scalar."""
        try:
            return _READ_SCALAR.get(parsed.tag, str)(parsed.value)
        except ValueError:  # only a tag can claim a type that the text does not have: !!int three
            message = f"expected {parsed.tag.removeprefix(_TAG)}, found {kind(parsed.value)}; remove the tag"
            self.errors.append(self.error(parsed, location, message))
            return parsed.value

    def children(self, parsed: yaml.Node, location: Location) -> Iterator[tuple[str, Node]]:
        """Yield a mapping's nodes with their keys; a key that is repeated, or is not a word, is an error."""
        lines: dict[str, int] = {}
        for key, value in parsed.value:
            if not isinstance(key, yaml.ScalarNode):
                message = (
                    "expected a word as key, found a list or mapping; put a text that starts with a bracket in quotes"
                )
                self.errors.append(self.error(key, location, message))
                continue
            here = (*location, str(key.value))
            if key.value in lines:
                message = f"expected each key once, found {key.value!r} again after line {lines[key.value]}; keep one"
                self.errors.append(self.error(key, here, message))
                continue
            lines[key.value] = key.start_mark.line + 1
            yield key.value, replace(self.build(value, here), key_place=self.place(key))

    def error(self, parsed: yaml.Node, location: Location, message: str) -> ConfigError:
        """Return an error at the position of ``parsed``."""
        place = self.place(parsed)
        return ConfigError(place.file, place.line, place.column, where(location), message)

    def place(self, parsed: yaml.Node) -> Place:
        """Return the start of a node of PyYAML."""
        return Place(self.file, parsed.start_mark.line + 1, parsed.start_mark.column + 1)
