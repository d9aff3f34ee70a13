"""Attributes and their groups, what a further judge is asked about them, and where a target is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Attribute:
    """A perceived attribute and its groups, as one named classifier sees them.

    Attributes:
        name: For example ``gender``; always *perceived presentation*, never identity.
        groups: Group names in the order of every probability vector of this attribute.
    """

    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class SecondOpinion:
    """A further judge, whose answers decide nothing.

    Attributes:
        judge: Its name in the config.
        attributes: What it is asked about, in the config's order.
    """

    judge: str
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True)
class TargetSource:
    """Where an attribute's target, the distribution that counts as fair, is from.

    Attributes:
        kind: ``uniform`` (equal shares), ``shares`` (named in the config) or ``csv`` (a file with shares per prompt).
        file: The file, as the config names it.
        sha256: Of the file's text.
        origins: What the file itself says of where its numbers are from, each once.
    """

    kind: Literal["uniform", "shares", "csv"]
    file: str | None = None
    sha256: str | None = None
    origins: tuple[str, ...] = ()
