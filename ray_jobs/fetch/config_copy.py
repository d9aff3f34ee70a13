"""The config of a bundle: the user's settings, with paths that start from the bundle's own directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from audit.config.document.here import HERE
from audit.config.problems import Location

_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SAMPLING = ("steps", "guidance")


class _Quoting(yaml.SafeDumper):
    """Quotes every text but plain words: ``1e5`` is a text in YAML 1.1 and a number in the YAML of configs."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN_WORD.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Quoting.add_representer(str, _text)


def config_text(settings: dict[str, Any], paths: Mapping[Location, PurePosixPath], origin: str) -> str:
    """Return the YAML text of a bundle's config.

    Args:
        settings: The config's own settings as plain data; it is changed.
        paths: Key → path in the bundle.
        origin: Name of the config that the bundle is made from.
    """
    for location, path in paths.items():
        _set(settings, location, f"{HERE}/{path}")
    if ("model", "source") in paths:
        # A commit is a directory now; steps and guidance of a known model have been resolved into the settings.
        settings["model"].pop("revision", None)
    head = (
        f"# Made by difflens-audit fetch from {origin}. {HERE} stands for the directory of this file, so the bundle\n"
        "# can be copied anywhere. manifest.json has the sha256 of every file, and each check compares them.\n"
    )
    return head + yaml.dump(settings, Dumper=_Quoting, sort_keys=False, allow_unicode=True, width=120)


def _set(settings: Any, location: Location, text: str) -> None:  # noqa: ANN401 - keys and values, or a list
    """Set a value, in sections that may not be in the config yet: a file of a package has a key only in a bundle."""
    *above, last = location
    for step in above:
        if isinstance(settings, dict) and settings.get(step) is None:
            settings[step] = {}
        settings = settings[step]
    settings[last] = text
