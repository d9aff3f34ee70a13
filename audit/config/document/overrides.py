"""``--set a.b=value``: settings from the command line that replace those of the config file."""

from __future__ import annotations

from collections.abc import Sequence

from audit.config.document.tree import Node, Place, kind, parse, where
from audit.config.errors import ConfigError, ConfigErrors
from audit.config.problems import Location


def apply_override(root: Node, setting: str) -> tuple[ConfigError, ...]:
    """Put one override into the tree; missing mappings on its path are created.

    Args:
        root: The config's tree; changed in place.
        setting: ``a.b=value``; the value is YAML, and items of a list are ``mitigations.0.strength``.

    Returns:
        Errors in the override itself; its value is validated with the rest of the tree.
    """
    path, equals, text = (part.strip() for part in setting.partition("="))
    source, steps = Place(f"--set {path}"), path.split(".")
    if not equals or not all(steps):
        return (ConfigError(f"--set {setting}", None, None, "", "expected a.b=value, with a path, '=' and a value"),)
    try:
        value, mistakes = parse(text, source.file)
    except ConfigErrors as error:
        value, mistakes = None, error.errors
    if not mistakes:
        obstacle = _put(root, steps, value or Node(None, source, ()), source)
        return (ConfigError(source.file, None, None, "", obstacle),) if obstacle else ()
    return tuple(ConfigError(source.file, None, None, mistake.where, mistake.message) for mistake in mistakes)


def _put(root: Node, steps: Sequence[str], value: Node, source: Place) -> str | None:
    """Set the value at ``steps``; return a message if that is impossible."""
    parent = root
    location: Location = ()
    for step in steps[:-1]:
        if parent.value is None:
            parent.value = {}
        obstacle, key = _key(parent, step)
        if obstacle:
            return obstacle
        location = (*location, key)
        if parent.child(key) is None:
            parent.value[key] = Node({}, source, location, source)
        parent = parent.value[key]
    if parent.value is None:
        parent.value = {}
    obstacle, key = _key(parent, steps[-1])
    if not obstacle:
        parent.value[key] = value.moved(source, (*location, key))
    return obstacle


def _key(parent: Node, step: str) -> tuple[str | None, str | int]:
    """Return a message if ``step`` does not exist and cannot be created, and the key or index that it means."""
    if isinstance(parent.value, dict):
        return None, step
    if isinstance(parent.value, list):
        if step.isdecimal() and int(step) < len(parent.value):
            return None, int(step)
        return f"expected an item of the list of {len(parent.value)} (from 0), found {step!r}", step
    return f"expected keys and values under {where(parent.location)}, found {kind(parent.plain())}", step
